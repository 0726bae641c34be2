"""The manifests of a project's releases: one JSON object each, on a branch of the data store that nothing else uses.

The newest manifest is what serves, unless it is the candidate of a roll-out that was not promoted. Writing it is the
single commit point of a lifecycle: the registry's alias, the serving target and the tag are derived from it
(`components.reconcile`), so readers see the old release or the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from components import config, rollouts
from components.errors import ConflictError, NotFoundError
from components.ports import DataStore
from components.records import Record, Release, digest
from components.rollout_settings import RolloutRules
from components.rollouts import ATTEMPTS

BRANCH = rollouts.BRANCH


def releases(store: DataStore, project: str) -> Iterator[Release]:
    """The releases of `project`, candidates too, newest first; a manifest is read when it is asked for."""
    if BRANCH not in store.branches(BRANCH):
        return
    head = store.resolve(BRANCH).id
    for entry in reversed(store.ls(head, project)):
        if entry.path.count("/") == 1:  # else a roll-out's
            yield Release.model_validate_json(store.local(head, entry.path).read_bytes())


def served(store: DataStore, project: str) -> Iterator[Release]:
    """The release that serves, and those that served before: all but the candidates that were not promoted."""
    for release in releases(store, project):
        if release.rollout is None or _promoted(store, release):
            yield release


def newest(store: DataStore, project: str) -> Release:
    """The release that serves.

    Raises:
        NotFoundError: the project has none, or is none.
    """
    for release in served(store, project):
        return release
    config.project_folder(project)
    raise NotFoundError(f"project {project!r} has no release", next_step=f"trilha run {project}")


def _promoted(store: DataStore, release: Release) -> bool:
    number = release.rollout or 0
    return rollouts.rollout_number(store, release.project, number).state == "promoted"


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


def write(
    store: DataStore,
    project: str,
    key: str,
    make: Callable[[int], Release],
    rules: RolloutRules | None = None,
    *,
    who: str = "trilha",
    why: str = "a new release",
    anew: bool = False,
) -> Release:
    """Write the manifest that `make(number)` yields under the next free number.

    A manifest that carries `key` is returned as it is, and so is the newest one, or the one that serves, where its
    digest is the same: the same evidence is the same release, whichever step found it.

    Args:
        store: holds them.
        project: whose.
        key: one key, one manifest.
        make: the manifest under a number.
        rules: with them it is the candidate of a roll-out, if there is a release that serves.
        who: asks for it.
        why: for the roll-out's record.
        anew: also where the same evidence is there already.

    Raises:
        ConflictError: others kept writing releases at the same time.
    """
    if BRANCH not in store.branches(BRANCH):
        store.branch(BRANCH, _root(store))
    for attempt in range(ATTEMPTS):
        head = store.resolve(BRANCH).id
        known = list(releases(store, project))
        serving = next(served(store, project), None)
        manifest = make(known[0].number + 1 if known else 1)
        there = [release for release in known if release.key == key]
        if not anew and serving is not None:
            there += [release for release in (serving, known[0]) if release.digest == manifest.digest]
        if there:
            return there[0]
        others: list[rollouts.Rollout] = []
        before = next(rollouts.rollouts(store, project), None)
        if before is not None and before.state == "running":  # nobody is left to be compared with
            others.append(rollouts.ended(before, "aborted", who, f"release {manifest.number} takes its place"))
        if rules is not None and serving is not None:
            number = before.number + 1 if before else 1
            others.append(rollouts.begun(project, number, serving.number, manifest.number, rules, who, why))
            manifest = manifest.model_copy(update={"rollout": number})
        try:
            _commit(store, manifest, others, expected=head)
        except ConflictError:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return manifest
    raise AssertionError  # the last round returns or raises


def _commit(store: DataStore, manifest: Release, others: list[rollouts.Rollout], *, expected: str) -> None:
    records: dict[str, Record] = {path_of(manifest.project, manifest.number): manifest}
    records |= {rollouts.path_of(rollout): rollout for rollout in others}
    with rollouts.files_of(records) as puts:
        store.commit(
            BRANCH,
            puts,
            message=f"Release {manifest.project} {manifest.number}",
            metadata={"project": manifest.project, "release": str(manifest.number), "digest": manifest.digest},
            key=f"{manifest.key}-{manifest.number}",  # a manifest that was dropped may be made again, as another one
            expected=expected,
        )


def projects(store: DataStore) -> list[str]:
    """The projects that have releases."""
    if BRANCH not in store.branches(BRANCH):
        return []
    return sorted({entry.path.partition("/")[0] for entry in store.ls(BRANCH) if "/" in entry.path})


def drop(store: DataStore, dropped: Sequence[Release], expected: str) -> None:
    """Take manifests off the branch, all at once; their numbers are not given again, for newer ones stay.

    Raises:
        ConflictError: the branch is not at `expected` any more.
    """
    names = ", ".join(f"{release.project} {release.number}" for release in dropped)
    store.commit(
        BRANCH,
        {},
        deletes=[path_of(release.project, release.number) for release in dropped],
        message=f"Drop {names}",
        metadata={"dropped": names},
        key=digest({"drop": names, "from": expected}),
        expected=expected,
    )


def path_of(project: str, number: int) -> str:
    """Where a manifest is on the branch."""
    return f"{project}/{number:06}.json"


def _root(store: DataStore) -> str:
    """The first commit of `main`, which holds no data."""
    return list(store.log("main"))[-1].id
