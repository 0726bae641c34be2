"""A compiled pipeline in real containers on this machine, by Kubeflow's own local runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import docker
import psutil
import pytest

from components.errors import NotFoundError, UnavailableError
from components.profile import Kubeflow
from components.runs import NodeState, RunLog
from components.scores import Predictions
from components.workspace import open_workspace
from flows.dag import Dag
from flows.engines.kubeflow_containers import image_here
from flows.execute import execute, lifecycle_of, scoring_of
from tests.containers import Containers
from tests.flights import ROWS, place_flights, released
from tests.triton import Fitted

SEED = "seed-91c2-of-a-key-nobody-may-see"


def run_here_too(dag: Dag, project: str) -> tuple[object, dict[str, str]]:
    """What the DAG yields on this machine afterwards, and how each of its nodes fared."""
    found: dict[str, str] = {}
    made = execute(
        dag,
        project=project,
        profile="test",
        engine="local",
        watch=lambda state: found.update({state.name: state.status}),
    )
    return made, found


@pytest.mark.slow
def test_the_same_keys_and_records_as_here(in_containers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What containers did, this machine finds; a watcher is told of each node; a secret is in no file."""
    monkeypatch.setenv("LAKE_KEY", SEED)
    dag = lifecycle_of("small", "test", "publish")
    states: list[NodeState] = []
    there = execute(dag, project="small", profile="test", engine="kubeflow", watch=states.append)
    here, found = run_here_too(dag, "small")
    assert here == there
    assert [state.name for state in states if state.status == "done"] == [node.name for node in dag.nodes]
    assert found == {"observe": "done", "ingest": "found", "validate": "found", "publish": "found"}
    for path in in_containers.rglob("*"):
        assert not path.is_file() or SEED.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_a_night(in_containers: Path, fitted: Fitted) -> None:
    """Predictions that containers made, shard by shard, are those that this machine would make: it finds them."""
    place_flights(in_containers, "  shards: 2\n")
    released(open_workspace("test"), fitted)
    dag = scoring_of("flights", "test")
    there = execute(dag, project="flights", profile="test", engine="kubeflow")
    here, found = run_here_too(dag, "flights")
    assert here == there
    assert isinstance(here, Predictions)
    assert here.rows == ROWS
    assert found == {"pick": "done", "score-00": "found", "score-01": "found", "collect": "found"}


@pytest.mark.slow
def test_a_failure_is_the_steps_own(in_containers: Path) -> None:
    """Of its kind and in its words, and nothing after it was begun."""
    (in_containers / "data" / "parcels.csv").write_text("id,sent\n")
    dag = lifecycle_of("small", "test", "publish")
    with pytest.raises(Exception) as here:  # whatever it is, it is the same there
        execute(dag, project="small", profile="test", engine="local")
    with pytest.raises(type(here.value)) as there:
        execute(dag, project="small", profile="test", engine="kubeflow")
    assert str(there.value) == str(here.value)
    log = RunLog(open_workspace("test"))
    statuses = [{name: state.status for name, state in log.nodes(run).items()} for run in log.ids()]
    assert statuses[0] == statuses[1]
    assert "waiting" in statuses[0].values()


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_container(in_containers: Path, podman: Containers) -> None:
    """Whoever watches may die by kill -9: what it started ends, and nothing more begins."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", "run", "small", "--profile", "test"]
    run = subprocess.Popen(
        [*command, "--engine", "kubeflow", "--until", "publish"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr
    assert any("observe" in line for line in run.stderr)  # the first node has ended, the next begins
    runner = psutil.Process(run.pid).children()
    assert runner
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert not psutil.wait_procs(runner, timeout=60)[1]
    client = docker.DockerClient(base_url=podman.host)
    assert not client.containers.list(filters={"label": "trilha.run"})
    log = RunLog(open_workspace("test"))
    assert log.nodes(log.ids()[0])["publish"].status == "waiting"


def test_no_docker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names where it was looked for and how to start one."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(UnavailableError, match=r"unix:///nowhere/docker.sock.*podman system service"):
        image_here("test", Kubeflow(image="trilha:dev"))


def test_no_image_is_named(podman: Containers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is compiled, with the command that makes it."""
    monkeypatch.setenv("DOCKER_HOST", podman.host)
    with pytest.raises(NotFoundError, match=r"'trilha:none'.*make image"):
        image_here("test", Kubeflow(image="trilha:none"))
