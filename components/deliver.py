"""deliver: a night of predictions to where its readers are. It looks each time, and writes what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.adapters.store_rules import tree_digest
from components.scores import Delivered, Predictions, best_of, parts_of
from components.sink_settings import Sink
from components.sinks import brought
from components.workspace import open_workspace

if TYPE_CHECKING:
    from pathlib import Path


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
    store = workspace.store
    table = sink.table or f"{project}_{what}".replace("-", "_")
    entries = parts_of(store, predictions.id, project)
    if what == "best":
        entries = [entry for entry in store.ls(predictions.id, project) if entry.path == best_of(project)]

    def files() -> Iterator[Path]:
        for entry in entries:
            yield store.local(predictions.id, entry.path)

    setting, night = f"scoring.sinks.{name}", tree_digest(entries)
    where = brought(workspace, setting, sink, table, night, files)
    return Delivered(sink=name, night=predictions.night, rows=predictions.rows, where=where)
