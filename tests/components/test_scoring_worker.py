"""A night that a real Spark of a master and two workers answers is the night that this process answers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from components.adapters.spark_sql import session_at
from components.collect import collect
from components.errors import ConfigError
from components.ledger import running_as
from components.pick import pick
from components.records import Release
from components.score import score
from components.scores import BRANCH, Picked, Predictions, Scored
from components.scoring_batch import asked_of, graph_of
from components.scoring_worker import Told, work_of
from components.sql_engine import Work, query
from components.tables import local_files
from components.workspace import Workspace
from tests.examples import commit_tables
from tests.flights import QUERY, ROWS, flights, place_flights
from tests.spark import Spark, on_spark
from tests.triton import Fitted, release_of

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("spark")]

TIMES = 40
MANY = f"""
    select f.flight || '-' || n.n as flight, carrier, origin, distance + n.n as distance, wind, hour
    from flights as f cross join (select unnest(range({TIMES})) as n) as n"""
GROUPS = """
    select flight, max(carrier) as carrier, min(origin) as origin, max(distance) as distance, max(wind) as wind,
           max(hour) as hour from flights group by flight"""


@pytest.fixture(scope="module")
def session(spark: Spark) -> Iterator[Spark]:
    """The cluster, with one session for all who ask for it, which cuts small tables too."""
    with session_at(f"{spark.url}&spark.sql.adaptive.enabled=false&spark.sql.shuffle.partitions=12"):
        yield spark


@pytest.fixture
def release(repository: Path, workspace: Workspace, fitted: Fitted) -> Release:
    """A release, and the data on `main`: files in which the rows are in no order of their keys."""
    place_flights(repository)
    table = flights().take(np.random.default_rng(1).permutation(ROWS))
    commit_tables(workspace, {"flights": [table.slice(0, 700), table.slice(700, 3_900), table.slice(4_600)]}, "flights")
    return release_of(workspace, fitted)


@pytest.fixture
def to_spark(repository: Path, session: Spark, release: Release) -> Callable[[], Workspace]:
    """Lets profile `test` have Spark from now on."""
    return partial(on_spark, repository, session.url)


def picked_in(query: str) -> Picked:
    return pick("flights", "test", None, None, query, ("origin", "hour"))


def scored_in(picked: Picked, key: str, query: str, shard: int = 0, shards: int = 1) -> Scored:
    with running_as(key * 64):
        return score("flights", "test", picked, query, ("origin", "hour"), 1_000, "onnxruntime", shard, shards)


def collected(picked: Picked, scored: list[Scored], key: str = "c") -> Predictions:
    with running_as(key * 64):
        return collect("flights", "test", picked, scored)


@pytest.mark.parametrize(
    "query",
    [
        QUERY,
        "select * from flights where hour <> 3",
        GROUPS,
    ],
    ids=["rows", "some rows", "groups"],
)
def test_the_very_same_night(workspace: Workspace, to_spark: Callable[[], Workspace], query: str) -> None:
    """File by file, byte by byte: the answers, what stands beside them, and the receipts, also of rows in no order; in one shard."""
    picked = picked_in(query)
    here = collected(picked, [scored_in(picked, "a", query)])
    entries = workspace.store.ls(BRANCH, "flights")
    workspace.store.delete_branch(BRANCH)
    to_spark()
    shards = [scored_in(picked, "b", query, shard, 2) for shard in range(2)]
    assert len(shards[1].parts) == 0  # executors are side by side already
    there = collected(picked, shards, "d")
    assert workspace.store.ls(BRANCH, "flights") == entries
    assert (there.tree, there.rows) == (here.tree, here.rows)


def test_how_far_workers_are(
    to_spark: Callable[[], Workspace], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told of the tasks of the stage that they are at, and then of the rows that are written."""
    monkeypatch.setattr("components.progress.ELSEWHERE", 0.0)
    to_spark()
    scored_in(picked_in(MANY), "a", MANY)
    lines = capsys.readouterr().err.splitlines()
    found = [re.fullmatch(r"  score, workers at stage (\d+)  (\d+) of (\d+) tasks \(.*", line) for line in lines]
    stages = [tuple(map(int, one.groups())) for one in found if one]
    assert stages == sorted(stages)
    assert all(done <= tasks for _, done, tasks in stages)
    assert 12 in {tasks for _, _, tasks in stages}  # those that answer
    assert f"  score  {ROWS * TIMES:,} of {ROWS * TIMES:,} rows (100%)" in lines[-1]
    assert not any(found[len(stages) :])


def test_one_session_a_process(session: Spark, release: Release, workspace: Workspace) -> None:
    """However many batches and partitions a worker's process answers."""
    work = work_of(asked_of(release, ("wind",)), graph_of(workspace, release))
    told, graph = work.told, work.data

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Runs on the workers, which cannot import tests."""
        import os

        from components.scoring_worker import asking, worker

        for _ in batches:
            worker(told, graph)
            yield pa.RecordBatch.from_pydict({"pid": [os.getpid()], "opened": [asking.cache_info().misses]})

    with session_at(session.url) as spark:
        made: Any = spark.range(0, 24, 1, 24)
        found = made.mapInArrow(look, "pid long, opened long").collect()
    assert len(found) == 24
    processes = {row.pid for row in found}
    assert len(processes) < len(found)
    assert len({(row.pid, row.opened) for row in found}) == len(processes)


def worked(session: Spark, workspace: Workspace, release: Release, work: Work) -> Iterator[pa.RecordBatch]:
    tables = local_files(workspace.store, workspace.store.resolve("main").id, "flights")
    with query(session.url, tables, QUERY, order="flight", source="features.sql", scratch=workspace.home) as rows:
        made = rows.worked(work)
        assert made is not None
        yield from made


def test_what_a_worker_lacks(session: Spark, release: Release, workspace: Workspace) -> None:
    """Another ONNX Runtime, or no Trilha: named once, and not tried again and again."""
    asked = asked_of(release, ())
    work = work_of(asked, graph_of(workspace, release))
    older = Work(work.columns, work.function, Told(asked=asked, runtime="1.0").model_dump_json(), work.data)
    with pytest.raises(ConfigError, match=r"a worker of the SQL engine has ONNX Runtime .*accepted: 1\.0"):
        list(worked(session, workspace, release, older))

    def strange(told: str, data: bytes) -> Any: ...

    strange.__module__ = "trilha_of_tomorrow"
    with pytest.raises(ConfigError, match="a worker of Spark: No module named 'trilha_of_tomorrow'.*same image"):
        list(worked(session, workspace, release, Work(work.columns, strange, work.told, work.data)))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (QUERY.replace("hour from", "'noon' as hour from"), "features.sql: input 'hour' is string"),
        (QUERY.replace(", hour from", " from"), "no column 'hour'"),
    ],
)
def test_rows_that_cannot_be_answered(to_spark: Callable[[], Workspace], query: str, words: str) -> None:
    """The same words as where this process answers."""
    to_spark()
    with pytest.raises(ConfigError, match=words):
        scored_in(picked_in(query), "a", query)


@pytest.mark.timeout(300)
def test_a_worker_is_killed_while_it_answers(
    workspace: Workspace, session: Spark, to_spark: Callable[[], Workspace]
) -> None:
    """With all that it had answered: the other one answers it again, and every row is there once, bit for bit."""
    picked = picked_in(MANY)
    here = collected(picked, [scored_in(picked, "a", MANY)])
    entries = workspace.store.ls(BRANCH, "flights")
    workspace.store.delete_branch(BRANCH)
    to_spark()
    lost, killed = psutil.Process(session.workers[0].pid), threading.Event()

    def kill() -> None:
        while not killed.is_set():
            python = [one for one in lost.children(recursive=True) if "pyspark.daemon" in " ".join(_command(one))]
            if any(sum(one.cpu_times()[:2]) > 1 for one in python):  # it has opened the graph, and answers
                for process in (*lost.children(recursive=True), lost):
                    process.kill()
                killed.set()
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        scored = scored_in(picked, "b", MANY)
    finally:
        was_killed = killed.is_set()
        killed.set()
        killer.join()
    assert was_killed
    there = collected(picked, [scored], "d")
    assert there.rows == ROWS * TIMES
    assert (there.tree, there.night) == (here.tree, here.night)
    assert workspace.store.ls(BRANCH, "flights") == entries


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # gone, or a zombie
        return []
