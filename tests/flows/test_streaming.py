"""`trilha stream`: the process of a project, from its start to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from redis import Redis

from tests.streams import TOPIC, commits, feed_small, ids, parcel, wait_for

pytestmark = pytest.mark.slow

Server = tuple[subprocess.Popen[bytes], str]


def trilha(repository: Path, *arguments: str, code: int = 0) -> Any:
    """What a command printed for machines."""
    program = "from flows.cli import program; program()"
    done = subprocess.run(
        [sys.executable, "-c", program, "stream", *arguments, "--profile", "test", "--json"],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_in_the_background(small: Path, redis: Server) -> None:
    """It starts once, says how far it is, tells Prometheus, ends after the batch in hand, and goes on when started again."""
    workspace = feed_small(small, redis[1])
    server = Redis.from_url(redis[1])
    for number in range(150):
        server.xadd(TOPIC, {"value": parcel(number)})
    before = trilha(small, "status", "small")
    assert (before["state"], before["tables"][0]["lag"]) == ("stopped", 150)
    process = trilha(small, "start", "small", "--detach")
    try:
        wait_for(lambda: len(ids(workspace.store)) == 150)
        refused = trilha(small, "start", "small", code=4)
        assert f"process {process['pid']} feeds small already" in refused["problem"]
        wait_for(
            lambda: b'trilha_stream_lag{project="small",table="parcels"} 0.0' in urlopen(process["metrics"]).read()
        )
        shown = urlopen(process["metrics"]).read().decode()
        assert 'trilha_stream_messages_total{fate="kept",project="small",table="parcels"} 150.0' in shown
        status = trilha(small, "status", "small")
        assert status["state"] == "running"
        assert {name: status["tables"][0][name] for name in ("messages", "lag", "dead", "batches")} == {
            "messages": 150, "lag": 0, "dead": 0, "batches": 2,
        }  # fmt: skip
    finally:
        stopped = trilha(small, "stop", "small")
    assert stopped == {"stopped": True}
    assert trilha(small, "stop", "small") == {"stopped": False}
    after = trilha(small, "status", "small")
    assert (after["state"], after["said"]) == ("stopped", "stopped")
    server.xadd(TOPIC, {"value": parcel(150)})
    trilha(small, "start", "small", "--detach")
    try:
        wait_for(lambda: len(ids(workspace.store)) == 151)
    finally:
        trilha(small, "stop", "small")
    assert ids(workspace.store) == list(range(151))


def test_why_it_ended(small: Path, redis: Server) -> None:
    """A process that a person has to see to ends with that error, and `status` says it."""
    feed_small(small, redis[1])
    Redis.from_url(redis[1]).xadd(TOPIC, {"value": parcel(0, distance=-1)})
    error = trilha(small, "start", "small", code=5)
    assert "expect_column_values_to_be_between" in error["problem"]
    assert "expect_column_values_to_be_between" in trilha(small, "status", "small")["said"]


@pytest.mark.long
def test_a_server_that_goes_away(small: Path, redis: Server) -> None:
    """It is waited for; what it holds when it is back is read on, or told to be another stream."""
    workspace = feed_small(small, redis[1])
    Redis.from_url(redis[1]).xadd(TOPIC, {"value": parcel(0)})
    process = trilha(small, "start", "small", "--detach")
    wait_for(lambda: len(commits(workspace.store)) == 2)
    redis[0].send_signal(signal.SIGSTOP)
    wait_for(lambda: b'trilha_stream_up{project="small",table="parcels"} 0.0' in urlopen(process["metrics"]).read())
    redis[0].send_signal(signal.SIGCONT)
    Redis.from_url(redis[1]).xadd(TOPIC, {"value": parcel(1)})
    wait_for(lambda: ids(workspace.store) == [0, 1])
    os.kill(process["pid"], signal.SIGKILL)
    assert trilha(small, "status", "small")["said"] == "killed"


def test_replay(small: Path, redis: Server) -> None:
    """The rows of a file are what the topic has then, in their order; a missing value is null."""
    workspace = feed_small(small, redis[1], event_time="sent")
    sent = trilha(small, "replay", "small", "parcels", "data/parcels.csv", "--speed", "100000000")
    assert sent == {"sent": 2_000}
    process = trilha(small, "start", "small", "--detach")
    wait_for(lambda: len(ids(workspace.store)) == 2_000)
    trilha(small, "stop", "small")
    assert ids(workspace.store) == list(range(2_000))
    assert process["pid"]
