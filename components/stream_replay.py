"""Rows of a file as messages of a topic: what sensors would have sent."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from components.errors import ConfigError
from components.source_settings import Table
from components.sources import find
from components.stream import open_topic

if TYPE_CHECKING:
    from components.stream_settings import Stream
    from components.workspace import Workspace

AT_ONCE: Final = 5_000
"""Messages that are sent together."""


def replay(workspace: Workspace, table: str, settings: Stream, path: str, null: str, speed: float | None) -> int:
    """Send the rows of `path` to the table's topic, in the order of their event time or else their own.

    Returns how many there were.

    Args:
        workspace: knows where the topic is.
        table: its name, for errors.
        settings: its `stream`; the columns that it declares are sent.
        path: as a table's `path`.
        null: the text that stands for a missing value in CSV.
        speed: seconds of event time that go by in a second; None sends as fast as it goes.

    Raises:
        ConfigError: the stream has no event time to go by, or the file is not accepted.
    """
    if speed is not None and settings.event_time is None:
        raise ConfigError(
            f"--speed, and {table!r} has no event time",
            accepted="`event_time` in project.yaml, or no --speed",
        )
    topic = open_topic(workspace, settings)
    sent = 0
    try:
        for rows in _paced(_rows(workspace, table, settings, path, null), settings.event_time, speed):
            topic.send([msgspec.json.encode(row) for row in rows])
            sent += len(rows)
    finally:
        topic.close()
    return sent


def _rows(workspace: Workspace, table: str, settings: Stream, path: str, null: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    from components.adapters.duckdb_reader import to_parquet
    from components.staging import stage

    source = Table(path=path, null=null, columns=dict(settings.columns))
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "staged"
        staged.mkdir()
        inside = workspace.profile.inside
        stamps = find(table, source.path, inside)
        converted = to_parquet(table, source, stage(table, source, stamps, staged, inside), Path(folder))
        rows = pq.read_table(list(converted.files.values()), columns=list(settings.columns))
        if settings.event_time is not None:
            rows = rows.sort_by(settings.event_time)
        for batch in rows.to_batches(AT_ONCE):
            yield from batch.to_pylist()


def _paced(
    rows: Iterator[dict[str, Any]], event_time: str | None, speed: float | None
) -> Iterator[list[dict[str, Any]]]:
    """The rows in parts: as large as they may be, or those of one event time, when that is due."""
    part: list[dict[str, Any]] = []
    begun: tuple[datetime, float] | None = None
    for row in rows:
        at = row[event_time] if speed and event_time else None
        if part and (len(part) == AT_ONCE or (speed and event_time and at != part[-1][event_time])):
            yield part
            part = []
        if speed and isinstance(at, datetime):
            begun = begun or (at, time.monotonic())
            due = begun[1] + (at - begun[0]).total_seconds() / speed
            time.sleep(max(0.0, due - time.monotonic()))
        part.append(row)
    if part:
        yield part
