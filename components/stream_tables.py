"""What a run takes of the tables that are fed by streams: their state on `main`, as it was seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.errors import ConflictError, NotFoundError
from components.records import FileStamp
from components.tables import COMMIT, MAIN, stream_manifest, streams

if TYPE_CHECKING:
    from components.ports import DataStore


def observe_stream(store: DataStore, project: str, table: str) -> tuple[FileStamp, ...]:
    """What `main` holds of a table: the file that names all its files and their digests.

    Raises:
        NotFoundError: nothing has come yet.
    """
    path = stream_manifest(project, table)
    for entry in store.ls(MAIN, streams(project)):
        if entry.path == path:
            url = f"{COMMIT}{MAIN}/{path}"
            return (FileStamp(url=url, size=entry.size, stamp=entry.sha256, sha256=entry.sha256),)
    raise NotFoundError(
        f"table {table!r}: nothing has come through its stream yet",
        accepted="a stream that has committed its first batch",
        next_step=f"trilha stream start {project}; trilha stream status {project}",
    )


def observed_commit(store: DataStore, project: str, seen: Mapping[str, tuple[FileStamp, ...]]) -> str:
    """The newest commit of `main` that holds the tables as they were seen; its newest one, where there are none.

    Raises:
        ConflictError: `main` never held them so together.
    """
    if not seen:
        return MAIN
    wanted = {stream_manifest(project, table): stamps[0].sha256 for table, stamps in seen.items()}
    for revision in store.log(MAIN):
        there = {entry.path: entry.sha256 for entry in store.ls(revision.id, streams(project))}
        if wanted.items() <= there.items():
            return revision.id
        if not there:
            break
    raise ConflictError(
        f"{MAIN} holds {', '.join(sorted(seen))} of {project} otherwise than it was seen",
        accepted="streams that go on from what they have committed",
        next_step=f"run project {project} again",
    )
