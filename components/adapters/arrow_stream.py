"""Arrow batches of any origin to Parquet, with DuckDB's types: the same rows in the same order give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import duckdb
import pyarrow as pa

from components.adapters.duckdb_errors import out_of_room
from components.adapters.duckdb_faults import quoted
from components.adapters.duckdb_reader import GROUP, MEMORY, Converted, check_types, describe, pump, set_up
from components.adapters.parquet_files import ParquetFiles
from components.errors import ConfigError, GateError, nearest

FIRST = 2048
"""Rows that are looked at to tell how long a row is."""

_CAST = re.compile(r"Could not convert (?:string )?(.*?) (?:to|into) ")


def columns_of(table: str, schema: pa.Schema, columns: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Column -> DuckDB type of what `stream_to_parquet` makes of rows of `schema`.

    Raises:
        ConfigError, GateError: as there.
    """
    with _connection(table, columns, folder) as connection:
        return describe(connection, _query(connection, table, schema.empty_table(), schema, columns))


def stream_to_parquet(
    table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], columns: Mapping[str, str], folder: Path
) -> Converted:
    """Write all rows as one Parquet file below `folder`; no file where there are none.

    Args:
        table: its name, for errors.
        schema: of every batch.
        batches: read once; an error of theirs comes out as it is.
        columns: column -> the DuckDB type that it is made.
        folder: takes what DuckDB spills, too.

    Raises:
        ConfigError: a type does not exist, or is of a column that is not there.
        GateError: a value does not fit its column's type; two columns have one name.
        UnavailableError: the disk is full.
    """
    source = _Batches(batches)
    ahead = source.ahead(FIRST)
    group = _rows_a_group(ahead, schema)
    with _connection(table, columns, folder) as connection, _errors(table, columns, folder, source):
        reader = pa.RecordBatchReader.from_batches(schema, chain(ahead, source))
        query = _query(connection, table, reader, schema, columns)
        arriving = connection.execute(query).to_arrow_reader(group)
        with ParquetFiles(table, folder, arriving.schema, group, None) as target:
            pump(arriving, target)
            written = target.finish()
        connection.unregister("arriving")
        typed = describe(connection, _query(connection, table, schema.empty_table(), schema, columns))
    return Converted(written, target.rows, typed)


class _Batches:
    """Batches that keep the error they end with: on its way through DuckDB it would become text."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = iter(batches)
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches
        except BaseException as error:
            self.error = error
            raise

    def ahead(self, rows: int) -> list[pa.RecordBatch]:
        """The first batches, up to `rows` rows or a little more."""
        found: list[pa.RecordBatch] = []
        while sum(batch.num_rows for batch in found) < rows:
            batch = next(self._batches, None)
            if batch is None:
                break
            found.append(batch)
        return found


def _rows_a_group(ahead: Sequence[pa.RecordBatch], schema: pa.Schema) -> int:
    """As `components.adapters.duckdb_reader` has it, by the length of the first rows."""
    first = pa.Table.from_batches(ahead, schema).slice(0, FIRST).combine_chunks()
    about = first.nbytes // max(first.num_rows, 1)
    fitting = GROUP // (about + 8 * len(schema)) // 2048 * 2048
    return int(min(max(fitting, 2048), 122_880))


@contextmanager
def _connection(table: str, columns: Mapping[str, str], folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(folder / "spill")}) as connection:
        set_up(connection)
        check_types(connection, table, columns)
        yield connection


def _query(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    rows: pa.Table | pa.RecordBatchReader,
    schema: pa.Schema,
    columns: Mapping[str, str],
) -> str:
    seen: set[str] = set()
    for name in schema.names:
        if name.casefold() in seen:
            raise GateError(
                f"table {table!r}: column {name!r} is there twice",
                accepted="each name once, upper or lower case making no difference",
            )
        seen.add(name.casefold())
    for name in columns:
        if name not in schema.names:
            raise ConfigError(
                f"table {table!r}: no column {name!r}{nearest(name, schema.names)}",
                accepted=", ".join(schema.names),
                next_step="correct `columns` in project.yaml",
            )
    connection.register("arriving", rows)
    casts = ", ".join(f"CAST({quoted(name)} AS {type_}) AS {quoted(name)}" for name, type_ in columns.items())
    return f"SELECT * REPLACE ({casts}) FROM arriving" if casts else "FROM arriving"  # noqa: S608  # quoted above


@contextmanager
def _errors(table: str, columns: Mapping[str, str], folder: Path, source: _Batches) -> Iterator[None]:
    """What DuckDB and Arrow raise, as ours."""
    try:
        yield
    except (OSError, duckdb.Error, pa.ArrowException) as error:
        if source.error is not None:
            raise source.error from None
        known = out_of_room(table, error, folder)
        if known is not None:
            raise known from error
        if not str(error).startswith("Conversion Error"):
            raise
        value = _CAST.search(str(error))
        kinds = ", ".join(f"{name}: {type_}" for name, type_ in columns.items())
        raise GateError(
            f"table {table!r}: a value is not what its column is made: {value[1] if value else error}",
            accepted=kinds,
            next_step="correct the value, or `columns` in project.yaml",
            details=str(error),
        ) from error
