"""load: the rows of `features.sql` to where others read them. It looks each time, and writes what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.records import Place, Prepared, Record, digest
from components.sink_settings import Sink
from components.sinks import brought
from components.workspace import open_workspace

if TYPE_CHECKING:
    from pathlib import Path

    from components.workspace import Workspace


class Loaded(Record):
    """Rows of `features.sql` that a sink holds: `where`, without a password, and the `night` that they are known by."""

    sink: str
    night: str
    rows: int
    where: Place


def load(project: str, profile: str, prepared: Prepared, name: str, sink: Sink) -> Loaded:
    """Let a sink hold the rows that `prepare` made: at once for all its readers, and once however often it is done.

    Args:
        project: whose.
        profile: names the files and the connections.
        prepared: the rows; the sink knows them by the digest of their files, which it keeps with them.
        name: of the sink.
        sink: what it is, and where.

    Raises:
        ConfigError: there is no such connection, or the sink has no place for a column.
        UnavailableError: it does not answer; the rows before are what it holds.
    """
    workspace = open_workspace(profile)
    splits = (prepared.train, prepared.valid, prepared.test)
    night = digest([prepared.row, *(split.file.sha256 for split in splits)])
    table = sink.table or f"{project}_features".replace("-", "_")
    setting, key = f"features.sinks.{name}", prepared.row
    where = brought(workspace, setting, sink, table, night, lambda: _paths(workspace, prepared), key)
    return Loaded(sink=name, night=night, rows=sum(split.rows for split in splits), where=where)


def _paths(workspace: Workspace, prepared: Prepared) -> Iterator[Path]:
    """The files of all three sides: no row is in two of them."""
    from components.serving import whole

    for split in (prepared.train, prepared.valid, prepared.test):
        yield whole(workspace, split.file)
