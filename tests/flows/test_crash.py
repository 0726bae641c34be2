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
from filelock import FileLock

from components import config
from components.online import key_of
from components.records import Release, digest
from components.releases import releases
from components.runs import Header, RunLog, output_of
from components.tables import contents
from components.workspace import Workspace, open_workspace
from flows.dag import Dag
from flows.execute import execute, lifecycle_of
from flows.plan import plan
from flows.services import down, ensure
from tests.conftest import PROFILE, place_small

PROGRAM = """
import functools, importlib, os, signal, sys, threading
from components.ledger import Ledger
from flows.execute import execute, lifecycle_of

point, victim, where, engine = sys.argv[1:]
dag = lifecycle_of("small", "test")
names = [node.name for node in dag.nodes]
needed = names[: names.index(victim) + 1] if victim else names
if point == "inside":
    importlib.import_module(where.partition(":")[0])  # here, since two threads that import MLflow at once may fail
threads = []
strangers = []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dies(function):
    # The victim's thread dies as it calls this; others go on.
    @functools.wraps(function)
    def call(*arguments, **named):
        if threading.get_ident() in threads:
            die()
        return function(*arguments, **named)
    return call

write = Ledger.write
def held(ledger, entry):
    # What runs beside the victim is under way when all dies: done, it could not be a victim itself later.
    if threading.get_ident() in strangers:
        threading.Event().wait()
    write(ledger, entry)
Ledger.write = held

def watch(state):
    if state.name not in needed and state.status == "running":
        strangers.append(threading.get_ident())
    if state.name != victim:
        return
    if state.status == "running":
        threads.append(threading.get_ident())
        if point == "unrecorded":
            Ledger.write = dies(Ledger.write)
        if point == "soon":
            threading.Timer(float(where), die).start()
        if point == "inside":  # from here on, for the key is made of what is patched
            module, _, path = where.partition(":")
            *outer, name = path.split(".")
            owner = functools.reduce(getattr, outer, importlib.import_module(module))
            setattr(owner, name, dies(getattr(owner, name)))
    if state.status == "done":
        threads.clear()
        if point == "boundary":
            die()

execute(dag, project="small", profile="test", engine=engine, watch=watch)
"""

STEPS = (
    "observe", "ingest", "validate", "publish", "prepare", "train-00", "select", "champion", "evaluate", "register",
    "export", "qualify", "release",
)  # fmt: skip
"""One node of each step."""

PUBLISH = "components.artifacts:Artifacts.publish"
COMMIT, DELETE_BRANCH, TAG = (
    f"components.adapters.git_store:GitStore.{name}" for name in ("commit", "delete_branch", "tag")
)
END_RUN, MAKE_VERSION = (f"mlflow:MlflowClient.{name}" for name in ("set_terminated", "create_model_version"))

INSIDE = (
    ("observe", "components.file_source:find"),  # the first look
    ("ingest", COMMIT),  # its branch is there, with nothing on it
    ("validate", PUBLISH),  # its files are written, and nobody sees them
    ("publish", DELETE_BRANCH),  # it is merged, and the branch still there
    ("prepare", PUBLISH),
    ("train-00", END_RUN),  # everything is logged to a run that goes on for ever
    ("select", END_RUN),
    ("champion", "components.champion:served"),
    ("evaluate", PUBLISH),
    ("register", MAKE_VERSION),  # the graphs are uploaded, and no version has them
    ("export", PUBLISH),
    ("qualify", "components.adapters.triton_server:TritonServer.infer"),  # the bundle is loaded, and was asked nothing
    ("release", "components.reconcile:uphold"),  # the manifest is written, and nothing follows it
    ("release", "components.adapters.mlflow_tracker:MlflowTracker.point"),  # it is served
    ("release", TAG),  # the alias has moved too
)
"""Where each step is killed half-way: as it calls this, with what it changed before left as it is."""

KILLS = {
    "unrecorded": tuple((step, "") for step in STEPS),
    "boundary": tuple((step, "") for step in STEPS),
    "inside": INSIDE,
}


def run(repository: Path, point: str = "", victim: str = "", where: str = "", engine: str = "local") -> int:
    """Run the lifecycle in a process of its own; returns its exit code.

    Args:
        repository: where.
        point: `unrecorded` kills it between the victim's effect and its record, `boundary` right after that record,
            `inside` as the victim calls `where`, and `soon` so many seconds (`where`) after the victim began.
        victim: a node.
        where: `module:name`, or seconds.
        engine: which one.
    """
    command = [sys.executable, "-c", PROGRAM, point, victim, where, engine]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


def kill(workspace: Workspace, point: str, victim: str, where: str) -> None:
    """A run that is killed, and was in the victim when it was."""
    assert run(Path.cwd(), point, victim, where) == -signal.SIGKILL, f"{victim} was not killed: {point} {where}"
    log = RunLog(workspace)
    states = log.nodes(log.ids()[0])
    assert states[victim].status == ("done" if point == "boundary" else "running"), (point, victim, where)


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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each node's digest in a run that nobody disturbs, in a repository of its own; all workers of a test run share it."""
    folder = tmp_path_factory.getbasetemp()
    kept = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "undisturbed.json"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(calm_run(tmp_path_factory.mktemp("undisturbed"))))
            part.rename(kept)
    digests: dict[str, str] = json.loads(kept.read_text())
    return digests


def calm_run(root: Path) -> dict[str, str]:
    """Run the lifecycle once in a fresh repository at `root`."""
    (root / "config" / "projects").mkdir(parents=True)
    (root / "config" / "profiles").mkdir()
    (root / "config" / "profiles" / "test.yaml").write_text(PROFILE)
    place_small(root)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRILHA_ROOT", str(root))
        patched.chdir(root)
        config.root.cache_clear()
        workspace = Workspace("test", config.load_profile("test"))
        try:
            ensure(workspace, ["mlflow", "triton"])
            assert run(root) == 0
            assert effects(workspace) == EXPECTED
            return outputs(workspace)
        finally:
            down(workspace)
            config.root.cache_clear()
            open_workspace.cache_clear()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", KILLS)
def test_a_killed_run_ends_like_an_undisturbed_one(undisturbed: dict[str, str], ready: Workspace, point: str) -> None:
    """Killed in turn at every step: after its effect and before its record, right after its record, and half-way."""
    for victim, where in KILLS[point]:
        kill(ready, point, victim, where)
    assert run(Path.cwd()) == 0
    assert effects(ready) == EXPECTED
    assert outputs(ready) == undisturbed
    last = next(releases(ready.store, "small"))
    assert isinstance(last, Release)
    assert last.number == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_while_features_are_put_into_their_store(ready: Workspace) -> None:
    """Killed at every turn of `materialize`: one table, whole, in the store, and the release that is made names it."""
    project = Path("config/projects/small/project.yaml")
    project.write_text(f"{project.read_text()}online: {{features: {{entity: city, columns: [weight]}}}}\n")
    turns = [
        ("inside", PUBLISH),  # the file is made, and nobody sees it
        (
            "inside",
            "components.adapters.sqlite_features:SqliteFeatures.has",
        ),  # it is there, and the store knows nothing
        ("inside", "components.online:_pack"),  # the store's table is half written
        ("unrecorded", ""),
        ("boundary", ""),
    ]
    for point, where in turns:
        kill(ready, point, "materialize", where)
    assert run(Path.cwd()) == 0
    assert effects(ready) == EXPECTED
    (made,) = releases(ready.store, "small")
    assert made.online is not None
    assert ready.features.tables("small") == {made.online.digest}
    cities = ready.features.read("small", made.online.digest, [key_of([city]) for city in ("north", "south", "west")])
    assert made.online.rows == len(cities)
    assert None not in cities


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_runs_at_once_make_one_release(ready: Workspace) -> None:
    """The second waits for each step of the first and finds it: nothing is lost, nothing is mixed."""
    command = [sys.executable, "-c", PROGRAM, "", "", "", "local"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert effects(ready) == EXPECTED


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_revert_holds_until_the_sources_are_read_again(small: Path) -> None:
    """`--commit main`, which `revert` names, leaves `main` as it is; a run from the sources brings back what they hold."""
    from tests.conftest import write_parcels

    workspace = open_workspace("test")

    def published(rows: int, commit: str | None = None) -> dict[str, int]:
        write_parcels(Path("data/parcels.csv"), rows=rows)
        execute_to(lifecycle_of("small", "test", "publish", commit))
        held = contents(workspace.store, "main", "small")
        assert held
        return held.rows

    assert published(2_000) == {"parcels": 2_000}
    assert published(2_100) == {"parcels": 2_100}
    undone = workspace.store.revert("main", workspace.store.resolve("main").id, message="Undo", key="undo")
    assert published(2_100, commit="main") == {"parcels": 2_000}
    assert workspace.store.resolve("main").id == undone.id
    assert published(2_100) == {"parcels": 2_100}


def execute_to(dag: Dag) -> str:
    """Run `dag` here; returns the run's id."""
    headers: list[Header] = []
    execute(dag, project="small", profile="test", engine="local", begun=headers.append)
    return headers[0].id
