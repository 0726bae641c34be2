"""Which releases of a project the server holds, beside the one that serves: `serve.triton.version_policy`.

In Trilha a version is a release, and each has models of its own. The policy is that of the release that serves.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from components.errors import GateError
from components.releases import releases, served

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
