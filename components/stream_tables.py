"""What a run takes of the tables that are fed by streams, or by partitions: their state on `main`, as it was seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from components.data_ports import Arrived
from components.errors import ConflictError, NotFoundError
from components.partition_settings import per_partition
from components.records import FileStamp
from components.source_settings import AnyTable
from components.stream_settings import StreamTable
from components.tables import COMMIT, MAIN, partitions, stream_manifest, streams

if TYPE_CHECKING:
    from pathlib import Path

    from components.data_ports import Held
    from components.ports import DataStore


class _OfMain:
    """What both kinds have: nothing is on this machine to be taken along.

    Args:
        store: the data store.
        project: the folder in it.
        table: its name.
    """

    def __init__(self, store: DataStore, project: str, table: str) -> None:
        self._store = store
        self._project = project
        self._table = table

    def here(self) -> tuple[str, ...]:
        return ()


class FedSource(_OfMain):
    """A `components.data_ports.Source`: what `main` holds of a table, which a stream brought there."""

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


class PartitionedSource(_OfMain):
    """A `components.data_ports.Source`: the partitions of a table that `main` holds; `trilha backfill` brought them."""

    def look(self) -> tuple[FileStamp, ...]:
        """The file of each partition, which names its files with their digests."""
        found = self._store.ls(MAIN, f"{partitions(self._project)}/{self._table}")
        if not found:
            raise NotFoundError(
                f"table {self._table!r}: {MAIN} holds no partition of it yet",
                accepted="a table with at least one",
                next_step=f"trilha backfill {self._project} --from ... --to ...",
            )
        return tuple(
            FileStamp(url=f"{COMMIT}{MAIN}/{one.path}", size=one.size, stamp=one.sha256, sha256=one.sha256)
            for one in found
        )

    def read(self, stamps: tuple[FileStamp, ...], held: Held | None, folder: Path) -> Arrived:  # noqa: ARG002  # it is there
        assert held is not None, "what was observed is what is held"
        keys = {PurePosixPath(stamp.url).stem for stamp in stamps}
        kept = tuple(name for name in held.entries if PurePosixPath(name).parts[0] in keys)
        return Arrived(rows=held.rows, columns=held.columns, files={}, stamps=stamps, kept=kept)


def grows(source: AnyTable) -> bool:
    """Whether a run takes the table as `main` holds it: a stream feeds it, or it comes by partitions."""
    return isinstance(source, StreamTable) or per_partition(source)


def observed_commit(store: DataStore, project: str, seen: Mapping[str, tuple[FileStamp, ...]]) -> str:
    """The newest commit of `main` that holds the tables as they were seen; its newest one, where there are none.

    Raises:
        ConflictError: `main` never held them so together.
    """
    if not seen:
        return store.resolve(MAIN).id
    start = f"{COMMIT}{MAIN}/"
    wanted = {stamp.url.removeprefix(start): stamp.sha256 for stamps in seen.values() for stamp in stamps}
    folders = tuple(f"{partitions(project)}/{table}/" for table in seen)
    for revision in store.log(MAIN):
        entries = [*store.ls(revision.id, streams(project)), *store.ls(revision.id, partitions(project))]
        there = {entry.path: entry.sha256 for entry in entries}
        if wanted == {path: sha for path, sha in there.items() if path in wanted or path.startswith(folders)}:
            return revision.id
        if not there:
            break
    raise ConflictError(
        f"{MAIN} holds {', '.join(sorted(seen))} of {project} otherwise than it was seen",
        accepted="streams and backfills that go on from what they have committed",
        next_step=f"run project {project} again",
    )
