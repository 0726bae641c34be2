"""SQL on Apache Spark: the query of DuckDB's dialect, transpiled; its rows come back partition by partition, as Arrow.

Workers need a Python of this minor version with pyarrow, and have to reach the tables' files by the paths or URLs that
they have here. Those that make something of the rows (`SparkRows.worked`) need Trilha as well.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from components.adapters.spark_progress import watched
from components.adapters.sql_rules import DIALECT
from components.errors import ConfigError, UnavailableError, rebuilt

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from components.sql_engine import Watch, Work

FILE, PLACE = "trilha_file", "trilha_place"
"""Columns of a table whose order is kept: which of its files, and which row of it."""
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

        def pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            """Runs on the workers, where Trilha need not be."""
            import pyarrow as pa

            for batch in batches:
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema) as writer:
                    writer.write_batch(batch)
                yield pa.RecordBatch.from_pydict({"packed": pa.array([sink.getvalue().to_pybytes()], pa.binary())})

        yield from _unpacked(self._found.mapInArrow(pack, "packed binary"))

    def worked(self, work: Work, watch: Watch) -> Iterator[pa.RecordBatch]:
        """What the executors make of the rows.

        All of it is made first, on all executors, which keep it on their disks; then it comes a partition at a time.
        What an executor took with it is made again by another one: from the same rows, since each has one place in the
        order. So every row is there once, however often a task was tried.
        """
        from pyspark import StorageLevel

        name, told, data = f"{work.function.__module__}:{work.function.__qualname__}", work.told, work.data

        def there(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            """Runs on the workers. An error of ours is a row: Spark would try it again, and tell it as its own."""
            import importlib
            import json

            import pyarrow as pa

            make: Any = None
            for batch in batches:
                if not batch.num_rows:
                    continue
                packed = refused = None
                try:
                    if make is None:
                        module, _, function = name.partition(":")
                        make = getattr(importlib.import_module(module), function)(told, data)
                    made = make(batch)
                    sink = pa.BufferOutputStream()
                    with pa.ipc.new_stream(sink, made.schema) as writer:
                        writer.write_batch(made)
                    packed = sink.getvalue().to_pybytes()
                except ImportError as error:
                    refused = {"error": "ConfigError", "problem": f"a worker of Spark: {error}", "details": ""}
                    refused |= {"accepted": "the Trilha that runs here", "next": "let workers have the same image"}
                except Exception as error:
                    if not hasattr(error, "as_dict"):
                        raise
                    refused = error.as_dict()
                said = refused and json.dumps(refused)
                row = {"packed": pa.array([packed], pa.binary()), "refused": pa.array([said], pa.string())}
                yield pa.RecordBatch.from_pydict(row)

        made = self._found.select(*work.columns).mapInArrow(there, "packed binary, refused string")
        made = made.persist(StorageLevel.DISK_ONLY)
        try:
            with watched(made.sparkSession, watch):
                (said,) = made.selectExpr("min(refused)").collect()  # has all partitions made, side by side
            if said[0] is not None:
                raise rebuilt(json.loads(said[0]))
            yield from _unpacked(made)
        finally:
            made.unpersist()


def _unpacked(packed: Any) -> Iterator[pa.RecordBatch]:
    """The batches that workers packed, a partition after the other."""
    import pyarrow as pa

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
        order: a column of the result; None: that of the table's rows, of a query that is `sql_order.is_row_by_row`.
    """
    import sqlglot
    from sqlglot import exp

    with session_at(url) as session:
        for name, files in tables.items():
            table = session.read.parquet(*files)
            (_placed(session, table, files) if order is None else table).createOrReplaceTempView(name)
        tree = sqlglot.parse_one(query, read=DIALECT)
        if order is None and isinstance(tree, exp.Select) and not tree.is_star:
            tree = tree.select(FILE, PLACE)
        found = session.sql(tree.sql(dialect="spark"))
        if order is None:
            found = found.orderBy(FILE, PLACE).drop(FILE, PLACE)
        yield SparkRows(found.orderBy(order) if order in found.columns else found)


def _placed(session: SparkSession, table: DataFrame, files: Sequence[str]) -> DataFrame:
    """A table whose rows say where they lie; Spark reads the largest files first."""
    from pyspark.sql.functions import broadcast

    known = session.createDataFrame([*zip(files, range(len(files)), strict=True)], f"trilha_path string, {FILE} int")
    path = "regexp_replace(_metadata.file_path, '^file:/+', '/') as trilha_path"
    rows = table.selectExpr("*", path, f"_metadata.row_index as {PLACE}").join(broadcast(known), "trilha_path", "left")
    number = f"coalesce({FILE}, raise_error('a file that nobody asked for: ' || trilha_path)) as {FILE}"
    return rows.selectExpr(*(f"`{name}`" for name in (*table.columns, PLACE)), number)


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
        os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)  # left by Spark Connect, it refuses any other session


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
    """The address, and Spark's settings: rows and times that are the same everywhere, no page that listens.

    A server of Spark Connect has settings of its own for what is not a session's.
    """
    parts = urlsplit(url)
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "131072",
    }
    host, drives = parts.hostname or "", parts.scheme != "sc"
    if drives:
        settings |= {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
    if drives and _is_here(url):
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    settings |= dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    scheme = "k8s://https" if parts.scheme == "k8s" else parts.scheme
    return f"{scheme}://{parts.netloc or host}{parts.path}", settings


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in {"127.0.0.1", "localhost"}
