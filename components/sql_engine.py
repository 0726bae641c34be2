"""The profile's SQL engine: DuckDB in this process, Spark on a cluster, or whatever else Ibis connects to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.disk import is_full
from components.errors import ConfigError, TrilhaError

if TYPE_CHECKING:
    import pyarrow as pa

SPARK = ("k8s", "sc", "spark")
"""Schemes of URLs of a Spark: Kubernetes' API server, Spark Connect, a standalone master."""
_LINE = re.compile(r"^LINE \d+:", re.MULTILINE)


class Rows:
    """The rows of a query: their schema, and batches that come as the engine makes them.

    Args:
        schema: of every batch.
        batches: in order.
        source: what an error calls the query.
        tables: what it may read.
    """

    def __init__(
        self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], source: str, tables: Sequence[str]
    ) -> None:
        self.schema = schema
        self._batches = batches
        self._source = source
        self._tables = tables

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with _engine_errors(self._source, self._tables):
            yield from self._batches


@contextmanager
def query(
    url: str, tables: Mapping[str, Sequence[Path]], sql: str, *, order: str, source: str, scratch: Path
) -> Iterator[Rows]:
    """The rows that `sql` yields over `tables`, ordered by the column `order` where it has one of that name.

    Memory does not grow with the rows: what an engine sorts or joins beyond it, it writes to `scratch`.

    Args:
        url: `duckdb://`, `spark://HOST:7077`, or what Ibis connects to.
        tables: name -> its Parquet files, whatever their suffix.
        sql: one query in DuckDB's dialect.
        order: a column of the result.
        source: what an error calls the query.
        scratch: a local folder.

    Raises:
        ConfigError: it reads more than `tables`, its rows depend on more than theirs, or the engine does not accept
            it; its own words are in the error.
    """
    from components.adapters.sql_rules import checked

    text, names = checked(sql, tables, source=source), sorted(tables)
    if urlsplit(url).scheme in SPARK:
        from components.adapters import spark_sql

        paths = {name: [str(file) for file in files] for name, files in tables.items()}
        opened = spark_sql.rows_of(url, paths, text, order=order)
    else:
        from components.adapters import ibis_sql

        opened = ibis_sql.rows_of(url, tables, text, order=order, scratch=scratch)
    with ExitStack() as stack:
        with _engine_errors(source, names):
            schema, batches = stack.enter_context(opened)
        yield Rows(schema, batches, source, names)


def name_of(url: str) -> str:
    """The kind of engine at `url`, which has answered a query.

    Raises:
        ConfigError, UnavailableError: it cannot be used; no secret in `url` is in the error.
    """
    if urlsplit(url).scheme in SPARK:
        from components.adapters.spark_sql import name_of as name
    else:
        from components.adapters.ibis_sql import name_of as name
    return name(url)


@contextmanager
def _engine_errors(source: str, tables: Sequence[str]) -> Iterator[None]:
    """What an engine raises, as ours: they share no class of errors, and all that can fail here is the query."""
    try:
        yield
    except TrilhaError:
        raise
    except Exception as error:
        if is_full(error):
            raise
        words = _LINE.sub(lambda found: " " * len(found[0]), str(error)).strip()  # they are those of `checked`
        raise ConfigError(
            f"{source}: {(words or type(error).__name__).splitlines()[0]}",
            accepted=f"one query over the tables {', '.join(tables)}",
            next_step=f"correct {source}",
            details=words,
        ) from error
