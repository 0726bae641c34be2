"""SQL on the profile's engine, through Ibis: written in DuckDB's dialect, transpiled where the engine is another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.adapters.sql_aggregates import aggregates_apart
from components.adapters.sql_order import order_matters
from components.adapters.sql_rules import DIALECT
from components.errors import ConfigError

if TYPE_CHECKING:
    import ibis
    import pyarrow as pa

    from components.sql_engine import Watch, Work

BATCH = 131_072
"""Rows that come at a time."""


class IbisRows:
    """The rows of an expression."""

    def __init__(self, expression: ibis.Table) -> None:
        self.schema: pa.Schema = expression.schema().to_pyarrow()
        self._expression = expression

    def count(self) -> int:
        """How many there are."""
        return int(self._expression.count().to_pyarrow().as_py())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, as the engine comes to them."""
        yield from self._expression.to_pyarrow_batches(chunk_size=BATCH)

    def worked(self, work: Work, watch: Watch) -> None:
        """It is done here, by whoever asks."""


@contextmanager
def rows_of(
    url: str, tables: Mapping[str, Sequence[Path]], query: str, *, order: str | None, scratch: Path
) -> Iterator[IbisRows]:
    """What `query` yields, ordered by the column `order` where it has one of that name.

    Args:
        url: Ibis' URL of the engine.
        tables: name -> its Parquet files, whatever their suffix.
        query: one that `sql_rules.checked` let through.
        order: a column of the result; None: as DuckDB comes to them.
        scratch: a local folder for what does not fit into memory.
    """
    import ibis

    connection = ibis.connect(url)
    try:
        _make_repeatable(connection, tables, query, scratch)
        for name, files in tables.items():
            connection.read_parquet([str(file) for file in files], table_name=name)
        _confine(connection, [str(file) for files in tables.values() for file in files])
        found = connection.sql(_aggregated(connection, query), dialect=DIALECT)
        yield IbisRows(found.order_by(order) if order in found.columns else found)
    finally:
        connection.disconnect()


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


def _make_repeatable(
    connection: ibis.BaseBackend, tables: Mapping[str, Sequence[Path]], query: str, scratch: Path
) -> None:
    """The same rows on every machine: times in UTC, and one thread where the order of rows shows in their sums."""
    if connection.name == "duckdb":
        connection.raw_sql("set TimeZone = 'UTC'")
        connection.raw_sql("set enable_external_file_cache = false")  # it would keep all that was read in memory
        connection.raw_sql(f"set temp_directory = {_quoted(scratch)}")
        if order_matters(query, tables):
            connection.raw_sql("set threads = 1")


def _aggregated(connection: ibis.BaseBackend, query: str) -> str:
    """The query with its aggregates made, where that spares DuckDB a guess."""
    if connection.name != "duckdb":
        return query
    made, rest = aggregates_apart(query)
    for table, rows in made.items():
        connection.raw_sql(f"create temp table {table} as {rows}")
    return rest


def _confine(connection: ibis.BaseBackend, files: Sequence[str]) -> None:
    """Nothing can be read but `files`, whatever a query found a way to ask for."""
    if connection.name == "duckdb":
        names = ", ".join(map(_quoted, files))
        connection.raw_sql(f"set allowed_paths = [{names}]")
        for setting in ("python_enable_replacements = false", "enable_external_access = false"):
            connection.raw_sql(f"set {setting}")
        connection.raw_sql("set lock_configuration = true")


def _quoted(text: object) -> str:
    """A text of SQL."""
    return "'" + str(text).replace("'", "''") + "'"
