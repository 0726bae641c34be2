"""SQL on the profile's engine, through Ibis: written in DuckDB's dialect, transpiled where the engine is another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from components.adapters.sql_rules import DIALECT, checked
from components.errors import ConfigError

if TYPE_CHECKING:
    import ibis
    import pyarrow as pa

_LINE = re.compile(r"^LINE \d+:", re.MULTILINE)
MEMORY: Final = "2GB"
"""What a query that is streamed may take of it; what it needs beyond goes to the disk."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The rows of a query, which come when they are asked for: how many there are, and batches of them."""

    rows: int
    batches: Iterator[pa.RecordBatch]


def run_sql(url: str, tables: Mapping[str, Sequence[Path]], sql: str, *, source: str) -> pa.Table:
    """The rows that `sql` yields over `tables`.

    Args:
        url: Ibis' URL of the engine.
        tables: name -> its Parquet files, whatever their suffix.
        sql: one query in DuckDB's dialect.
        source: what an error calls the query.

    Raises:
        ConfigError: it reads more than `tables`, its rows depend on more than theirs, or the engine does not accept
            it; its own words are in the error.
    """
    with _opened(url, tables, sql, source) as (connection, query), _query_errors(source, tables):
        return connection.sql(query, dialect=DIALECT).to_pyarrow()


@contextmanager
def stream_sql(
    url: str, tables: Mapping[str, Sequence[Path]], sql: str, *, source: str, batch: int, scratch: Path
) -> Iterator[Stream]:
    """The rows that `sql` yields, a few at a time and in the same order each time: memory does not grow with them.

    Args:
        url: Ibis' URL of the engine.
        tables: name -> its Parquet files, whatever their suffix.
        sql: one query in DuckDB's dialect.
        source: what an error calls the query.
        batch: about how many rows come at a time.
        scratch: a folder for what does not fit into memory.

    Raises:
        ConfigError: as `run_sql`, also while the batches are read.
    """
    with _opened(url, tables, sql, source, scratch) as (connection, query):
        with _query_errors(source, tables):
            expression = connection.sql(query, dialect=DIALECT)
            rows = int(expression.count().to_pyarrow().as_py())

        def batches() -> Iterator[pa.RecordBatch]:
            with _query_errors(source, tables):
                yield from connection.to_pyarrow_batches(expression, chunk_size=batch)

        yield Stream(rows, batches())


@contextmanager
def _opened(
    url: str, tables: Mapping[str, Sequence[Path]], sql: str, source: str, scratch: Path | None = None
) -> Iterator[tuple[Any, str]]:
    """A connection that knows `tables` and reads nothing else, and the query as it takes it."""
    import ibis

    query = checked(sql, tables, source=source)
    connection = ibis.connect(url)
    try:
        _make_repeatable(connection)
        if scratch is not None:
            _spill(connection, scratch)
        for name, files in tables.items():
            connection.read_parquet([str(file) for file in files], table_name=name)
        _confine(connection, [str(file) for files in tables.values() for file in files])
        yield connection, query
    finally:
        connection.disconnect()


@contextmanager
def _query_errors(source: str, tables: Mapping[str, Sequence[Path]]) -> Iterator[None]:
    """What the engine says against the query, as ours."""
    try:
        yield
    except Exception as error:  # engines share no class of errors, and all that can fail here is the query
        words = _LINE.sub(lambda found: " " * len(found[0]), str(error)).strip()  # they are those of `query`
        raise ConfigError(
            f"{source}: {words.splitlines()[0]}",
            accepted=f"one query over the tables {', '.join(sorted(tables))}",
            next_step=f"correct {source}",
            details=words,
        ) from error


def name_of(url: str) -> str:
    """The kind of engine at `url`, which has answered a query.

    Raises:
        ConfigError: it cannot be used; a password in `url` is not in the error.
    """
    import ibis

    try:
        connection = ibis.connect(url)
        try:
            connection.sql("select 1 as one", dialect=DIALECT).to_pyarrow()
            return str(connection.name)
        finally:
            connection.disconnect()
    except Exception as error:  # noqa: BLE001  # engines share no class of errors
        parts = urlsplit(url)
        words = str(error).replace(url, parts.scheme).replace(parts.password or url, "***").strip()
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise ConfigError(
            f"SQL engine {where}: {(words or type(error).__name__).splitlines()[0]}",
            accepted="a URL that Ibis connects to",
            next_step=f"pip install 'ibis-framework[{parts.scheme}]', or correct `sql` in the profile"
            if isinstance(error, ImportError)
            else "correct `sql` in the profile, or what its user may do",
        ) from None  # the engine's own error may have the password in it


def _make_repeatable(connection: ibis.BaseBackend) -> None:
    """The same rows on every machine: one thread, since the sum of floats depends on the order, and times in UTC."""
    if connection.name == "duckdb":
        connection.raw_sql("set threads = 1")
        connection.raw_sql("set TimeZone = 'UTC'")


def _spill(connection: ibis.BaseBackend, scratch: Path) -> None:
    """What does not fit into memory goes to the disk."""
    if connection.name == "duckdb":
        connection.raw_sql(f"set memory_limit = '{MEMORY}'")
        connection.raw_sql("set temp_directory = '" + str(scratch).replace("'", "''") + "'")


def _confine(connection: ibis.BaseBackend, files: Sequence[str]) -> None:
    """Nothing can be read but `files`, whatever a query found a way to ask for."""
    if connection.name == "duckdb":
        names = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        connection.raw_sql(f"set allowed_paths = [{names}]")
        for setting in ("python_enable_replacements = false", "enable_external_access = false"):
            connection.raw_sql(f"set {setting}")
        connection.raw_sql("set lock_configuration = true")
