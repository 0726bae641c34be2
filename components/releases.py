"""The manifests of a project's releases: one JSON object each, on a branch of the data store that nothing else uses.

The newest manifest is what serves. Writing it is the single commit point of a lifecycle: the registry's alias, the
serving target and the tag are derived from it (`components.reconcile`), so readers see the old release or the new one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from components import config
from components.errors import ConflictError, NotFoundError
from components.ports import DataStore
from components.records import Release

BRANCH = "releases"
ATTEMPTS = 5


def releases(store: DataStore, project: str) -> Iterator[Release]:
    """The releases of `project`, newest first; a manifest is read when it is asked for."""
    if BRANCH not in store.branches(BRANCH):
        return
    head = store.resolve(BRANCH).id
    for entry in reversed(store.ls(head, project)):
        yield Release.model_validate_json(store.local(head, entry.path).read_bytes())


def newest(store: DataStore, project: str) -> Release:
    """The release that serves.

    Raises:
        NotFoundError: the project has none, or is none.
    """
    for release in releases(store, project):
        return release
    config.project_folder(project)
    raise NotFoundError(f"project {project!r} has no release", next_step=f"trilha run {project}")


def release_number(store: DataStore, project: str, number: int) -> Release:
    """The release with that number.

    Raises:
        NotFoundError: there is none, or no such project.
    """
    known = list(releases(store, project))
    for release in known:
        if release.number == number:
            return release
    config.project_folder(project)
    accepted = ", ".join(str(release.number) for release in known) or "none yet"
    next_step = f"trilha releases {project}" if known else f"trilha run {project}"
    raise NotFoundError(f"project {project!r} has no release {number}", accepted=accepted, next_step=next_step)


def write(store: DataStore, project: str, key: str, make: Callable[[int], Release]) -> Release:
    """Write the manifest that `make(number)` yields under the next free number.

    A manifest that carries `key` is returned as it is, and so is the one that serves where its digest is the same: the
    same evidence is the same release, whichever step found it.

    Raises:
        ConflictError: others kept writing releases at the same time.
    """
    if BRANCH not in store.branches(BRANCH):
        store.branch(BRANCH, _root(store))
    for attempt in range(ATTEMPTS):
        head = store.resolve(BRANCH).id
        known = list(releases(store, project))
        manifest = make(known[0].number + 1 if known else 1)
        there = [release for release in known if release.key == key]
        there += [release for release in known[:1] if release.digest == manifest.digest]
        if there:
            return there[0]
        try:
            _commit(store, manifest, expected=head)
        except ConflictError:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return manifest
    raise AssertionError  # the last round returns or raises


def _commit(store: DataStore, manifest: Release, *, expected: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.json"
        path.write_text(manifest.model_dump_json(indent=1))
        store.commit(
            BRANCH,
            {f"{manifest.project}/{manifest.number:06}.json": path},
            message=f"Release {manifest.project} {manifest.number}",
            metadata={"project": manifest.project, "release": str(manifest.number), "digest": manifest.digest},
            key=manifest.key,
            expected=expected,
        )


def _root(store: DataStore) -> str:
    """The first commit of `main`, which holds no data."""
    return list(store.log("main"))[-1].id
