"""The sinks that a project names, opened: each where the profile's connection says."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from components.connections import url_of
from components.errors import ConfigError
from components.online import key_of
from components.sink_settings import Sink as Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from components.data_ports import Sink
    from components.ports import FeatureStore
    from components.workspace import Workspace

ADAPTERS: Final = {
    "delta": "components.adapters.delta_sink:DeltaSink",
    "postgres": "components.adapters.postgres_sink:PostgresSink",
}
"""Kind -> its class, made of a URL; imported when it is first needed."""

EXTRAS: Final = {"delta": "sources", "postgres": "postgres"}
BATCH: Final = 65_536
"""Rows that a sink gets at a time."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode


def opened(workspace: Workspace, setting: str, sink: Settings) -> Sink:
    """A sink of a project, which project.yaml has as `setting`: `scoring.sinks.shop`.

    Raises:
        ConfigError: the profile has no such connection, or what it takes is not installed.
    """
    if sink.kind == "online":
        return TableSink(workspace.features, "the store of features")
    if sink.connection is None:
        raise ConfigError(
            f"{setting}: no connection",
            accepted=", ".join(sorted(workspace.profile.connections)) or "a connection of the profile; there is none",
            next_step="connection: NAME in project.yaml, and NAME under `connections` in the profile",
        )
    url = url_of(workspace, sink.connection)
    if sink.kind == "redis":
        from components.adapters.redis_features import RedisFeatures

        said = f"connection {sink.connection!r}"
        return TableSink(RedisFeatures(url, said, "correct it in the profile"), without_password(url))
    module, kind = ADAPTERS[sink.kind].split(":")
    try:
        made: Sink = getattr(importlib.import_module(module), kind)(url)
    except ImportError as error:
        raise ConfigError(
            f"{setting}: {error}",
            accepted="what a sink of that kind is written with",
            next_step=f"pip install 'trilha[{EXTRAS[sink.kind]}]'",
        ) from error
    return made


def brought(
    workspace: Workspace,
    setting: str,
    sink: Settings,
    table: str,
    night: str,
    files: Callable[[], Iterable[Path]],
    key: str | None = None,
) -> str:
    """Let a sink's table be the rows of some Parquet files, unless it is already; returns where it is.

    Args:
        workspace: whose profile says where the sink is.
        setting: what project.yaml calls it.
        sink: what it is.
        table: what readers call the rows.
        night: what they are known by; the sink takes it down in the transaction that makes them visible.
        files: all of the same columns; asked for where the rows are not there yet.
        key: the column that names a row; None: the first one.
    """
    target = opened(workspace, setting, sink)
    if not target.holds(table, night):
        paths = list(files())
        schema = _key_first(paths[0], key)
        target.write(table, night, schema, _batches(paths, schema.names))
    return f"{target.where}, {table}"


def _key_first(path: Path, key: str | None) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path).remove_metadata()
    return pa.schema(sorted(schema, key=lambda field: field.name != key))


def _batches(paths: list[Path], names: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield batch.select(names)


def without_password(url: str) -> str:
    """Where a URL leads, for people and records: no user, no password, no options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class TableSink:
    """A `Sink` in a store of features: a row by its key, as a map from column to value.

    Args:
        store: holds a table for each night, and says which is the newest.
        where: it is.
    """

    def __init__(self, store: FeatureStore, where: str) -> None:
        self._store = store
        self.where = where

    def holds(self, table: str, night: str) -> bool:
        return self._store.pointed(nights_of(table)) == night and self._store.has(nights_of(table), night)

    def write(self, table: str, night: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        name = nights_of(table)
        if not self._store.has(name, night):
            self._store.write(name, night, _pairs(schema.names, batches))
        before = self._store.pointed(name)
        self._store.point(name, night)
        for old in self._store.tables(name) - {night, before}:  # who reads the one before, reads on
            self._store.drop(name, old)


def nights_of(table: str) -> str:
    """What a store of features calls the nights of a table: no project has a dot in its name."""
    return f"nights.{table}"


def row_of(value: bytes) -> dict[str, Any]:
    """The columns of a row that a `TableSink` wrote."""
    return _unpack(value)


def _pairs(names: list[str], batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[bytes, bytes]]:
    key, others = names[0], names[1:]
    for batch in batches:
        rows = zip(*(batch[name].to_pylist() for name in others), strict=True)
        for one, row in zip(batch[key].to_pylist(), rows, strict=True):
            yield key_of([one]), _pack(dict(zip(others, row, strict=True)))
