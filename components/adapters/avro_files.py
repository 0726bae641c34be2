"""Avro's records as Arrow batches, each type of Avro's as the one of Arrow's that means the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from components.adapters.arrow_stream import stream_to_parquet
from components.adapters.duckdb_reader import Converted
from components.errors import ConfigError, GateError
from components.source_settings import Table
from components.staging import LocalFile

RECORDS = 10_000
"""In a batch."""
PLAIN = {
    "boolean": pa.bool_(),
    "bytes": pa.binary(),
    "double": pa.float64(),
    "enum": pa.string(),
    "fixed": pa.binary(),
    "float": pa.float32(),
    "int": pa.int32(),
    "long": pa.int64(),
    "null": pa.null(),
    "string": pa.string(),
}
LOGICAL = {
    "date": pa.date32(),
    "local-timestamp-micros": pa.timestamp("us"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "time-micros": pa.time64("us"),
    "time-millis": pa.time32("ms"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "uuid": pa.string(),
}
WIDER = (pa.int32(), pa.int64(), pa.float32(), pa.float64())
"""Numbers of which the later can hold the earlier."""


def avro_to_parquet(table: str, source: Table, files: Sequence[LocalFile], folder: Path) -> Converted:
    """Write the records of `files` as one Parquet file below `folder`.

    Raises:
        ConfigError: a declared type does not exist; `partition` is set; fastavro is not installed.
        GateError: a file is damaged, is no table, or has other columns than the first.
        UnavailableError: the disk is full.
    """
    if source.partition is not None:
        raise ConfigError(
            f"table {table!r}: `partition` of Avro files",
            accepted="CSV, JSON lines or Parquet with `partition`",
            next_step="take it out",
        )
    schema = _schema(table, files[0])
    for file in files[1:]:
        if _schema(table, file) != schema:
            raise GateError(
                f"table {table!r}: {file.name} has other columns or types than {files[0].name}",
                accepted="the same schema in every file of a table",
                details=f"{schema}\n\n{_schema(table, file)}",
            )
    converted = stream_to_parquet(table, schema, _batches(table, files, schema), source.columns, folder)
    if not converted.rows:
        raise GateError(f"table {table!r}: no records in {files[0].name}", accepted="at least one record")
    return converted


def _batches(table: str, files: Sequence[LocalFile], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for file in files:
        with file.path.open("rb") as opened:
            records = _records(table, file, opened)
            while some := list(islice(records, RECORDS)):
                try:
                    yield pa.RecordBatch.from_pylist(some, schema)
                except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
                    raise _damaged(table, file, error) from error


def _records(table: str, file: LocalFile, opened: Any) -> Iterator[Any]:
    try:
        import fastavro
    except ImportError as error:
        raise ConfigError(
            f"table {table!r}: Avro is read by fastavro, which is not installed",
            next_step="install the extra `sources`",
        ) from error
    try:
        records: Iterator[Any] = fastavro.reader(opened)
        for record in records:
            yield {name: str(value) if isinstance(value, UUID) else value for name, value in record.items()}
    except MemoryError:
        raise
    except Exception as error:  # it lets through whatever the bytes made fail
        raise _damaged(table, file, error) from error


def _damaged(table: str, file: LocalFile, error: Exception) -> GateError:
    return GateError(
        f"table {table!r}: {file.name} cannot be read as avro: {type(error).__name__}: {str(error).splitlines()[:1]}",
        accepted="a whole Avro file of records",
        next_step="get the file again",
    )


def _schema(table: str, file: LocalFile) -> pa.Schema:
    with file.path.open("rb") as opened:
        try:
            import fastavro

            given = fastavro.reader(opened).writer_schema
        except ImportError as error:
            raise ConfigError(
                f"table {table!r}: Avro is read by fastavro, which is not installed",
                next_step="install the extra `sources`",
            ) from error
        except Exception as error:  # it lets through whatever the bytes made fail
            raise _damaged(table, file, error) from error
    if not isinstance(given, dict) or given.get("type") != "record":
        raise GateError(f"table {table!r}: {file.name} holds no records", accepted="an Avro file of records")
    types = _Types(f"table {table!r}: {file.name}")
    return pa.schema([pa.field(one["name"], types.of(one["type"], one["name"])) for one in given["fields"]])


class _Types:
    """Avro's types as Arrow's; `named` are those that were defined before."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._named: dict[str, pa.DataType] = {}

    def of(self, given: Any, column: str) -> pa.DataType:
        if isinstance(given, list):
            return self._union(given, column)
        if isinstance(given, str):
            return self._named.get(given) or PLAIN[given]
        kind = given["type"]
        if not isinstance(kind, str):
            return self.of(kind, column)
        made = self._made(kind, given, column)
        if "name" in given:
            self._named[given["name"]] = self._named[f"{given.get('namespace', '')}.{given['name']}"] = made
        return made

    def _made(self, kind: str, given: Mapping[str, Any], column: str) -> pa.DataType:
        logical = given.get("logicalType")
        if logical == "decimal":
            return pa.decimal128(given["precision"], given.get("scale", 0))
        if logical in LOGICAL:
            return LOGICAL[logical]
        if kind == "array":
            return pa.list_(self.of(given["items"], column))
        if kind == "map":
            return pa.map_(pa.string(), self.of(given["values"], column))
        if kind == "record":
            return pa.struct([pa.field(one["name"], self.of(one["type"], column)) for one in given["fields"]])
        return self._named.get(kind) or PLAIN[kind]

    def _union(self, given: Sequence[Any], column: str) -> pa.DataType:
        found = [type_ for type_ in (self.of(one, column) for one in given) if type_ != pa.null()]
        if all(one in WIDER for one in found) and found:
            return max(found, key=WIDER.index)
        if len(set(found)) != 1:
            raise GateError(
                f"{self._where}, column {column!r} holds {' or '.join(map(str, found)) or 'nothing'}",
                accepted="one type a column, or nothing where there is no value",
            )
        return found[0]
