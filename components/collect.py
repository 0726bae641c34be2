"""collect: every part of a night in one commit of the data store, so that readers see one night or the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.errors import ConflictError, GateError
from components.ledger import effect_key
from components.ports import Entry
from components.records import Artifact, digest
from components.scores import BRANCH, Part, Picked, Predictions, Ranked, Scored, best_of, path_of, prefix_of
from components.tables import data_digest
from components.workspace import open_workspace

if TYPE_CHECKING:
    from components.ports import DataStore, Revision
    from components.workspace import Workspace

ATTEMPTS = 5
"""Tries, where others commit predictions in the same moment."""


def collect(
    project: str, profile: str, picked: Picked, scored: list[Scored], ranked: Ranked | None = None
) -> Predictions:
    """Commit the parts of all shards to the branch `scores`, in place of the project's night before.

    Where the branch holds this very night, its commit is the result and nothing is written.

    Args:
        project: the folder on the branch.
        profile: names the stores.
        picked: the release and the data, which the commit names.
        scored: what each shard answered.
        ranked: the best of each, where the project ranks.

    Raises:
        GateError: a part is missing, or there twice.
        ConflictError: others kept committing at the same time.
    """
    workspace = open_workspace(profile)
    parts = _all(scored)
    files = {path_of(project, part.index): part.file for part in parts}
    files |= {best_of(project): ranked.file} if ranked else {}
    made = _committed(workspace, project, picked, scored[0].rows, files)
    return Predictions(
        id=made.id,
        branch=BRANCH,
        tree=data_digest(project, _entries(files)),
        tables={"scores": scored[0].rows},
        project=project,
        night=picked.night,
        rows=scored[0].rows,
    )


def _all(scored: list[Scored]) -> list[Part]:
    """The parts in their order.

    Raises:
        GateError: they are not all the rows, each once.
    """
    parts = sorted((part for one in scored for part in one.parts), key=lambda part: part.index)
    rows, first = {one.rows for one in scored}, 0
    for index, part in enumerate(parts):
        if (part.index, part.first) != (index, first):
            raise GateError(f"part {index} of the predictions is missing or there twice", next_step="run it again")
        first += part.rows
    if rows != {first}:
        raise GateError(f"the parts have {first:,} rows, the query {', '.join(map(str, sorted(rows)))}")
    return parts


def _entries(files: Mapping[str, Artifact]) -> list[Entry]:
    return [Entry(path, file.sha256, file.size) for path, file in sorted(files.items())]


def _committed(
    workspace: Workspace, project: str, picked: Picked, rows: int, files: Mapping[str, Artifact]
) -> Revision:
    store = workspace.store
    if BRANCH not in store.branches(BRANCH):
        store.branch(BRANCH, list(store.log("main"))[-1].id)  # which holds no data
    for attempt in range(ATTEMPTS):
        head = store.resolve(BRANCH)
        there = store.ls(head.id, project)
        if there == _entries(files):
            return _newest(store, project, head)
        try:
            return store.commit(
                BRANCH,
                {path: workspace.artifacts.local(file) for path, file in files.items()},
                deletes=sorted({entry.path for entry in there} - files.keys()),
                message=f"Score {project}: {rows:,} rows with release {picked.release.number}",
                metadata=_metadata(picked, rows),
                key=digest([effect_key(), head.id]),  # the same night may have to be there again, after another one
                expected=head.id,
            )
        except ConflictError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError  # the last round returns or raises


def _newest(store: DataStore, project: str, head: Revision) -> Revision:
    """The commit that brought what the branch holds for the project."""
    return next((one for one in store.log(head.id) if one.metadata.get("project") == project), head)


def _metadata(picked: Picked, rows: int) -> dict[str, str]:
    """What leads back from the commit, without anything but the data store."""
    release, data = picked.release, picked.commit
    return {
        "project": release.project,
        "release": str(release.number),
        "digest": release.digest,
        "bundle": release.bundle.digest,
        "data": data.id,
        "tree": data.tree,
        "night": picked.night,
        "receipts": f"{prefix_of(picked)}.ROW",
        "rows": str(rows),
    }
