"""The same SQL on DuckDB and on a real Spark of a master and two workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.adapters.spark_sql import session_at
from components.errors import ConfigError, UnavailableError
from components.project import RandomSplit
from components.records import digest
from components.sql_engine import query
from components.workspace import Workspace
from tests.examples import FEATURES, SPLIT, commit_tables, parcels, prepare_as
from tests.spark import Spark, on_spark
from tests.triton import free_ports

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("spark")]

ROWS = 20_000


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Orders in four files, and customers, with missing values."""
    folder, draw = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    days = [date(2026, 1, 1 + int(day)) for day in draw.integers(0, 28, ROWS)]
    orders = pa.table({
        "id": [f"o{number:06}" for number in range(ROWS)],
        "customer": pa.array([None if one == 7 else int(one) for one in draw.integers(0, 500, ROWS)], pa.int64()),
        "day": days,
        "at": pa.array(days).cast(pa.timestamp("us")),
        "items": pa.array(draw.integers(1, 9, ROWS), pa.int32()),
        "price": pa.array([None if one < 0.01 else round(float(one), 2) for one in draw.random(ROWS)], pa.float64()),
    })  # fmt: skip
    customers = pa.table({"customer": range(500), "city": [["Évora", "porto", None][one % 3] for one in range(500)]})
    made: dict[str, list[Path]] = {"orders": [], "customers": [folder / "customers"]}
    for number in range(4):
        made["orders"].append(folder / f"orders-{number}")  # as the store has them, without a suffix
        pq.write_table(orders.slice(number * ROWS // 4, ROWS // 4), made["orders"][-1])
    pq.write_table(customers, made["customers"][0])
    return made


def rows(url: str, tables: dict[str, list[Path]], sql: str, scratch: Path) -> pa.Table:
    with query(url, tables, sql, order="id", source="features.sql", scratch=scratch) as found:
        return pa.Table.from_batches(list(found), found.schema)


@pytest.fixture(scope="module")
def session(spark: Spark) -> Iterator[Spark]:
    """The cluster, with one session for all who ask for it: executors start once."""
    with session_at(spark.url):
        yield spark


def test_no_master(tables: dict[str, list[Path]], tmp_path: Path) -> None:
    """Told at once, where Spark would wait for minutes."""
    with pytest.raises(UnavailableError, match="refused"):
        rows(f"spark://127.0.0.1:{free_ports(1)[0]}", tables, "select id from orders", tmp_path)


QUERIES = {
    "join": """
        select id, city, price / items as each, at, extract(month from at) as month, date_diff('day', date '2026-01-01', day) as days
        from orders left join customers using (customer) where items <> 3""",
    "aggregate": """
        with busy as (select customer from orders group by customer having count(*) > 40)
        select city as id, count(*) as n, count(busy.customer) as busy, count(*) filter (where items > 4) as large, sum(items) as items,
               min(price) as least, max(day) as latest
        from orders join customers using (customer) left join busy using (customer)
        where city is not null group by all""",
    "window": """
        select id, row_number() over (partition by customer order by at, id) as nth,
               lag(items) over (partition by customer order by at, id) as before,
               coalesce(price, -1) as price, upper(id) as shout, items::double as many, items % 3 as left_over
        from orders""",
}


@pytest.mark.parametrize("name", QUERIES)
def test_equal_rows(session: Spark, tables: dict[str, list[Path]], tmp_path: Path, name: str) -> None:
    """Joins, aggregates, windows and casts in DuckDB's dialect yield the same rows, in the same order, on both."""
    here, there = (rows(url, tables, QUERIES[name], tmp_path) for url in ("duckdb://", session.url))
    assert here.num_rows > 0
    assert there.column_names == here.column_names
    for column in here.column_names:
        assert there[column].cast(here[column].type).to_pylist() == here[column].to_pylist(), column


@pytest.mark.parametrize(
    "split", [SPLIT, RandomSplit(by="random", key="id", valid=0.2, test=0.2)], ids=["time", "hash"]
)
def test_the_same_record(session: Spark, repository: Path, workspace: Workspace, split: object) -> None:
    """`prepare` on Spark writes the very bytes that it writes on DuckDB: the profile alone says where it ran."""
    commit = commit_tables(workspace, {"parcels": [parcels(1_500), parcels(3_000)[1_500:]]})
    here = prepare_as(workspace, commit, features=FEATURES, split=split)
    there = prepare_as(on_spark(repository, session.url), commit, key="b", features=FEATURES, split=split)
    assert digest(there) == digest(here)


def test_a_query_that_spark_refuses(session: Spark, tables: dict[str, list[Path]], tmp_path: Path) -> None:
    """Spark's own words, with the file that the query is in."""
    with pytest.raises(ConfigError, match="^features.sql: .*pricce") as caught:
        rows(session.url, tables, "select id, pricce from orders", tmp_path)
    assert caught.value.next_step == "correct features.sql"


def test_no_java(tables: dict[str, list[Path]], tmp_path: Path) -> None:
    """Named, with what to do."""
    program = (
        "from components.adapters.spark_sql import session_at\n"
        "try:\n    session_at('k8s://127.0.0.1:1').__enter__()\nexcept Exception as error: print(error)"
    )
    bare = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"} | {"PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=bare, capture_output=True, text=True, timeout=60, check=False
    )
    assert "a Java 17 or 21" in done.stdout


def test_a_worker_is_killed(session: Spark, tables: dict[str, list[Path]], tmp_path: Path) -> None:
    """In the middle of a job, with all that it had computed: the other one does it again, and the rows are the same."""
    sql = "select o.id || '-' || n.n as id, o.items * n.n as many from orders o cross join (select unnest(range(40)) as n) n"
    here = rows("duckdb://", tables, sql, tmp_path)
    with query(session.url, tables, sql, order="id", source="features.sql", scratch=tmp_path) as found:
        batches = iter(found)
        read = [next(batches)]
        lost = psutil.Process(session.workers[0].pid)
        for process in (*lost.children(recursive=True), lost):
            process.kill()
        read += batches
        there = pa.Table.from_batches(read, found.schema)
    assert there.num_rows == ROWS * 40
    assert there.cast(here.schema).equals(here)
