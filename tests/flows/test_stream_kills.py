"""`kill -9` of a stream at each step of a commit and at any moment: each message is in one commit all the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components import config
from components.ports import DataStore
from components.retention import collect
from components.stream import open_topic
from components.workspace import Workspace
from tests.children import dying_with_us
from tests.kafka import Kafka
from tests.lakefs_server import Own, hidden, on_server
from tests.streams import TOPIC, commits, feed_small, ids, letters, parcel, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]

NURSERY = """
import functools, importlib, os, signal, sys
import great_expectations, pandas, pyarrow.parquet  # what takes seconds, once for all children
import components.adapters.git_store, components.adapters.great_expectations, components.adapters.kafka_stream
import components.adapters.lakefs_store
import components.adapters.redis_stream, components.stream, components.validate
from flows import streaming

def arm(place, when, count):
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    owner = functools.reduce(getattr, outer, importlib.import_module(module))
    function, calls = getattr(owner, name), []

    @functools.wraps(function)
    def call(*arguments, **named):
        calls.append(name)
        if when == "before" and len(calls) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if when == "after" and len(calls) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, call)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        if line.strip():
            arm(*line.split())
        sys.argv = ["streaming", "small", "--profile", "test"]
        try:
            streaming.main()
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

STORE = "components.adapters.git_store:GitStore"
TABLE = "components.stream_commit:StreamTable"
POINTS = (
    (f"{STORE}.branch", "before", 1),  # nothing is there
    (f"{STORE}.branch", "after", 1),  # a branch with nothing on it
    (
        "components.adapters.object_folder:ObjectFolder.take",
        "after",
        1,
    ),  # the bytes are in the store, no commit has them
    (f"{STORE}.commit", "after", 1),  # the batch is on its branch
    (f"{TABLE}._judge", "before", 1),
    (f"{TABLE}._judge", "after", 1),
    (f"{STORE}.branch", "after", 2),  # the rows that were refused have their branch
    (f"{STORE}.commit", "after", 2),  # the letters are on theirs
    (f"{STORE}.commit", "after", 3),  # what does not go to main is taken out
    (f"{STORE}.merge", "before", 1),
    (f"{STORE}.merge", "after", 1),  # main has it, the branch is still there
    (f"{STORE}.delete_branch", "after", 1),
    (f"{STORE}.merge", "after", 2),  # of the second batch
)
LAKEFS, LANDING = "components.adapters.lakefs_store:LakeFSStore", "components.adapters.lakefs_landing:Landing.land"
UPLOADS = "components.adapters.lakefs_uploads:Uploads.send"
ON_LAKEFS = (
    (UPLOADS, "after", 1),  # the bytes are on a hidden branch, uncommitted
    (LANDING, "before", 1),  # they are committed there, and the batch's own branch has none of it
    (LANDING, "after", 1),  # it has, and the hidden branch is still there
    (f"{LAKEFS}.commit", "after", 2),  # the letters are on their branch
    (f"{LAKEFS}.merge", "after", 1),  # main has it, the branch is still there
)


class Nursery:
    """Starts the process of `small` again and again."""

    def __init__(self, repository: Path) -> None:
        log = (repository / "stream.log").open("ab")
        self._program = subprocess.Popen(
            dying_with_us([sys.executable, "-c", NURSERY]),
            cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip

    def start(self, *point: object) -> int:
        """The PID of a child, which dies at `point` where there is one."""
        assert self._program.stdin is not None
        self._program.stdin.write(" ".join(map(str, point)) + "\n")
        self._program.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """Wait for the child; returns its exit code."""
        return int(self._line())

    def close(self) -> None:
        self._program.kill()
        self._program.wait()

    def _line(self) -> str:
        assert self._program.stdout is not None
        line = self._program.stdout.readline()
        assert line, "the nursery is gone"
        return line


@contextmanager
def nursery(repository: Path) -> Iterator[Nursery]:
    made = Nursery(repository)
    try:
        yield made
    finally:
        made.close()


def mixed(first: int, count: int) -> list[bytes]:
    """Messages of which one in ten is no row, and one in thirty has a row refused, with those beside it."""
    return [
        parcel(number, distance="far") if number % 10 == 3 else parcel(number, distance=-1 if number % 30 == 7 else 1)
        for number in range(first, first + count)
    ]


def everywhere(store: DataStore) -> list[int]:
    """The numbers of all messages, wherever they went, sorted."""
    found = ids(store) + [json.loads(letter["value"])["id"] for letter in letters(store)]
    for fed in commits(store):
        if fed.refused:
            (path,) = (one.path for one in store.ls(fed.refused, "small/parcels") if f"/{fed.number:010}-" in one.path)
            found += pq.read_table(store.local(fed.refused, path))["id"].to_pylist()
    return sorted(found)


def check(workspace: Workspace, count: int) -> None:
    """Each of the messages is in one commit, and the commits follow each other without a gap."""
    store, found = workspace.store, commits(workspace.store)
    assert everywhere(store) == list(range(count))
    assert [fed.number for fed in found] == list(range(len(found)))
    assert all(before.next == after.first for before, after in pairwise(found))
    assert sum(fed.messages for fed in found) == count
    assert any(fed.refused for fed in found)
    assert any(fed.dead for fed in found)
    assert store.branches("stream/") == []


def send(workspace: Workspace, messages: list[bytes]) -> None:
    source: Any = config.load_project("small").file.sources["parcels"]
    topic = open_topic(workspace, source.stream)
    topic.send(messages)
    topic.close()


def finish(born: Nursery, workspace: Workspace, count: int) -> None:
    """Let a last process read to the end, and end in good order."""
    child = born.start()
    wait_for(lambda: sum(fed.messages for fed in commits(workspace.store)) >= count)
    os.kill(child, signal.SIGTERM)
    assert born.end() == 0


def kill_at_each_step(repository: Path, url: str, points: Sequence[tuple[str, str, int]] = POINTS) -> Workspace:
    workspace = feed_small(repository, url, refused="continue", batch={"rows": 20, "seconds": 0.2})
    with nursery(repository) as born:
        sent = 0
        for point in points:
            send(workspace, mixed(sent, 60))
            sent += 60
            born.start(*point)
            assert born.end() == -signal.SIGKILL, point
        finish(born, workspace, sent)
    check(workspace, sent)
    return workspace


def kill_at_random(repository: Path, url: str, rounds: int, between: Callable[[int], None] = lambda _: None) -> None:
    workspace = feed_small(repository, url, refused="continue", batch={"rows": 50, "seconds": 0.2})
    draw, over, sent = random.Random(11), threading.Event(), [0]

    def produce() -> None:
        while not over.wait(0.02):
            try:
                send_some()
            except Exception:  # noqa: BLE001  # the server is being killed, too: what it took is asked below
                over.wait(0.2)

    source: Any = config.load_project("small").file.sources["parcels"]
    topic = open_topic(workspace, source.stream)

    def send_some() -> None:
        topic.send(mixed(sent[0], 10))
        sent[0] += 10

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        with nursery(repository) as born:
            for number in range(rounds):
                child = born.start()
                time.sleep(draw.uniform(0.05, 1.2))
                between(number)
                os.kill(child, signal.SIGKILL)
                assert born.end() == -signal.SIGKILL
            over.set()
            producer.join()
            finish(born, workspace, sent[0])
    finally:
        over.set()
        producer.join()
        topic.close()
    check(workspace, sent[0])


Server = tuple[subprocess.Popen[bytes], str]


def test_at_each_step_on_redis(small: Path, redis: Server) -> None:
    """Whoever comes next finishes what is half done, or does it anew."""
    kill_at_each_step(small, redis[1])


def test_at_random_on_redis(small: Path, redis: Server) -> None:
    """At any moment, with messages coming all the while."""
    kill_at_random(small, redis[1], rounds=5)


@pytest.mark.lakefs
def test_at_each_step_on_lakefs(on_lakefs: Workspace, small: Path, redis: Server) -> None:
    """Likewise on a lakeFS server; then `trilha gc` takes what the kills left, and all messages are there still."""
    workspace = kill_at_each_step(small, redis[1], ON_LAKEFS)
    assert hidden(on_lakefs)
    before = everywhere(workspace.store)
    assert "upload" in {one.kind for one in collect(workspace, time.time() + 60).found["data"]}
    assert not hidden(on_lakefs)
    assert everywhere(workspace.store) == before


@pytest.mark.lakefs
def test_a_lakefs_that_dies_and_comes_back(
    own_lakefs: Own, small: Path, redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the store that is killed, at any moment of a batch: one process of ours waits for it, and goes on by itself."""
    for name, value in own_lakefs.server.credentials.items():
        monkeypatch.setenv(name, value)
    on_server(small, own_lakefs.server.url, "parcels")
    workspace = feed_small(small, redis[1], refused="continue", batch={"rows": 50, "seconds": 0.2})
    draw, rounds = random.Random(5), 6

    def read() -> int:
        return sum(fed.messages for fed in commits(workspace.store))

    with nursery(small) as born:
        child = born.start()
        for number in range(rounds):
            send(workspace, mixed(300 * number, 300))
            wait_for(lambda before=300 * number: read() > before)
            time.sleep(draw.uniform(0.0, 1.0))
            own_lakefs.kill()
            time.sleep(draw.uniform(0.0, 1.0))
            own_lakefs.start()
        wait_for(lambda: read() == 300 * rounds)
        os.kill(child, signal.SIGTERM)
        assert born.end() == 0
    check(workspace, 300 * rounds)
    assert (small / "stream.log").read_text().count("trying again in 0.5 s") > 1  # each time anew


@pytest.mark.xdist_group("kafka")
def test_at_each_step_on_kafka(small: Path, one_kafka: Kafka) -> None:
    """Likewise, from three partitions."""
    one_kafka.make(TOPIC, 3)
    kill_at_each_step(small, one_kafka.url)


def test_at_random_on_kafka_whose_broker_dies_as_well(small: Path, own_kafka: Kafka) -> None:
    """The broker is killed and started again between kills of ours; what it had taken is read once."""
    own_kafka.make(TOPIC, 3)

    def between(number: int) -> None:
        if number % 4 == 2:
            own_kafka.kill()
            own_kafka.start()

    kill_at_random(small, own_kafka.url, 5, between)
