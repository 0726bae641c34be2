"""Runs of a worker: cancelled on Prefect's page, killed, cut off from the server; and what a server does with the dead."""

from __future__ import annotations

import signal
import time
from datetime import datetime, timedelta
from typing import Any

import psutil
import pytest

from components.releases import releases
from tests.yard import Yard, eventually, is_kernel

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("workers"), pytest.mark.timeout(600)]


def test_status_shows_them(yard: Yard) -> None:
    """A worker is a service like the others, and well once the server says that it is online."""
    assert "workers      running" in yard.trilha("status")
    [worker] = yard.ask("/work_pools/onprem/workers/filter")
    assert worker["status"] == "ONLINE"


def test_cancel(yard: Yard) -> None:
    """Cancel on Prefect's page ends the run and its step, and leaves no process behind."""
    idle = set(yard.crew())
    yard.hold()
    run = yard.start(until="select")
    yard.wait_for_training()
    busy = set(yard.crew()) - idle
    assert any(map(is_kernel, busy))
    yard.ask(f"/flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
    eventually(lambda: yard.state(run), lambda state: state == "CANCELLED")
    _, left = psutil.wait_procs(busy, timeout=15)
    assert left == []
    assert yard.nodes(run)["train-00"].status in {"running", "failed"}


def test_killed(yard: Yard) -> None:
    """`kill -9` of a worker and its run: crashed within a minute, its steps with it; the next run goes on from there."""
    yard.hold()
    run = yard.start(until="select")
    yard.wait_for_training()
    [worker] = yard.workers()
    victims = [worker, *worker.children(recursive=True)]
    for process in victims:
        if not is_kernel(process):
            process.send_signal(signal.SIGKILL)
    eventually(lambda: yard.state(run), lambda state: state == "CRASHED", seconds=60)
    _, left = psutil.wait_procs(victims, timeout=15)
    assert left == []

    def trials() -> set[str]:
        tasks = yard.ask("/task_runs/filter", flow_runs={"id": {"any_": [run]}})
        return {task["state_type"] for task in tasks if task["name"].startswith("train")}

    eventually(trials, lambda states: states == {"CRASHED"}, seconds=10)  # right after their run

    yard.let_go()
    again = yard.start(until="select")  # by a worker that took the other one's place, in the slot that it had
    eventually(lambda: yard.state(again), lambda state: state == "COMPLETED", seconds=120)
    statuses = {name: state.status for name, state in yard.nodes(again).items()}
    assert {name for name, status in statuses.items() if status == "found"} >= {"ingest", "validate", "prepare"}
    assert {statuses[name] for name in ("train-00", "train-01", "select")} == {"done"}


def test_server_away(yard: Yard) -> None:
    """Prefect's server is stopped for 30 s while a trial runs: the run ends well, or the next one does; nothing twice."""
    before = commits(yard)
    yard.hold()
    yard.add_parcels()
    run = yard.start(until="release")
    yard.wait_for_training()
    yard.trilha("down", "prefect")
    time.sleep(30)
    yard.trilha("up", "prefect")
    yard.let_go()
    ended = eventually(lambda: yard.state(run), lambda state: state in FINAL, seconds=150)
    if ended != "COMPLETED":
        run = yard.start(until="release")
        assert eventually(lambda: yard.state(run), lambda state: state in FINAL, seconds=150) == "COMPLETED"
    assert {state.status for state in yard.nodes(run).values()} <= {"done", "found"}
    assert len(commits(yard)) == len(before) + 1
    [release] = releases(yard.workspace.store, "small")
    assert yard.workspace.tracker.pointed(name="small", alias="champion") == release.version.version == "1"


def test_schedule(yard: Yard) -> None:
    """A schedule of every minute fires twice, a minute apart, and the second run finds what the first one did."""
    yard.let_go()
    yard.schedule("* * * * *")
    yard.deploy()
    try:
        first, second = eventually(lambda: scheduled(yard), lambda runs: len(runs) >= 2, seconds=240)[:2]
    finally:
        yard.schedule(None)
        yard.deploy()
    assert moment(second) - moment(first) == timedelta(minutes=1)
    states = yard.nodes(second["id"])
    assert {states[name].status for name in ("ingest", "prepare", "train-00", "release")} == {"found"}


FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def commits(yard: Yard) -> list[str]:
    """The commits on `main` of the data store."""
    return [revision.id for revision in yard.workspace.store.log("main")]


def scheduled(yard: Yard) -> list[dict[str, Any]]:
    """The completed runs that the schedule began, the earliest first."""
    completed = {"state": {"type": {"any_": ["COMPLETED"]}}}
    runs: list[dict[str, Any]] = yard.ask("/flow_runs/filter", flow_runs=completed, sort="EXPECTED_START_TIME_ASC")
    return [run for run in runs if run["auto_scheduled"]]


def moment(run: dict[str, Any]) -> datetime:
    """When the schedule wanted it."""
    return datetime.fromisoformat(run["next_scheduled_start_time"] or run["expected_start_time"])
