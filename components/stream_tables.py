"""What a run takes of the tables that are fed by streams: their state on `main`, as it was seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.errors import ConflictError, NotFoundError
from components.ports import Arrived
from components.records import FileStamp
from components.tables import COMMIT, MAIN, stream_manifest, streams

if TYPE_CHECKING:
    from pathlib import Path

    from components.ports import DataStore, Held


class FedSource:
    """A `components.ports.Source`: what `main` holds of a table, which a stream brought there.

    Args:
        store: the data store.
        project: the folder in it.
        table: its name.
    """

    def __init__(self, store: DataStore, project: str, table: str) -> None:
        self._store = store
        self._project = project
        self._table = table

    def look(self) -> tuple[FileStamp, ...]:
        """The file that names all the table's files, with their digests."""
        path = stream_manifest(self._project, self._table)
        for entry in self._store.ls(MAIN, streams(self._project)):
            if entry.path == path:
                url = f"{COMMIT}{MAIN}/{path}"
                return (FileStamp(url=url, size=entry.size, stamp=entry.sha256, sha256=entry.sha256),)
        raise NotFoundError(
            f"table {self._table!r}: nothing has come through its stream yet",
            accepted="a stream that has committed its first batch",
            next_step=f"trilha stream start {self._project}; trilha stream status {self._project}",
        )

    def read(self, stamps: tuple[FileStamp, ...], held: Held | None, folder: Path) -> Arrived:  # noqa: ARG002  # it is there
        assert held is not None, "what was observed is what is held"
        return Arrived(rows=held.rows, columns=held.columns, files={}, stamps=stamps, kept=tuple(held.entries))

    def here(self) -> tuple[str, ...]:
        return ()


def observed_commit(store: DataStore, project: str, seen: Mapping[str, tuple[FileStamp, ...]]) -> str:
    """The newest commit of `main` that holds the tables as they were seen; its newest one, where there are none.

    Raises:
        ConflictError: `main` never held them so together.
    """
    if not seen:
        return store.resolve(MAIN).id
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
