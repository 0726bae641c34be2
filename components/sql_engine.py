"""The profile's SQL engine: DuckDB in this process, Spark on a cluster, or whatever else Ibis connects to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from components.disk import is_full
from components.errors import ConfigError, TrilhaError

if TYPE_CHECKING:
    import pyarrow as pa

_LINE = re.compile(r"^LINE \d+:", re.MULTILINE)


def is_spark(url: str) -> bool:
    """Whether it is a standalone master's, Kubernetes' API server's, or that of a managed Spark (Spark Connect)."""
    return urlsplit(url).scheme in {"k8s", "sc", "spark"}


@dataclass(frozen=True, slots=True)
class Work:
    """What workers make of rows, in their own processes, where the same Trilha is installed.

    Args:
        columns: of the query that it takes.
        function: makes what is made of a batch, from `told` and `data`; it is called there by its name.
        told: what it has to know, as text.
        data: what it has to have: a model's bytes, say.
    """

    columns: tuple[str, ...]
    function: Callable[[str, bytes], Callable[[pa.RecordBatch], pa.RecordBatch]]
    told: str
    data: bytes


Watch = Callable[[int, int, int], None]
"""Is told now and then how far workers are: a number for the stage they are at, tasks of it that are done, and how many
there are. Stages have rising numbers."""


class Found(Protocol):
    """What an engine yields for a query."""

    @property
    def schema(self) -> pa.Schema: ...

    def count(self) -> int:
        """How many rows there are, by a query of its own."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as they come, once."""

    def worked(self, work: Work, watch: Watch) -> Iterator[pa.RecordBatch] | None:
        """What workers of the engine make of the rows, in the rows' order; None where it has none."""


class Rows:
    """The rows of a query: how many there are, their schema, and batches that come as the engine makes them.

    Args:
        found: what the engine yields.
        source: what an error calls the query.
        tables: what it may read.
    """

    def __init__(self, found: Found, source: str, tables: Sequence[str]) -> None:
        self.schema = found.schema
        self._found = found
        self._source = source
        self._tables = tables

    def count(self) -> int:
        """How many rows there are; the engine counts them by a query of its own."""
        with _engine_errors(self._source, self._tables):
            return self._found.count()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield from self._ahead(self._found.batches())

    def worked(self, work: Work, watch: Watch = lambda *_: None) -> Iterator[pa.RecordBatch] | None:
        """What workers of the engine make of the rows, in the rows' order; None where it has none.

        Raises:
            ConfigError: a worker cannot do it; and whatever the work itself raises there.
        """
        with _engine_errors(self._source, self._tables):
            made = self._found.worked(work, watch)
        return None if made is None else self._ahead(made)

    def _ahead(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with _engine_errors(self._source, self._tables), ThreadPoolExecutor(1, thread_name_prefix="rows") as engine:
            coming = engine.submit(next, batches, None)  # the engine makes the next one while this one is used
            while (batch := coming.result()) is not None:
                coming = engine.submit(next, batches, None)
                yield batch


@contextmanager
def query(
    url: str, tables: Mapping[str, Sequence[Path]], sql: str, *, order: str | None, source: str, scratch: Path
) -> Iterator[Rows]:
    """The rows that `sql` yields over `tables`, ordered by the column `order` where it has one of that name.

    Memory does not grow with the rows: what an engine sorts or joins beyond it, it writes to `scratch`.

    Args:
        url: `duckdb://`, `spark://HOST:7077`, or what Ibis connects to.
        tables: name -> its Parquet files, whatever their suffix.
        sql: one query in DuckDB's dialect.
        order: a column of the result; None: that of the table, of a query that goes `sql_order.is_row_by_row`.
        source: what an error calls the query.
        scratch: a local folder.

    Raises:
        ConfigError: it reads more than `tables`, its rows depend on more than theirs, or the engine does not accept
            it; its own words are in the error.
    """
    from components.adapters.sql_rules import checked

    text, names = checked(sql, tables, source=source), sorted(tables)
    with ExitStack() as stack:
        with _engine_errors(source, names):
            found = stack.enter_context(_opened(url, tables, text, order, scratch))
        yield Rows(found, source, names)


def _opened(
    url: str, tables: Mapping[str, Sequence[Path]], text: str, order: str | None, scratch: Path
) -> AbstractContextManager[Found]:
    """A checked query on the adapter of its engine."""
    if is_spark(url):
        from components.adapters import spark_sql

        paths = {name: [str(file) for file in files] for name, files in tables.items()}
        return spark_sql.rows_of(url, paths, text, order=order)
    from components.adapters import ibis_sql

    return ibis_sql.rows_of(url, tables, text, order=order, scratch=scratch)


def name_of(url: str) -> str:
    """The kind of engine at `url`, which has answered a query.

    Raises:
        ConfigError, UnavailableError: it cannot be used; no secret in `url` is in the error.
    """
    if is_spark(url):
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
