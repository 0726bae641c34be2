"""The DAG of a night: killed anywhere it goes on, on every engine it is the same, and everything that runs it knows it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from components.profile import Kubeflow
from components.records import Release
from components.retention import collect
from components.runs import RunLog
from components.scores import BRANCH, Predictions, nights
from components.workspace import Workspace, open_workspace
from flows.cli import app
from flows.engines.kubeflow_compile import compile_dag
from flows.engines.prefect import prepare
from flows.engines.prefect_yaml import compiled
from flows.execute import execute, lifecycle_of, scoring_of
from tests.examples import commit_tables
from tests.flights import ROWS, flights, place_flights, released
from tests.lakefs_server import hidden
from tests.triton import Fitted

ROOT = Path(__file__).parents[2]

PROGRAM = """
import functools, importlib, os, signal, sys
from flows.execute import execute, scoring_of

where, count, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
dag = scoring_of("flights", "test")
module, _, path = where.partition(":")
*outer, name = path.split(".")
owner = functools.reduce(getattr, outer, importlib.import_module(module))
function, left = getattr(owner, name), [count]

def dies(*arguments, **named):
    left[0] -= 1
    if when == "before" and left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    made = function(*arguments, **named)
    if when == "after" and left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return made

def watch(state):
    if state.name == "score" and state.status == "running" or state.name == "collect" and "adapters" in where:
        setattr(owner, name, dies)  # from here on, for the key is made of what is patched

execute(dag, project="flights", profile="test", engine="local", watch=watch)
"""

WRITE, PUBLISH = "components.place:Place.write", "components.artifacts:Artifacts.publish"
COMMIT, BRANCHING = (f"components.adapters.git_store:GitStore.{name}" for name in ("commit", "branch"))
LAKEFS, LANDING = "components.adapters.lakefs_store:LakeFSStore", "components.adapters.lakefs_landing:Landing.land"
UPLOADS = "components.adapters.lakefs_uploads:Uploads.send"


@pytest.fixture
def release(repository: Path, workspace: Workspace, fitted: Fitted) -> Release:
    """The project, its data, and a release."""
    place_flights(repository)
    return released(workspace, fitted)


def killed(where: str, count: int, when: str) -> None:
    """A run in a process of its own that dies at the call number `count` of `where`."""
    command = [sys.executable, "-c", PROGRAM, where, str(count), when]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def night(engine: str = "local") -> Predictions:
    made = execute(scoring_of("flights", "test"), project="flights", profile="test", engine=engine)
    assert isinstance(made, Predictions)
    return made


def keys(workspace: Workspace) -> list[str]:
    """The keys of the rows that a reader finds on the branch."""
    entries = workspace.store.ls(BRANCH, "flights")
    tables = [pq.read_table(workspace.store.local(BRANCH, entry.path), columns=["flight"]) for entry in entries]
    return [str(key) for key in pa.concat_tables(tables)["flight"].to_pylist()]


def test_found_the_second_time(workspace: Workspace, release: Release) -> None:
    """Nothing is answered twice; the release and the data are looked up each time."""
    assert night() == night()
    states = RunLog(workspace).nodes(RunLog(workspace).ids()[0])
    assert {name: state.status for name, state in states.items()} == {
        "pick": "done",
        "score": "found",
        "collect": "found",
    }


def test_what_a_night_would_do(workspace: Workspace, release: Release, repository: Path) -> None:
    """Before it, after it, and after more data came; a plan delivers nothing."""
    path = repository / "config" / "projects" / "flights" / "project.yaml"
    path.write_text(path.read_text() + "  sinks: {fast: {kind: online}}\n")

    def planned() -> dict[str, tuple[str, str]]:
        done = CliRunner().invoke(app, ["plan", "flights", "--dag", "scoring", "-p", "test", "--json"])
        return {row["name"]: (row["action"], row["why"]) for row in json.loads(done.stdout)}

    assert planned() == {
        "pick": ("look", "it reads the outside world"),
        "score": ("run", "never done"),
        "collect": ("run", "after score"),
        "deliver-fast": ("run", "after collect"),
    }
    night()
    shutil.rmtree(workspace.home / "online")
    assert [action for action, _ in planned().values()] == ["look", "found", "found", "run"]
    assert planned()["deliver-fast"] == ("run", "it runs every time")
    assert not (workspace.home / "online").exists()
    commit_tables(workspace, {"flights": [flights().slice(0, 10)]}, project="flights")
    assert planned()["score"] == ("run", "input 'picked' changed (from pick)")


def test_two_dags_of_one_project(release: Release, repository: Path) -> None:
    """What project.yaml says of a step goes to the DAG that has it, and a name that neither has is refused."""
    path = repository / "config" / "projects" / "flights" / "project.yaml"
    path.write_text(path.read_text() + "policy: {score: {timeout: 60}, train: {retries: 1}}\nplacement: {score: gpu}\n")
    assert (scoring_of("flights", "test")["score"].policy.timeout, scoring_of("flights", "test")["score"].pool) == (
        60,
        "gpu",
    )
    assert lifecycle_of("flights", "test")["train-00"].policy.retries == 1
    path.write_text(path.read_text().replace("score: {timeout", "scores: {timeout"))
    with pytest.raises(Exception, match="no step 'scores'"):
        lifecycle_of("flights", "test")


def test_on_kubeflow_a_shard_is_a_node(release: Release, repository: Path) -> None:
    """Each with the records of those before it; the pipeline is called by project and DAG."""
    path = repository / "config" / "projects" / "flights" / "project.yaml"
    path.write_text(path.read_text().replace("part: 1000", "part: 1000\n  shards: 3"))
    package = compile_dag(scoring_of("flights", "test"), "flights", "test", Kubeflow(image="registry.example.com/t:1"))
    pipeline = next(iter(yaml.safe_load_all(package)))
    tasks = pipeline["root"]["dag"]["tasks"]
    assert pipeline["pipelineInfo"]["name"] == "flights-scoring"
    assert set(tasks) == {"pick", "score-00", "score-01", "score-02", "collect"}
    assert tasks["collect"]["dependentTasks"] == ["pick", "score-00", "score-01", "score-02"]


def test_deployed_beside_the_lifecycle(release: Release) -> None:
    """With a schedule of its own."""
    found = {one["entrypoint"]: one for one in yaml.safe_load(compiled("test"))["deployments"]}
    assert found["flows.deployments.scoring"]["name"] == "flights"
    assert found["flows.deployments.scoring"]["schedules"] == []


@pytest.mark.slow
def test_killed_between_two_parts(workspace: Workspace, release: Release) -> None:
    """What was finished is not answered again, and every row is there once."""
    killed(WRITE, 3, "after")
    (folder,) = (workspace.home / "scoring").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert 3 <= len(before) < 6
    made = night()
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert keys(workspace) == flights()["flight"].to_pylist()
    assert len([*nights(workspace.store, "flights")]) == 1
    assert made.rows == ROWS


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("where", "count", "when"),
    [
        *((PUBLISH, count, when) for count, when in ((0, "before"), (2, "after"), (5, "after"))),
        *((WRITE, count, when) for count, when in ((0, "after"), (5, "before"))),
        (BRANCHING, 0, "before"),
        (BRANCHING, 0, "after"),
        (COMMIT, 0, "before"),
        (COMMIT, 0, "after"),
    ],
)
def test_killed_anywhere(workspace: Workspace, release: Release, where: str, count: int, when: str) -> None:
    """The next run makes the one night that an undisturbed one makes, and makes it once."""
    killed(where, count, when)
    made = night()
    assert keys(workspace) == flights()["flight"].to_pylist()
    assert [one.id for one in nights(workspace.store, "flights")] == [made.id]
    workspace.store.delete_branch(BRANCH)
    assert night().tree == made.tree


@pytest.mark.long
@pytest.mark.lakefs
def test_killed_on_lakefs(on_lakefs: Workspace, repository: Path, fitted: Fitted) -> None:
    """Likewise where the data store is a lakeFS server; `trilha gc` takes what the kills left, and not the night."""
    place_flights(repository)
    released(on_lakefs, fitted)
    for where, when in (
        (f"{LAKEFS}.branch", "after"),
        (UPLOADS, "after"),
        (LANDING, "before"),
        (LANDING, "after"),
    ):
        killed(where, 0, when)
    made = night()
    assert [one.id for one in nights(on_lakefs.store, "flights")] == [made.id]
    assert len(hidden(on_lakefs)) == 3  # the last kill came after the commit: nothing was made under its key again
    collect(on_lakefs, time.time() + 60)
    assert hidden(on_lakefs) == set()
    assert keys(on_lakefs) == flights()["flight"].to_pylist()
    assert night() == made


@pytest.mark.long
@pytest.mark.xdist_group("prefect")
def test_a_worker_runs_it(on_prefect: Workspace, repository: Path, fitted: Fitted, prefect_url: str) -> None:
    """`prefect deploy --all` puts both DAGs on the server, and a worker's run of the scoring is the local one's."""
    place_flights(repository)
    released(on_prefect, fitted)
    environment = os.environ | {
        "PREFECT_API_URL": f"{prefect_url}/api",
        "PREFECT_HOME": str(repository / "prefect"),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
    }

    def prefect(*arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    (repository / "prefect.yaml").write_text(compiled("test"))
    prepare(on_prefect)
    prefect("deploy", "--all")
    prefect("deployment", "run", "scoring/flights")
    prefect("worker", "start", "--pool", "onprem", "--run-once")
    header = RunLog(open_workspace("test")).header("last")
    assert (header.dag, header.engine) == ("scoring", "prefect")
    assert keys(on_prefect) == flights()["flight"].to_pylist()
    made = night()
    states = RunLog(on_prefect).nodes(RunLog(on_prefect).header("last").id)
    assert states["collect"].status == "found"
    assert states["collect"].output["tree"] == made.tree
