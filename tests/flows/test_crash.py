"""`kill -9` at every step: the next run resumes, no effect happens twice, and the digests are an undisturbed run's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.records import Release, digest
from components.releases import releases
from components.runs import Header, RunLog, output_of
from components.tables import contents
from components.workspace import Workspace, open_workspace
from flows.dag import Dag
from flows.execute import execute, lifecycle_of
from flows.plan import plan
from flows.services import down, ensure

PROGRAM = """
import os, signal, sys, threading
from components.ledger import Ledger
from flows.execute import execute, lifecycle_of

point, victim, delay, engine = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
dag = lifecycle_of("small", "test")
step = dag[victim].step.__name__ if victim else ""

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def watch(state):
    if state.name == victim and point == "boundary" and state.status == "done":
        die()
    if state.name == victim and point == "middle" and state.status == "running":
        threading.Timer(delay, die).start()

write = Ledger.write
def write_or_die(ledger, entry):
    if point == "unrecorded" and entry.key.step.endswith(f":{step}"):
        die()
    write(ledger, entry)

Ledger.write = write_or_die
execute(dag, project="small", profile="test", engine=engine, watch=watch)
"""

STEPS = (
    "observe", "ingest", "validate", "publish", "prepare", "train-00", "select", "champion", "evaluate", "register",
    "export", "qualify", "release",
)  # fmt: skip
"""One node of each step."""


def run(repository: Path, point: str = "", victim: str = "", delay: float = 0.0, engine: str = "local") -> int:
    """Run the lifecycle in a process of its own; returns its exit code."""
    command = [sys.executable, "-c", PROGRAM, point, victim, str(delay), engine]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


@pytest.fixture
def ready(small: Path) -> Iterator[Workspace]:
    """The project `small`, and the services that its lifecycle needs."""
    workspace = open_workspace("test")
    try:
        ensure(workspace, ["mlflow", "triton"])
        yield workspace
    finally:
        down(workspace)


def outputs(workspace: Workspace) -> dict[str, str]:
    """Node -> digest of its record, in the newest run."""
    log, dag = RunLog(workspace), lifecycle_of("small", "test")
    states = log.nodes(log.ids()[0])
    assert {state.status for state in states.values()} <= {"done", "found"}
    return {node.name: digest(output_of(node, states[node.name])) for node in dag.nodes}


def effects(workspace: Workspace) -> dict[str, object]:
    """What the lifecycle changed outside the ledger, counted."""
    from mlflow import MlflowClient

    client = MlflowClient(workspace.endpoint("mlflow"))
    experiment = client.get_experiment_by_name("small")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    made = list(releases(workspace.store, "small"))
    return {
        "commits on main": len(list(workspace.store.log("main"))),
        "branches": sorted(workspace.store.branches()),
        "tags": sorted(workspace.store.tags()),
        "finished runs": sum(run.info.status == "FINISHED" for run in runs),
        "other runs": sum(run.info.status != "FINISHED" for run in runs),
        "model versions": len(client.search_model_versions("name='small'")),
        "releases": len(made),
        "alias": workspace.tracker.pointed(name="small", alias="champion"),
        "served": made[0].bundle.model in workspace.server.loaded(),
    }


EXPECTED = {
    "commits on main": 2,
    "branches": ["main", "releases"],
    "tags": ["release/small/1"],
    "finished runs": 3,
    "other runs": 0,
    "model versions": 1,
    "releases": 1,
    "alias": "1",
    "served": True,
}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each node's digest of a run that nobody disturbs is kept, shared by the workers of a test run."""
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "undisturbed.json"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", ["", "unrecorded", "boundary", "middle"])
def test_a_killed_run_ends_like_an_undisturbed_one(ready: Workspace, point: str, undisturbed: Path) -> None:
    """Killed in turn at every step: after its effect and before its record, right after its record, and half-way."""
    repository = Path.cwd()
    victims = STEPS if point else ()
    for victim in victims:
        run(repository, point, victim, delay=0.0 if victim in {"observe", "champion"} else 0.15)
    assert run(repository) == 0
    assert effects(ready) == EXPECTED
    found = outputs(ready)
    if undisturbed.exists():
        assert found == json.loads(undisturbed.read_text())
    else:
        undisturbed.write_text(json.dumps(found))
    last = next(releases(ready.store, "small"))
    assert isinstance(last, Release)
    assert last.number == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_runs_at_once_make_one_release(ready: Workspace) -> None:
    """The second waits for each step of the first and finds it: nothing is lost, nothing is mixed."""
    command = [sys.executable, "-c", PROGRAM, "", "", "0", "local"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert effects(ready) == EXPECTED


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_changed_source_makes_one_more_release_or_says_why_not(ready: Workspace) -> None:
    """New rows: everything from the changed file on is done again, and weighed against the champion."""
    from tests.conftest import write_parcels

    assert run(Path.cwd()) == 0
    write_parcels(Path("data/parcels.csv"), rows=3_000, seed=8)
    assert run(Path.cwd()) == 0
    log = RunLog(ready)
    states = log.nodes(log.ids()[0])
    assert states["evaluate"].status == "done"
    assert "champion" in states["evaluate"].output["baselines"]
    assert len(list(releases(ready.store, "small"))) == (2 if states["release"].status == "done" else 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_source_put_back_is_published_again(small: Path) -> None:
    """`main` follows the source back to an earlier state, though the ledger knows that publish; then it is found."""
    from tests.conftest import write_parcels

    workspace, dag = open_workspace("test"), lifecycle_of("small", "test", "publish")

    def status_after(rows: int) -> tuple[str, dict[str, int]]:
        write_parcels(Path("data/parcels.csv"), rows=rows)
        header = execute_to(dag)
        held = contents(workspace.store, "main", "small")
        assert held
        state = RunLog(workspace).node(header, "publish")
        assert state
        return state.status, held.rows

    assert status_after(2_000) == ("done", {"parcels": 2_000})
    assert status_after(2_100) == ("done", {"parcels": 2_100})
    assert {one.name: one.action for one in plan(dag, workspace, "small")}["publish"] == "found"
    assert status_after(2_000) == ("done", {"parcels": 2_000})
    assert status_after(2_000) == ("found", {"parcels": 2_000})


def execute_to(dag: Dag) -> str:
    """Run `dag` here; returns the run's id."""
    headers: list[Header] = []
    execute(dag, project="small", profile="test", engine="local", begun=headers.append)
    return headers[0].id
