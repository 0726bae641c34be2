"""What Prometheus is told of a stream."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from components.stream_log import Fed


class StreamMetrics:
    """Of one project's process; every series has the table's name.

    Args:
        project: its name.
    """

    def __init__(self, project: str) -> None:
        self.registry = CollectorRegistry()
        self._project = project
        names, prefix = ["project", "table"], "trilha_stream"
        self._lag = Gauge(f"{prefix}_lag", "Messages that are in no commit yet.", names, registry=self.registry)
        self._up = Gauge(f"{prefix}_up", "1 where topic and store answer.", names, registry=self.registry)
        self._messages = Counter(
            f"{prefix}_messages", "Messages, by what became of them.", [*names, "fate"], registry=self.registry
        )
        self._late = Counter(f"{prefix}_late", "Events that came too late.", names, registry=self.registry)
        self._number = Gauge(f"{prefix}_batch", "Number of the newest commit.", names, registry=self.registry)
        self._seconds = Histogram(
            f"{prefix}_commit_seconds", "From a whole batch to its commit.", names, registry=self.registry
        )
        self._newest = Gauge(
            f"{prefix}_newest_event_seconds", "The newest event time, since 1970.", names, registry=self.registry
        )
        self._unknown = Gauge(
            f"{prefix}_unknown_fields", "Fields of messages that are no columns.", names, registry=self.registry
        )

    def committed(self, fed: Fed, seconds: float) -> None:
        """Count a commit."""
        kept = fed.messages - fed.dead
        for fate, count in (("refused" if fed.refused else "kept", kept), ("dead", fed.dead)):
            self._messages.labels(self._project, fed.table, fate).inc(count)
        self._late.labels(self._project, fed.table).inc(fed.late)
        self._number.labels(self._project, fed.table).set(fed.number)
        self._seconds.labels(self._project, fed.table).observe(seconds)
        if fed.newest:
            self._newest.labels(self._project, fed.table).set(datetime.fromisoformat(fed.newest).timestamp())

    def lag(self, table: str, messages: int) -> None:
        self._lag.labels(self._project, table).set(messages)

    def up(self, table: str, *, well: bool) -> None:
        self._up.labels(self._project, table).set(well)

    def unknown(self, table: str, fields: int) -> None:
        self._unknown.labels(self._project, table).set(fields)
