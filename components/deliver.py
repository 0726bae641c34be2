"""deliver: a night of predictions to where its readers are. It looks each time, and writes what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from components.adapters.store_rules import tree_digest
from components.scores import Delivered, Predictions, best_of, parts_of
from components.scoring_settings import Sink
from components.sinks import opened
from components.workspace import open_workspace

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

BATCH: Final = 65_536
"""Rows that a sink gets at a time."""


def deliver(project: str, profile: str, predictions: Predictions, name: str, sink: Sink, what: str) -> Delivered:
    """Let a sink hold a night: at once for all its readers, and once however often it is delivered.

    Args:
        project: whose.
        profile: names the stores and the connections.
        predictions: the night; the sink knows it by the digest of what it gets.
        name: of the sink.
        sink: what it is, and where.
        what: it gets: every one of the `scores`, or the `best` of each.

    Raises:
        ConfigError: there is no such connection, or the sink has no place for it.
        GateError: two rows have one key.
        UnavailableError: it does not answer; the night before is what it holds.
    """
    workspace = open_workspace(profile)
    store, target = workspace.store, opened(workspace, name, sink)
    table = sink.table or f"{project}_{what}".replace("-", "_")
    entries = parts_of(store, predictions.id, project)
    if what == "best":
        entries = [entry for entry in store.ls(predictions.id, project) if entry.path == best_of(project)]
    night = tree_digest(entries)
    if not target.holds(table, night):
        paths = [store.local(predictions.id, entry.path) for entry in entries]
        target.write(table, night, _schema(paths[0]), _batches(paths))
    return Delivered(sink=name, night=predictions.night, rows=predictions.rows, where=f"{target.where}, {table}")


def _schema(path: Path) -> pa.Schema:
    import pyarrow.parquet as pq

    return pq.read_schema(path).remove_metadata()


def _batches(paths: list[Path]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(BATCH)
