"""The kinds of sources, each with the adapter that looks at it and reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from components.source_settings import AnyTable, SqlTable, Table, kind_of

if TYPE_CHECKING:
    from components.ports import Source
    from components.workspace import Workspace


def open_source(workspace: Workspace, table: str, source: AnyTable) -> Source:
    """What looks at a table's source and reads it; nothing is opened yet."""
    return ADAPTERS[kind_of(source)](workspace, table, source)


def _files(_: Workspace, table: str, source: AnyTable) -> Source:
    from components.file_source import FileSource

    return FileSource(table, cast("Table", source))


def _sql(workspace: Workspace, table: str, source: AnyTable) -> Source:
    from components.adapters.sql_source import SqlSource

    return SqlSource(workspace, table, cast("SqlTable", source))


ADAPTERS = {
    "path": _files,
    "sql": _sql,
}
"""Key of a source in project.yaml -> what opens its adapter. They are functions, not names as in
`components.workspace.ADAPTERS`: what reads a table is a part of the step's code, so that a change of it reads anew."""
