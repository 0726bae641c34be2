"""deliver: a night of predictions to where its readers are. It looks each time, and writes what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from components.scores import Delivered, Predictions
from components.scoring_settings import Sink
from components.sinks import opened
from components.workspace import open_workspace

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

BATCH: Final = 65_536
"""Rows that a sink gets at a time."""


def deliver(project: str, profile: str, predictions: Predictions, name: str, sink: Sink) -> Delivered:
    """Let a sink hold a night: at once for all its readers, and once however often it is delivered.

    Args:
        project: whose.
        profile: names the stores and the connections.
        predictions: the night, which the sink knows by the digest of what is in it.
        name: of the sink.
        sink: what it is, and where.

    Raises:
        ConfigError: there is no such connection, or the sink has no place for it.
        GateError: two rows have one key.
        UnavailableError: it does not answer; the night before is what it holds.
    """
    workspace = open_workspace(profile)
    target, table = opened(workspace, name, sink), sink.table or f"{project}_scores".replace("-", "_")
    if not target.holds(table, predictions.tree):
        store = workspace.store
        paths = [store.local(predictions.id, entry.path) for entry in store.ls(predictions.id, project)]
        target.write(table, predictions.tree, _schema(paths[0]), _batches(paths))
    return Delivered(sink=name, night=predictions.night, rows=predictions.rows, where=f"{target.where}, {table}")


def _schema(path: Path) -> pa.Schema:
    import pyarrow.parquet as pq

    return pq.read_schema(path).remove_metadata()


def _batches(paths: list[Path]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(BATCH)
