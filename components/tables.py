"""A project's tables in the data store: `PROJECT/TABLE/*.parquet`, and `PROJECT.json`, which says what they are.

Every change of the data changes `PROJECT.json`, so that two changes made side by side always meet in that file: a merge
is then refused, where by paths alone it could mix the partitions of two ingests. A table that is fed by a stream has a
file of its own, `PROJECT.streams/TABLE.json`: what it gets while others are ingested stands beside them. So has each
partition of a table that comes by partitions, `PROJECT.partitions/TABLE/KEY.json` for `PROJECT/TABLE/KEY/*.parquet`:
those that are committed side by side never meet.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from components.adapters.store_rules import MAIN, tree_digest
from components.errors import NotFoundError
from components.ports import DataStore, Entry
from components.records import FileStamp, Record

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "COMMIT",
    "MAIN",
    "Contents",
    "PartitionContents",
    "TableContents",
    "contents",
    "counted",
    "data_digest",
    "fed",
    "ingested",
    "local_files",
    "manifest",
    "newest_partitions",
    "outlived",
    "partition_contents",
    "partition_manifest",
    "partitions",
    "sources_of",
    "stream_manifest",
    "streams",
]


COMMIT = "commit:"
"""How the URL of a source begins that is a file of another commit."""


class TableContents(Record):
    """One table: its rows, column -> DuckDB type, and file name -> SHA-256."""

    rows: int
    columns: dict[str, str]
    declared: tuple[str, ...]
    """Columns whose type project.yaml states."""
    files: dict[str, str]
    origin: str = ""
    """Digest of the settings of a source that is read further, not anew."""
    position: str = ""
    """How far it was read."""


class PartitionContents(TableContents):
    """One partition of a table. `origin` is the digest of the table's settings."""

    stamps: tuple[FileStamp, ...]
    """What it was read from."""


class Contents(Record):
    """What a project's folder in one commit holds."""

    tables: dict[str, TableContents]

    @property
    def rows(self) -> dict[str, int]:
        """Rows by table."""
        return {name: table.rows for name, table in self.tables.items()}

    def text(self) -> str:
        """As it lies in the store."""
        return self.model_dump_json(indent=1, exclude_defaults=True)


def manifest(project: str) -> str:
    """Where the store keeps a project's `Contents`; no folder can be called so, for a project's name has no dot."""
    return f"{project}.json"


def streams(project: str) -> str:
    """The folder with a file for each table of a project that is fed by a stream; no project can be called so."""
    return f"{project}.streams"


def stream_manifest(project: str, table: str) -> str:
    """Where the store keeps the `TableContents` of a table that is fed by a stream."""
    return f"{streams(project)}/{table}.json"


def partitions(project: str) -> str:
    """The folder with a file for each partition of each table that comes so; no project can be called so."""
    return f"{project}.partitions"


def partition_manifest(project: str, table: str, key: str) -> str:
    """Where the store keeps the `PartitionContents` of one partition of a table."""
    return f"{partitions(project)}/{table}/{key}.json"


def contents(store: DataStore, ref: str, project: str) -> Contents | None:
    """What the commit `ref` says about the project's tables, or None where it has none."""
    whole, live = ingested(store, ref, project), fed(store, ref, project)
    if whole is None and not live:
        return None
    return Contents(tables={**(whole.tables if whole else {}), **live})


def ingested(store: DataStore, ref: str, project: str) -> Contents | None:
    """What the commit `ref` says about the tables that were ingested as a whole, or None where it has none."""
    try:
        path = store.local(ref, manifest(project))
    except NotFoundError:
        return None
    return Contents.model_validate_json(path.read_bytes())


def fed(store: DataStore, ref: str, project: str) -> dict[str, TableContents]:
    """What the commit `ref` holds of the tables that grow by commits of their own: by streams, or by partitions."""
    by_partition = partition_contents(store, ref, project)
    return {table: _united(parts) for table, parts in by_partition.items()} | {
        PurePosixPath(entry.path).stem: TableContents.model_validate_json(store.local(ref, entry.path).read_bytes())
        for entry in store.ls(ref, streams(project))
    }


def partition_contents(
    store: DataStore, ref: str, project: str, key: str | None = None
) -> dict[str, dict[str, PartitionContents]]:
    """The partitions that the commit `ref` holds, by table and key; with a `key`, that one alone."""
    found: dict[str, dict[str, PartitionContents]] = {}
    for entry in store.ls(ref, partitions(project)):
        path = PurePosixPath(entry.path)
        if key in (None, path.stem):
            found.setdefault(path.parent.name, {})[path.stem] = _partition(store, ref, entry)
    return found


def newest_partitions(store: DataStore, ref: str, project: str, but: str = "") -> dict[str, TableContents]:
    """The newest partition of each table, other than `but`: those of a table all have the same columns."""
    entries = store.ls(ref, partitions(project))
    newest = {PurePosixPath(one.path).parent.name: one for one in entries if PurePosixPath(one.path).stem != but}
    return {table: _partition(store, ref, entry) for table, entry in newest.items()}


def _partition(store: DataStore, ref: str, entry: Entry) -> PartitionContents:
    return PartitionContents.model_validate_json(store.local(ref, entry.path).read_bytes())


def _united(parts: Mapping[str, PartitionContents]) -> TableContents:
    """The table that partitions are the parts of."""
    files = {f"{key}/{name}": sha for key, part in parts.items() for name, sha in part.files.items()}
    newest = parts[max(parts)]
    rows = sum(part.rows for part in parts.values())
    return TableContents(rows=rows, columns=newest.columns, declared=newest.declared, files=files)


def outlived(store: DataStore, ref: str, project: str, live: Collection[str]) -> list[str]:
    """The files of the commit `ref` that describe a stream or partitions of a table that is not one of `live`."""
    by_stream = [entry.path for entry in store.ls(ref, streams(project)) if PurePosixPath(entry.path).stem not in live]
    return by_stream + [
        entry.path for entry in store.ls(ref, partitions(project)) if PurePosixPath(entry.path).parent.name not in live
    ]


def sources_of(store: DataStore, ref: str, project: str | None = None) -> dict[str, tuple[FileStamp, ...]]:
    """The files that each table of a commit was read from: as its newest ingest (of `project`) wrote them down, and as
    each partition of `project` says.
    """
    parts = partition_contents(store, ref, project) if project else {}
    by_partition = {table: tuple(stamp for one in of.values() for stamp in one.stamps) for table, of in parts.items()}
    return _written(store, ref, project) | by_partition


def _written(store: DataStore, ref: str, project: str | None) -> dict[str, tuple[FileStamp, ...]]:
    waiting, seen = [ref], {ref}
    while waiting:
        revision = store.resolve(waiting.pop())
        if "sources" in revision.metadata and project in (None, revision.metadata.get("project")):
            tables = json.loads(revision.metadata["sources"])
            return {table: tuple(FileStamp(**file) for file in files) for table, files in tables.items()}
        waiting += [parent for parent in revision.parents if parent not in seen]  # a merge's last is what came in
        seen.update(revision.parents)
    return {}


def local_files(store: DataStore, ref: str, project: str) -> dict[str, list[Path]]:
    """Each table's Parquet files at the commit `ref`, as local ones."""
    found: dict[str, list[Path]] = {}
    for entry in store.ls(ref, project):
        if not entry.path.endswith(".parquet"):  # an object that a row names
            continue
        table = entry.path.removeprefix(f"{project}/").split("/", 1)[0]
        found.setdefault(table, []).append(store.local(ref, entry.path))
    return found


def data_digest(project: str, entries: Iterable[Entry]) -> str:
    """Digest of the project's paths and bytes, and of nothing else that the store may hold."""
    return tree_digest(entry for entry in entries if entry.path.startswith(f"{project}/"))


def counted(rows: Mapping[str, int]) -> str:
    """`12 rows of planes, 7 rows of weather`, for messages."""
    return ", ".join(f"{count:,} rows of {name}" for name, count in rows.items())
