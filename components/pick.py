"""pick: which release answers, and for which data. It looks and changes nothing; it runs every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.errors import NotFoundError
from components.records import Commit, digest
from components.releases import newest, release_number
from components.scores import Picked, night_of
from components.tables import MAIN, contents, data_digest
from components.workspace import open_workspace

if TYPE_CHECKING:
    from components.ports import DataStore


def pick(
    project: str, profile: str, release: int | None, commit: str | None, query: str, keep: tuple[str, ...]
) -> Picked:
    """The release and the commit of the data that a night is made of.

    Args:
        project: whose.
        profile: names the data store.
        release: its number; None: the one that serves.
        commit: a branch, tag or commit; None: what `main` holds.
        query: what yields the rows.
        keep: columns of it that stand beside the answers.

    Raises:
        NotFoundError: there is no such release or commit, or no data of the project in it.
    """
    store = open_workspace(profile).store
    found = newest(store, project) if release is None else release_number(store, project, release)
    data = _data(store, project, commit or MAIN)
    parts = digest({"release": found.digest, "data": data.tree, "query": query, "keep": keep})
    return Picked(release=found, commit=data, night=night_of(parts))


def _data(store: DataStore, project: str, ref: str) -> Commit:
    revision = store.resolve(ref)
    entries = store.ls(revision.id, project)
    if not any(entry.path.endswith(".parquet") for entry in entries):
        raise NotFoundError(
            f"commit {revision.id[:12]} ({ref}) holds no tables of {project}",
            accepted=f"a branch, tag or commit with {project}/TABLE/*.parquet",
            next_step=f"trilha run {project}, or --commit REF",
        )
    there = contents(store, revision.id, project)
    return Commit(id=revision.id, branch=ref, tree=data_digest(project, entries), tables=there.rows if there else {})
