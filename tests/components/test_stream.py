"""Streams into tables, on a real Redis: what goes where, and that each message is in one commit."""

from __future__ import annotations

import subprocess
import threading
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
    over, said, errors = threading.Event(), list[str](), list[BaseException]()
    loop = Feed(
        workspace, "small", "parcels", source.stream, project.expectations["parcels"], StreamMetrics("small"), over,
        said.append,
    )  # fmt: skip

    def run() -> None:
        try:
            loop.run()
        except BaseException as error:
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
    assert all(before.next == after.first for before, after in zip(found, found[1:], strict=False))
    assert workspace.store.branches("stream/") == []
    made = contents(workspace.store, "main", "small")
    assert made is not None
    assert made.tables["parcels"].rows == 300
