"""SQL on Apache Spark: the query of DuckDB's dialect, transpiled; its rows come back partition by partition, as Arrow.

Workers need a Python of this minor version with pyarrow, and have to reach the tables' files by the paths or URLs that
they have here.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from components.adapters.sql_rules import DIALECT
from components.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

PORTS = {"spark": 7077, "sc": 15002}
"""Of what is asked directly, where the URL names none: a master, or a server of Spark Connect."""


class SparkRows:
    """The rows of a data frame."""

    def __init__(self, found: DataFrame) -> None:
        from pyspark.sql.pandas.types import to_arrow_schema

        self.schema: pa.Schema = to_arrow_schema(found.schema)
        self._found = found

    def count(self) -> int:
        """How many there are."""
        return self._found.count()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as Arrow's own bytes: one partition is in memory at a time, and no row becomes a Python object."""
        import pyarrow as pa

        def pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            """Runs on the workers, where Trilha is not."""
            import pyarrow as pa

            for batch in batches:
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema) as writer:
                    writer.write_batch(batch)
                yield pa.RecordBatch.from_pydict({"packed": pa.array([sink.getvalue().to_pybytes()], pa.binary())})

        packed: Any = self._found.mapInArrow(pack, "packed binary")
        for row in packed.toLocalIterator():
            with pa.ipc.open_stream(pa.py_buffer(row.packed)) as reader:
                yield from reader


@contextmanager
def rows_of(url: str, tables: Mapping[str, Sequence[str]], query: str, *, order: str | None) -> Iterator[SparkRows]:
    """What `query` yields, ordered by the column `order` where it has one of that name, a partition at a time.

    Args:
        url: `spark://HOST:7077`, `k8s://HOST:6443` or `sc://HOST:15002`; `?spark.executor.memory=2g&...` are settings
            of Spark's own.
        tables: name -> its Parquet files, by paths or URLs that the workers reach.
        query: one that `sql_rules.checked` let through.
        order: a column of the result; None: as the workers have them.
    """
    import sqlglot

    with session_at(url) as session:
        for name, files in tables.items():
            session.read.parquet(*files).createOrReplaceTempView(name)
        (text,) = sqlglot.transpile(query, read=DIALECT, write="spark")
        found = session.sql(text)
        yield SparkRows(found.orderBy(order) if order in found.columns else found)


def name_of(url: str) -> str:
    """What Spark at `url` is, which has run a job.

    Raises:
        ConfigError, UnavailableError: as `session_at`.
    """
    with session_at(url) as session:
        session.sql("select 1").collect()
        return f"Spark {session.version}"


@contextmanager
def session_at(url: str) -> Iterator[SparkSession]:
    """The session that is open, or one of one's own, which ends with the block.

    Raises:
        ConfigError: pyspark or Java is missing.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ConfigError(
            f"SQL engine {url.partition('?')[0]}: {error}", next_step="pip install 'trilha[spark]', and a Java 17 or 21"
        ) from error
    there = SparkSession.getActiveSession()
    if there is not None:
        yield there
        return
    address, settings = _settings(url)
    where = address.partition(";")[0]  # Spark Connect's token comes after it
    _check_answers(where)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable if _is_here(address) else "python3")
    builder = SparkSession.builder.appName("trilha")
    builder = builder.remote(address) if address.startswith("sc:") else builder.master(address)
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except PySparkException as error:
        raise ConfigError(
            f"SQL engine {where}: {str(error).splitlines()[0].replace(address, where)}",
            accepted="a Spark that answers there, and a Java 17 or 21 here",
            next_step="correct `sql` in the profile, or JAVA_HOME",
        ) from None  # Spark's own error may have the token in it
    try:
        yield session
    finally:
        session.stop()


def _check_answers(address: str) -> None:
    """See that a master or a server answers, for which Spark itself would wait for minutes.

    Raises:
        UnavailableError: it does not.
    """
    parts = urlsplit(address)
    if parts.scheme not in PORTS:
        return
    try:
        socket.create_connection((parts.hostname or "", parts.port or PORTS[parts.scheme]), timeout=10).close()
    except OSError as error:
        raise UnavailableError(
            f"SQL engine {address}: {error.strerror or error}",
            accepted="a Spark that answers there",
            next_step="start it, or correct `sql` in the profile",
        ) from error


def _settings(url: str) -> tuple[str, dict[str, str]]:
    """The address, and Spark's settings: rows and times that are the same everywhere, no page that listens."""
    parts = urlsplit(url)
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "131072",
    }
    host = parts.hostname or ""
    if _is_here(url):
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    settings |= dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    scheme = "k8s://https" if parts.scheme == "k8s" else parts.scheme
    return f"{scheme}://{parts.netloc or host}{parts.path}", settings


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in {"127.0.0.1", "localhost"}
