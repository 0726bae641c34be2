"""The kinds of sources, each with the adapter that looks at it and reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from components.partition_settings import per_partition
from components.source_settings import (
    AnyTable,
    DeltaTable,
    ImportedTable,
    LogTable,
    MediaTable,
    SqlTable,
    Table,
    kind_of,
)

if TYPE_CHECKING:
    from components.data_ports import Source
    from components.workspace import Workspace


def open_source(workspace: Workspace, project: str, table: str, source: AnyTable) -> Source:
    """What looks at a table's source and reads it; nothing is opened yet. By partitions, it is what `main` holds."""
    if per_partition(source):
        from components.stream_tables import PartitionedSource

        return PartitionedSource(workspace.store, project, table)
    return ADAPTERS[kind_of(source)](workspace, project, table, source)


def _files(workspace: Workspace, _: str, table: str, source: AnyTable) -> Source:
    from components.file_source import FileSource

    return FileSource(table, cast("Table | LogTable", source), workspace.profile.inside)


def _sql(workspace: Workspace, _: str, table: str, source: AnyTable) -> Source:
    from components.adapters.sql_source import SqlSource

    return SqlSource(workspace, table, cast("SqlTable", source))


def _delta(_: Workspace, __: str, table: str, source: AnyTable) -> Source:
    from components.adapters.delta_source import DeltaSource

    return DeltaSource(table, cast("DeltaTable", source))


def _imported(workspace: Workspace, _: str, table: str, source: AnyTable) -> Source:
    from components.adapters.lakefs_source import LakeFSSource

    return LakeFSSource(workspace, table, cast("ImportedTable", source))


def _media(workspace: Workspace, _: str, table: str, source: AnyTable) -> Source:
    from components.adapters.media_source import MediaSource

    return MediaSource(workspace, table, cast("MediaTable", source))


def _stream(workspace: Workspace, project: str, table: str, _: AnyTable) -> Source:
    from components.stream_tables import FedSource

    return FedSource(workspace.store, project, table)


ADAPTERS = {
    "delta": _delta,
    "lakefs": _imported,
    "media": _media,
    "path": _files,
    "pattern": _files,
    "sql": _sql,
    "stream": _stream,
}
"""Key of a source in project.yaml -> what opens its adapter. They are functions, not names as in
`components.workspace.ADAPTERS`: what reads a table is a part of the step's code, so that a change of it reads anew."""
