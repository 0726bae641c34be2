"""SQL on the profile's engine, through Ibis: written in DuckDB's dialect, transpiled where the engine is another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.adapters.sql_rules import DIALECT, checked
from components.errors import ConfigError

if TYPE_CHECKING:
    import ibis
    import pyarrow as pa

_LINE = re.compile(r"^LINE \d+:", re.MULTILINE)


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
    import ibis

    query = checked(sql, tables, source=source)
    connection = ibis.connect(url)
    try:
        _make_repeatable(connection)
        for name, files in tables.items():
            connection.read_parquet([str(file) for file in files], table_name=name)
        _confine(connection, [str(file) for files in tables.values() for file in files])
        try:
            return connection.sql(query, dialect=DIALECT).to_pyarrow()
        except Exception as error:  # engines share no class of errors, and all that can fail here is the query
            words = _LINE.sub(lambda found: " " * len(found[0]), str(error)).strip()  # they are those of `query`
            raise ConfigError(
                f"{source}: {words.splitlines()[0]}",
                accepted=f"one query over the tables {', '.join(sorted(tables))}",
                next_step=f"correct {source}",
                details=words,
            ) from error
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


def _make_repeatable(connection: ibis.BaseBackend) -> None:
    """The same rows on every machine: one thread, since the sum of floats depends on the order, and times in UTC."""
    if connection.name == "duckdb":
        connection.raw_sql("set threads = 1")
        connection.raw_sql("set TimeZone = 'UTC'")


def _confine(connection: ibis.BaseBackend, files: Sequence[str]) -> None:
    """Nothing can be read but `files`, whatever a query found a way to ask for."""
    if connection.name == "duckdb":
        names = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        connection.raw_sql(f"set allowed_paths = [{names}]")
        for setting in ("python_enable_replacements = false", "enable_external_access = false"):
            connection.raw_sql(f"set {setting}")
        connection.raw_sql("set lock_configuration = true")
