"""`trilha stream`: the process of a project, from its start to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from redis import Redis
from typer.testing import CliRunner

from components.adapters.redis_stream import open_topic
from components.errors import ConfigError, ConflictError, GateError
from flows.cli import app
from tests.streams import TOPIC, commits, feed_small, ids, parcel, wait_for

pytestmark = pytest.mark.slow

Server = tuple[subprocess.Popen[bytes], str]


def trilha(*arguments: str) -> Any:
    """What a command prints for machines."""
    done = CliRunner().invoke(app, ["stream", *arguments, "--profile", "test", "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def shown(process: dict[str, Any]) -> list[str]:
    """What Prometheus is told."""
    return urlopen(process["metrics"]).read().decode().splitlines()


def test_in_the_background(small: Path, redis: Server) -> None:
    """It runs once, says how far it is, here and to Prometheus, and ends after the batch in hand."""
    workspace = feed_small(small, redis[1], batch={"rows": 100, "seconds": 60})
    (small / "config" / "projects" / "small" / "expectations.yaml").write_text("tables: {}\n")  # it starts sooner
    server = Redis.from_url(redis[1])
    for number in range(150):
        server.xadd(TOPIC, {"value": parcel(number)})
    before = trilha("status", "small")
    assert (before["state"], before["said"], before["tables"][0]["lag"]) == ("stopped", "not running here", 150)
    process = trilha("start", "small", "--detach")
    try:
        wait_for(lambda: len(ids(workspace.store)) == 100)
        with pytest.raises(ConflictError, match=f"process {process['pid']} feeds small already"):
            trilha("start", "small")
        wait_for(lambda: 'trilha_stream_lag{project="small",table="parcels"} 50.0' in shown(process))
        assert 'trilha_stream_messages_total{fate="kept",project="small",table="parcels"} 100.0' in shown(process)
        assert 'trilha_stream_up{project="small",table="parcels"} 1.0' in shown(process)
        status = trilha("status", "small")
        assert status["state"] == "running"
        assert {name: status["tables"][0][name] for name in ("messages", "lag", "dead", "batches")} == {
            "messages": 100, "lag": 50, "dead": 0, "batches": 1,
        }  # fmt: skip
    finally:
        stopped = trilha("stop", "small")
    assert stopped == {"stopped": True}
    assert trilha("stop", "small") == {"stopped": False}
    after = trilha("status", "small")
    assert (after["state"], after["said"], after["tables"][0]["lag"]) == ("stopped", "stopped", 0)
    assert ids(workspace.store) == list(range(150))


def test_why_it_ended(small: Path, redis: Server) -> None:
    """A process that a person has to see to ends with that error, and `status` says it."""
    feed_small(small, redis[1])
    Redis.from_url(redis[1]).xadd(TOPIC, {"value": parcel(0, distance=-1)})
    with pytest.raises(GateError, match="expect_column_values_to_be_between"):
        trilha("start", "small")
    assert "expect_column_values_to_be_between" in trilha("status", "small")["said"]


def test_a_project_without_streams(small: Path) -> None:
    """It is told so, and where one would be written."""
    with pytest.raises(ConfigError, match="no table of small is fed by a stream"):
        trilha("start", "small")


def test_replay(small: Path, redis: Server) -> None:
    """The rows of a file are what the topic has then, in the order of their event time; a missing value is null."""
    feed_small(small, redis[1], event_time="sent")
    lines = (small / "data" / "parcels.csv").read_text().splitlines()
    (small / "data" / "few.csv").write_text("\n".join([lines[0], *lines[60:10:-1]]) + "\n")
    assert trilha("replay", "small", "parcels", "data/few.csv", "--speed", "100000000") == {"sent": 50}
    topic = open_topic(redis[1], TOPIC)
    topic.seek(topic.start("earliest"), lost="stop")
    rows = [json.loads(value or b"") for value in topic.read(100, 1).values]
    assert [row["sent"] for row in rows] == sorted(line.split(",")[1] for line in lines[11:61])
    assert {row["id"] for row in rows} == set(range(10, 60))
    assert sum(row["weight"] is None for row in rows) == sum(line.split(",")[4] == "" for line in lines[11:61])
    with pytest.raises(ConfigError, match="no stream feeds 'parcel'.*did you mean 'parcels'"):
        trilha("replay", "small", "parcel", "data/few.csv")


@pytest.mark.long
def test_a_server_that_goes_away(small: Path, redis: Server) -> None:
    """It is waited for, and read on when it is back."""
    workspace = feed_small(small, redis[1])
    Redis.from_url(redis[1]).xadd(TOPIC, {"value": parcel(0)})
    process = trilha("start", "small", "--detach")
    wait_for(lambda: len(commits(workspace.store)) == 2)
    redis[0].send_signal(signal.SIGSTOP)
    wait_for(lambda: 'trilha_stream_up{project="small",table="parcels"} 0.0' in shown(process))
    redis[0].send_signal(signal.SIGCONT)
    Redis.from_url(redis[1]).xadd(TOPIC, {"value": parcel(1)})
    wait_for(lambda: ids(workspace.store) == [0, 1])
    os.kill(process["pid"], signal.SIGKILL)
    wait_for(lambda: trilha("status", "small")["said"] == "killed")
