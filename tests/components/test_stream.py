"""Streams into tables, on a real Redis: what goes where, and that each message is in one commit."""

from __future__ import annotations

import subprocess
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from redis import Redis

from components import config
from components.errors import ConfigError, GateError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.publish import publish
from components.source_settings import StreamTable
from components.stream import Feed, open_topic
from components.stream_metrics import StreamMetrics
from components.tables import contents
from components.validate import validate
from components.workspace import Workspace
from tests.streams import TOPIC, commits, feed_small, held, ids, letters, parcel, wait_for

pytestmark = pytest.mark.slow

Server = tuple[subprocess.Popen[bytes], str]


def send(workspace: Workspace, *messages: bytes) -> None:
    stream = config.load_project("small").file.sources["parcels"]
    assert isinstance(stream, StreamTable)
    topic = open_topic(workspace, stream.stream)
    topic.send(messages)
    topic.close()


def feed(workspace: Workspace, messages: int) -> list[str]:
    """Run the loop until so many messages are in commits; returns what it had to say."""
    project = config.load_project("small")
    source = project.file.sources["parcels"]
    assert isinstance(source, StreamTable)
    over, said, errors = threading.Event(), list[str](), list[Exception]()
    loop = Feed(
        workspace, "small", "parcels", source.stream, project.expectations["parcels"], StreamMetrics("small"), over,
        said.append,
    )  # fmt: skip

    def run() -> None:
        try:
            loop.run()
        except Exception as error:  # noqa: BLE001  # it is raised below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(lambda: errors or sum(fed.messages for fed in commits(workspace.store)) >= messages)
    finally:
        over.set()
        thread.join(60)
    if errors:
        raise errors[0]
    return said


def test_every_message_in_one_commit_in_order(small: Path, redis: Server) -> None:
    """Batches are commits of `main` that follow each other; the next process goes on where the last one ended."""
    workspace = feed_small(small, redis[1])
    send(workspace, *map(parcel, range(250)))
    feed(workspace, 250)
    send(workspace, *map(parcel, range(250, 300)))
    feed(workspace, 300)
    found = commits(workspace.store)
    assert ids(workspace.store) == list(range(300))
    assert [fed.messages for fed in found] == [0, 100, 100, 50, 50]
    assert all(before.next == after.first for before, after in pairwise(found))
    assert workspace.store.branches("stream/") == []
    made = contents(workspace.store, "main", "small")
    assert made is not None
    assert made.tables["parcels"].rows == 300


def test_a_poison_message_is_a_dead_letter(small: Path, redis: Server) -> None:
    """What is no row of the table lies on a branch of its own, with the reason; the messages around it are rows."""
    workspace = feed_small(small, redis[1])
    send(workspace, parcel(0), b"{", parcel(1), parcel(2, distance="far"), parcel(3), b"[]")
    feed(workspace, 6)
    assert ids(workspace.store) == [0, 1, 3]
    found = letters(workspace.store)
    assert [letter["value"] for letter in found] == [b"{", parcel(2, distance="far"), b"[]"]
    assert "truncated" in found[0]["reason"]
    assert "field `distance`" in found[1]["reason"]
    assert all(letter["offset"] for letter in found)
    assert [(fed.messages, fed.rows, fed.dead) for fed in commits(workspace.store)[1:]] == [(6, 3, 3)]
    assert not [entry for entry in workspace.store.ls("main") if ".dead/" in entry.path]


def test_a_field_that_is_no_column_is_told_once(small: Path, redis: Server) -> None:
    """A producer may add one: the rows come as before, and a person hears of it; declared, it is a column from then on."""
    workspace = feed_small(small, redis[1])
    send(workspace, parcel(0), *(parcel(number, depot="x") for number in range(1, 250)))
    said = feed(workspace, 250)
    assert ids(workspace.store) == list(range(250))
    assert [line for line in said if "depot" in line] == [
        "parcels: messages have fields that are no columns: 'depot'; add them to `columns`, or not"
    ]


def test_what_is_too_late(small: Path, redis: Server) -> None:
    """An event older than the newest one of the batches before, by more than the lateness: where the settings say."""
    workspace = feed_small(
        small, redis[1], event_time="sent", lateness=86_400, late="dead", batch={"rows": 2, "seconds": 60}
    )
    days = ["2024-01-05", "2024-01-03", "2024-01-04", "2024-01-03", "2024-01-06", None]
    send(workspace, *(parcel(number, sent=day) for number, day in enumerate(days)))
    feed(workspace, 6)
    assert ids(workspace.store) == [0, 1, 2, 4]  # 1 is of the first batch: out of order, and not late
    assert [letter["reason"] for letter in letters(workspace.store)] == [
        "late: 2 days, 0:00:00 behind the newest event of the batches before", "no event time in `sent`",
    ]  # fmt: skip
    assert [fed.newest for fed in commits(workspace.store)][-1] == "2024-01-06T00:00:00+00:00"
    feed_small(small, redis[1], event_time="sent", batch={"rows": 2, "seconds": 0.2})
    send(workspace, parcel(6, sent="2023-01-01"))
    feed(workspace, 7)
    assert ids(workspace.store) == [0, 1, 2, 4, 6]
    assert commits(workspace.store)[-1].late == 1


def test_rows_that_do_not_meet_the_expectations_stop_it(small: Path, redis: Server) -> None:
    """`main` is as it was, the batch is on its branch; with the expectation corrected, it goes on with that very batch."""
    workspace = feed_small(small, redis[1], batch={"rows": 3, "seconds": 60})
    send(
        workspace, *map(parcel, range(3)), parcel(3), parcel(4, distance=-1), parcel(5), parcel(6), parcel(7), parcel(8)
    )
    with pytest.raises(GateError, match="expect_column_values_to_be_between") as caught:
        feed(workspace, 9)
    (branch,) = workspace.store.branches("stream/")
    assert branch in str(caught.value)
    assert (ids(workspace.store), ids(workspace.store, branch)) == ([0, 1, 2], [0, 1, 2, 3, 4, 5])
    path = small / "config" / "projects" / "small" / "expectations.yaml"
    path.write_text(path.read_text().replace("min_value: 0", "min_value: -1"))
    feed(workspace, 9)
    assert ids(workspace.store) == list(range(9))
    assert workspace.store.branches("stream/") == []


def test_or_it_goes_on_without_them(small: Path, redis: Server) -> None:
    """Where the settings say so: the batch is kept on a branch that its commit names, and the next one is read."""
    workspace = feed_small(small, redis[1], batch={"rows": 3, "seconds": 60}, refused="continue")
    send(workspace, parcel(0), parcel(1, distance=-1), b"{", parcel(3), parcel(4), parcel(5))
    feed(workspace, 6)
    refused = commits(workspace.store)[1].refused
    assert refused is not None
    assert workspace.store.branches("refused/") == [refused]
    assert (ids(workspace.store), ids(workspace.store, refused)) == ([3, 4, 5], [0, 1])
    assert [letter["value"] for letter in letters(workspace.store)] == [b"{"]
    made = contents(workspace.store, "main", "small")
    assert made is not None
    assert made.tables["parcels"].rows == 3


def test_messages_that_are_gone_stop_it(small: Path, redis: Server) -> None:
    """Entries that were trimmed away unread are told by their number; it goes on without them where that is said."""
    workspace = feed_small(small, redis[1])
    send(workspace, *map(parcel, range(10)))
    feed(workspace, 10)
    send(workspace, *map(parcel, range(10, 20)))
    Redis.from_url(redis[1]).xtrim(TOPIC, maxlen=4, approximate=False)
    with pytest.raises(GateError, match="6 entries of stream 'parcels' were trimmed away"):
        feed(workspace, 14)
    feed_small(small, redis[1], lost="continue")
    feed(workspace, 14)
    assert ids(workspace.store) == [*range(10), *range(16, 20)]


def test_a_run_takes_what_is_there_and_the_stream_goes_on(small: Path, redis: Server) -> None:
    """A commit names what was validated; what came meanwhile stays on `main`, and the next run finds it."""
    workspace = feed_small(small, redis[1])
    (small / "more.csv").write_text("a\n1\n")
    path = small / "config" / "projects" / "small" / "project.yaml"
    path.write_text(path.read_text().replace("sources:\n", "sources:\n  more: {path: more.csv}\n"))
    send(workspace, *map(parcel, range(100)))
    feed(workspace, 100)
    project = config.load_project("small")
    sources = project.file.sources
    seen = observe("small", "test", sources)
    send(workspace, *map(parcel, range(100, 200)))
    feed(workspace, 200)
    with running_as("1" * 64):
        raw = ingest("small", "test", sources, seen)
        report = validate("small", "test", raw, project.expectations)
    send(workspace, *map(parcel, range(200, 300)))
    feed(workspace, 300)
    with running_as("2" * 64):
        done = publish("small", "test", raw, report)
    store = workspace.store
    assert (raw.tables, done.tables) == ({"more": 1, "parcels": 100}, {"more": 1, "parcels": 100})
    assert (ids(store, done.id), ids(store)) == (list(range(100)), list(range(300)))
    assert held(store, "main", "more").num_rows == 1
    assert done.id in store.resolve("main").parents
    with running_as("3" * 64):
        again = ingest("small", "test", sources, observe("small", "test", sources))
    assert again.branch == "main"
    assert again.tables == {"more": 1, "parcels": 300}


def test_a_connection_that_no_stream_is_read_from(small: Path) -> None:
    """It is named, with what could be there."""
    with pytest.raises(ConfigError, match="connection 'sensors' of topic 'parcels' is postgres://") as caught:
        feed(feed_small(small, "postgres://127.0.0.1/x"), 1)
    assert caught.value.accepted == "kafka://, redis://, rediss://"


def test_small_files_become_one(small: Path, redis: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows stay as they are and where they are; a state that was observed before is still to be had."""
    monkeypatch.setattr("components.stream_files.MANY", 3)
    monkeypatch.setattr("components.stream_commit.MANY", 3)
    workspace = feed_small(small, redis[1], batch={"rows": 10, "seconds": 60})
    sources, store = config.load_project("small").file.sources, workspace.store
    send(workspace, *map(parcel, range(20)))
    feed(workspace, 20)
    seen = observe("small", "test", sources)
    send(workspace, *map(parcel, range(20, 70)))
    feed(workspace, 70)
    assert ids(store) == list(range(70))
    assert len(store.ls("main", "small/parcels")) == 2
    made = contents(store, "main", "small")
    assert made is not None
    assert made.tables["parcels"].files == {Path(e.path).name: e.sha256 for e in store.ls("main", "small/parcels")}
    with running_as("1" * 64):
        assert ingest("small", "test", sources, seen).tables == {"parcels": 20}


def test_columns_that_are_declared_later(small: Path, redis: Server) -> None:
    """A new one is null in the rows before, another type is cast; what cannot be is refused, and nothing is written."""
    workspace = feed_small(small, redis[1])
    send(workspace, parcel(0), parcel(1, depot="x"))
    feed(workspace, 2)
    path = small / "config" / "projects" / "small" / "project.yaml"
    before = path.read_text()
    path.write_text(before.replace("late: BIGINT", "late: DOUBLE, depot: VARCHAR"))
    send(workspace, parcel(2, depot="y", late=0.5))
    feed(workspace, 3)
    rows = held(workspace.store)
    assert (rows["depot"].to_pylist(), rows["late"].to_pylist()) == ([None, None, "y"], [0.0, 1.0, 0.5])
    head = workspace.store.resolve("main").id
    path.write_text(
        before.replace("city: VARCHAR", "city: DATE").replace("late: BIGINT", "late: DOUBLE, depot: VARCHAR")
    )
    with pytest.raises(ConfigError, match="column 'city' is VARCHAR on main, and cannot become DATE"):
        feed(workspace, 4)
    path.write_text(before)
    with pytest.raises(ConfigError, match="main has a column 'depot', which its stream does not declare"):
        feed(workspace, 4)
    assert workspace.store.resolve("main").id == head


def test_a_table_that_was_ingested_goes_on_as_a_stream(small: Path, redis: Server) -> None:
    """Its rows stay, the stream's come beside them, and the next run finds both."""
    project = config.load_project("small")
    with running_as("1" * 64):
        raw = ingest("small", "test", project.file.sources, observe("small", "test", project.file.sources))
        report = validate("small", "test", raw, project.expectations)
    with running_as("2" * 64):
        publish("small", "test", raw, report)
    workspace = feed_small(small, redis[1])
    send(workspace, *map(parcel, range(5_000, 5_010)))
    feed(workspace, 10)
    sources = config.load_project("small").file.sources
    with running_as("3" * 64):
        again = ingest("small", "test", sources, observe("small", "test", sources))
    assert again.tables == {"parcels": 2_010}
    assert held(workspace.store, again.id).num_rows == 2_010
