"""Which releases of a project the server holds, beside the one that serves: by policy, of a roll-out, of a selection.

In Trilha a version is a release, and each has models of its own. `serve.triton.version_policy` is that of the release
that serves.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from components import config
from components.errors import GateError, TrilhaError
from components.releases import releases, served
from components.rollouts import under_way

if TYPE_CHECKING:
    from collections.abc import Iterator

    from components.ports import DataStore
    from components.records import Bundle, Release


def kept(store: DataStore, release: Release) -> list[Release]:
    """The releases that stay loaded beside `release` by its policy, one a bundle, newest first."""
    policy = release.bundle.triton.version_policy
    if policy is None:
        return []
    found = _one_a_bundle(store, release.project)
    if policy.latest:
        found = islice(found, policy.latest.num_versions)
    elif policy.specific:
        numbers = policy.specific.versions
        found = (one for one in releases(store, release.project) if one.number in numbers)
    return [one for one in found if one.bundle.model != release.bundle.model]


def answering(store: DataStore, release: Release) -> list[Release]:
    """The releases that answer beside `release`, which serves: `kept`, and those of a roll-out or a selection."""
    others = {one.number: one for one in kept(store, release)}
    beside = set(_beside(store, release.project)) - others.keys() - {release.number}
    others |= {one.number: one for one in releases(store, release.project) if one.number in beside}
    return list(others.values())


def _beside(store: DataStore, project: str) -> Iterator[int]:
    rollout = under_way(store, project)
    if rollout is not None:
        yield from (rollout.running, rollout.candidate)
        return
    with suppress(TrilhaError):  # settings that nobody can read keep nothing
        selection = config.load_project(project).file.selection
        yield from selection.arms if selection else ()


def _one_a_bundle(store: DataStore, project: str) -> Iterator[Release]:
    seen: set[str] = set()
    for release in served(store, project):
        if release.bundle.model not in seen:
            seen.add(release.bundle.model)
            yield release


def check_versions(store: DataStore, project: str, bundle: Bundle) -> None:
    """Refuse a policy that names releases which nobody made.

    Raises:
        GateError: names them, and those that there are.
    """
    policy = bundle.triton.version_policy
    if policy is None or policy.specific is None:
        return
    known = sorted(release.number for release in releases(store, project))
    missing = sorted(set(policy.specific.versions) - set(known))
    if missing:
        raise GateError(
            f"serve.triton.version_policy.specific: {project} has no release {', '.join(map(str, missing))}",
            accepted=", ".join(map(str, known)) or "none yet",
            next_step="correct the numbers in project.yaml",
        )
