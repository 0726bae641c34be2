"""Steps on another work pool: two machines, each with a repository, a home and a worker of its own, and one Prefect.

What they share is a folder that stands for a network's: the data store, the state, and nothing else but the tracker.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from components import config
from components.errors import ConflictError, DagError, NotFoundError, TimeLimitError, UnavailableError
from components.records import digest
from components.runs import Header, NodeState, RunLog, output_of
from components.workspace import open_workspace
from flows.engines import prefect_placement
from flows.execute import execute, lifecycle_of
from flows.services import down, ensure
from tests.children import hearing_interrupts
from tests.conftest import write_parcels
from tests.flows.engines.test_prefect import eventually
from tests.flows.test_crash import EXPECTED, effects
from tests.prefect_api import api

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.xdist_group("placement")]

ROOT = Path(__file__).parents[3]
HERE, THERE = "here", "there"

HOLD = """
import pathlib, time
pathlib.Path({started!r}).touch()
while pathlib.Path({hold!r}).exists():
    time.sleep(0.05)
"""
"""A cell that keeps a trial from ending for as long as a file is there."""

COMPILE = """
import sys
from flows.cli import main
sys.argv = ["trilha", "prefect", "compile", "--profile", "test", "--output", sys.argv[1]]
main()
"""

RUN = """
import sys
from flows.execute import execute, lifecycle_of
execute(lifecycle_of(sys.argv[1], "test", sys.argv[2]), project=sys.argv[1], profile="test", engine="prefect")
"""


@dataclass
class Machine:
    """A folder that stands for a machine: a repository with its code, and a home."""

    root: Path
    pool: str
    prefect: str
    worker: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "DO_NOT_TRACK": "1",
            "HOME": str(self.root / "home"),
            "PREFECT_API_URL": f"{self.prefect}/api",
            "PREFECT_HOME": str(self.root / "home" / "prefect"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PYTHONPATH": str(self.root),
            "TRILHA_ROOT": str(self.root),
        }

    def start_worker(self) -> None:
        """A worker of this machine's pool, at work."""
        name, log = uuid.uuid4().hex, self.root / "worker.log"
        with log.open("ab") as output:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool, "--name", name],
                cwd=self.root,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        workers = f"/work_pools/{self.pool}/workers/filter"
        eventually(
            lambda: api(self.prefect).post(workers, json={}).json(),
            lambda known: name in {one["name"] for one in known},
            60,
        )

    def die(self) -> None:
        """`kill -9` of the worker and of all that it started, as when a machine loses its power."""
        assert self.worker is not None
        family = [psutil.Process(self.worker.pid), *psutil.Process(self.worker.pid).children(recursive=True)]
        for process in family:
            process.kill()
        psutil.wait_procs(family)
        self.worker = None


class Machines:
    """Both of them, and the folder that they share."""

    def __init__(self, folder: Path, prefect: str) -> None:
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.prefect = prefect
        mark = uuid.uuid4().hex[:8]  # the server is shared with other tests
        self.here, self.there = (Machine(folder / name, f"{name}-{mark}", prefect) for name in (HERE, THERE))
        for machine in (self.here, self.there):
            for package in ("components", "flows"):
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / package, machine.root / package, ignore=ignored)
            shutil.copytree(ROOT / "tests" / "small" / "notebooks", machine.root / "notebooks")
            for part in ("profiles", "projects"):
                (machine.root / "config" / part).mkdir(parents=True)
            (machine.root / "home").mkdir()
        (self.here.root / "data").mkdir()
        write_parcels(self.here.root / "data" / "parcels.csv")
        self.services: dict[str, Any] = {"prefect": {"url": prefect}}
        self.fresh("first")
        self.project("small", placement={"train": self.there.pool})
        self.deploy()

    def fresh(self, state: str, *, pools: bool = True) -> None:
        """Give both machines a state and a data store that nobody has used."""
        config.root.cache_clear()
        open_workspace.cache_clear()
        common = {
            "state": f"file://{self.shared}/{state}/state",
            "store": {"kind": "git", "path": f"{self.shared}/{state}/data.git"},
            "engine": "prefect",
            "pools": [self.there.pool] if pools else [],
            "services": self.services,
        }
        for machine in (self.here, self.there):
            (machine.root / "config" / "profiles" / "test.yaml").write_text(yaml.safe_dump(common))

    def project(self, name: str, **changed: Any) -> None:
        """A project like `small`, on the first machine; the other one needs its notebook, and gets all else sent."""
        folder = self.here.root / "config" / "projects" / name
        shutil.copytree(
            ROOT / "tests" / "small", folder, ignore=shutil.ignore_patterns("notebooks"), dirs_exist_ok=True
        )
        file = yaml.safe_load((folder / "project.yaml").read_text()) | changed
        (folder / "project.yaml").write_text(yaml.safe_dump(file))

    def held(self, name: str, **changed: Any) -> tuple[Path, Path]:
        """Such a project whose trials tell that they began, in the first file, and end when the second is gone."""
        started, hold = self.shared / f"{name}.started", self.shared / f"{name}.hold"
        notebook = json.loads((ROOT / "tests" / "small" / "notebooks" / "small.ipynb").read_text())
        source = HOLD.format(started=str(started), hold=str(hold))
        cell = {"cell_type": "code", "id": "hold", "metadata": {}, "source": source, "outputs": []}
        notebook["cells"].insert(2, cell | {"execution_count": None})
        for machine in (self.here, self.there):
            (machine.root / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))
        search = {"spaces": [{"strength": {"values": [1.0]}}], "timeout": 300}
        self.project(name, notebook=f"notebooks/{name}.ipynb", search=search, **changed)
        hold.touch()
        return started, hold

    def deploy(self) -> None:
        """Make the pools, and deploy `step` for one of them and the lifecycle of `small` for the other."""
        path = self.shared / "prefect.yaml"
        self.run("-c", COMPILE, str(path))
        deployments = yaml.safe_load(path.read_text())["deployments"]
        [steps] = [one for one in deployments if one["entrypoint"] == "flows.deployments.step"]
        lifecycle = {
            "name": self.here.pool,
            "entrypoint": "flows.deployments.lifecycle",
            "parameters": {"project": "small", "profile": "test"},
            "work_pool": {"name": self.here.pool},
        }
        path.write_text(yaml.safe_dump({"name": "trilha", "pull": [], "deployments": [steps, lifecycle]}))
        for machine in (self.here, self.there):
            self.tell("POST", "/work_pools/", name=machine.pool, type="process")
        self.command("deploy", "--prefect-file", str(path), "--all")

    def command(self, *arguments: str) -> None:
        """`prefect ARGUMENTS`, on the first machine."""
        self.run("-m", "prefect", "--no-prompt", *arguments)

    def run(self, *arguments: str) -> None:
        """Python with these arguments, on the first machine."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.here.root,
            env=self.here.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def tell(self, method: str, path: str, **body: Any) -> None:
        """Change something on Prefect's server."""
        api(self.prefect).request(method, path, json=body).raise_for_status()

    def ask(self, what: str, **body: Any) -> Any:
        """What Prefect's API finds."""
        return api(self.prefect).post(f"/{what}/filter", json=body).raise_for_status().json()

    def children(self, run: str, node: str) -> list[dict[str, Any]]:
        """The flow runs of a placed node of a run, in the order in which they began."""
        found = self.ask("flow_runs", flow_runs={"name": {"any_": [f"{run}/{node}"]}})
        return sorted(found, key=lambda one: one["created"])

    def said(self, flow_run: str) -> str:
        """The log of a flow run, once it has come to the server."""
        wanted = {"flow_run_id": {"any_": [flow_run]}}
        lines = eventually(lambda: self.ask("logs", logs=wanted), bool)
        return "\n".join(line["message"] for line in lines)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, prefect_url: str) -> Iterator[Machines]:
    """Two machines; a worker of the second one's pool runs."""
    machines = Machines(tmp_path_factory.mktemp("machines"), prefect_url)
    machines.there.start_worker()
    try:
        yield machines
    finally:
        for machine in (machines.here, machines.there):
            if machine.worker is not None:
                machine.die()


@pytest.fixture
def machines(both: Machines, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Machines]:
    """Both machines with a fresh state; this process is on the first one."""
    monkeypatch.setenv("TRILHA_ROOT", str(both.here.root))
    monkeypatch.chdir(both.here.root)
    both.fresh(request.node.originalname)
    if both.there.worker is None:
        both.there.start_worker()
    yield both
    config.root.cache_clear()
    open_workspace.cache_clear()


@pytest.fixture
def tracked(machines: Machines, request: pytest.FixtureRequest) -> Iterator[Machines]:
    """Both machines, with a tracker and a Triton that run on the first one; the second knows the tracker's URL."""
    workspace = open_workspace("test")
    try:
        ensure(workspace, ["mlflow", "tensorboard", "triton"])
        before = machines.services
        machines.services = before | {"mlflow": {"url": workspace.endpoint("mlflow")}}
        machines.fresh(request.node.originalname)
        yield machines
        machines.services = before
    finally:
        down(workspace)


def run(project: str, until: str | None = None, watch: Callable[[NodeState], None] = lambda _: None) -> str:
    """Run a project on Prefect from this process; returns the run's id."""
    headers: list[Header] = []
    dag = lifecycle_of(project, "test", until)
    execute(dag, project=project, profile="test", engine="prefect", watch=watch, begun=headers.append)
    return headers[0].id


def begin(machines: Machines, project: str, until: str) -> subprocess.Popen[bytes]:
    """A process of the first machine that runs a project."""
    return subprocess.Popen(
        hearing_interrupts([sys.executable, "-c", RUN, project, until]),
        cwd=machines.here.root,
        env=machines.here.environment,
        stderr=subprocess.DEVNULL,
    )


def digests(project: str) -> dict[str, str]:
    """Node -> digest of its record, in the newest run."""
    log = RunLog(open_workspace("test"))
    states = log.nodes(log.ids()[0])
    return {node.name: digest(output_of(node, states[node.name])) for node in lifecycle_of(project, "test").nodes}


def test_the_lifecycle_on_two_pools(tracked: Machines) -> None:
    """`train` runs on the other machine, all else here, the outputs are those of one machine, and no effect is doubled."""
    tracked.here.start_worker()
    try:
        tracked.command("deployment", "run", f"lifecycle/{tracked.here.pool}", "--watch")
    finally:
        tracked.here.die()
    workspace = open_workspace("test")
    log = RunLog(workspace)
    run_id = log.header("last").id
    assert {state.status for state in log.nodes(run_id).values()} == {"done"}

    [parent] = tracked.ask("flow_runs", flow_runs={"name": {"any_": [run_id]}})
    assert parent["state_name"] == "Completed"
    assert str(tracked.there.root) not in tracked.said(parent["id"])
    for node in ("train-00", "train-01"):
        [child] = tracked.children(run_id, node)
        assert child["work_pool_name"] == tracked.there.pool
        assert f"folder {tracked.there.root}" in tracked.said(child["id"])
        [link] = tracked.ask("task_runs", task_runs={"id": {"any_": [child["parent_task_run_id"]]}})
        assert link["flow_run_id"] == parent["id"]
    placed_runs = tracked.ask(
        "flow_runs", flow_runs={"parent_task_run_id": {"is_null_": False}, "tags": {"all_": ["small"]}}
    )
    assert sorted(one["name"] for one in placed_runs if one["name"].startswith(run_id)) == [
        f"{run_id}/train-00",
        f"{run_id}/train-01",
    ]
    boards = f"{workspace.endpoint('tensorboard')}/data/runs"
    shown = eventually(lambda: httpx.get(boards, trust_env=False).json(), lambda found: len(found) == 2, 30)
    assert {name.split("/")[0] for name in shown} == {"small"}
    assert effects(workspace) == EXPECTED
    placed = digests("small")

    tracked.fresh("one machine", pools=False)
    execute(lifecycle_of("small", "test"), project="small", profile="test", engine="local")
    assert digests("small") == placed


def test_a_failure_there_is_the_nodes_own(machines: Machines) -> None:
    """What a step fails with on the other machine is raised here, with its next step, after the policy's attempts."""
    table = {"path": "data/nowhere.csv"}
    policy = {"observe": {"retries": 1, "retry_delay": 0, "cache": False}}
    machines.project("gone", sources={"parcels": table}, placement={"observe": machines.there.pool}, policy=policy)
    states: list[NodeState] = []
    with pytest.raises(NotFoundError, match="nowhere.csv") as caught:
        run("gone", "observe", states.append)
    assert caught.value.next_step
    log = RunLog(open_workspace("test"))
    state = log.node(log.ids()[0], "observe")
    assert state == states[-1]
    assert (state.status, state.attempts) == ("failed", 1)  # a file that is missing is not looked for twice
    [child] = machines.children(log.ids()[0], "observe")
    assert child["state_name"] == "Failed"


def test_a_machine_that_dies(tracked: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kill -9` in the middle of a trial: the run says which machine is gone, and the next one makes one trial of it."""
    monkeypatch.setattr(prefect_placement, "SILENCE", 15.0)
    started, hold = tracked.held("dying", placement={"train": tracked.there.pool})
    killed: list[str] = []

    def kill(state: NodeState) -> None:
        if state.name == "train-00" and state.status == "running":
            eventually(started.exists, bool, 60)
            tracked.there.die()
            killed.append(state.name)

    with pytest.raises(UnavailableError, match="no sign of life") as caught:
        run("dying", "train-00", kill)
    assert killed == ["train-00"]
    assert "train-00" in str(caught.value)
    log = RunLog(open_workspace("test"))
    [lost] = tracked.children(log.ids()[0], "train-00")
    assert lost["state_type"] == "CRASHED"

    hold.unlink()
    tracked.there.start_worker()
    again = run("dying", "train-00")
    assert {name: state.status for name, state in log.nodes(again).items()}["train-00"] == "done"
    assert trials("dying") == ["FINISHED"]


def test_a_process_that_dies(tracked: Machines) -> None:
    """`kill -9` of a step's process alone: its worker says so at once, and where the policy has retries left it goes on."""
    again = {"train": {"retries": 1, "retry_delay": 0}}
    started, hold = tracked.held("retried", placement={"train": tracked.there.pool}, policy=again)

    def kill(state: NodeState) -> None:
        if (state.name, state.status, state.attempts) == ("train-00", "running", 1) and hold.exists():
            eventually(started.exists, bool, 60)
            log = RunLog(open_workspace("test"))
            [child] = tracked.children(log.ids()[0], "train-00")
            hold.unlink()
            os.kill(int(child["infrastructure_pid"]), signal.SIGKILL)

    run_id = run("retried", "train-00", kill)
    state = RunLog(open_workspace("test")).node(run_id, "train-00")
    assert state is not None
    assert (state.status, state.attempts) == ("done", 2)
    states = [child["state_type"] for child in tracked.children(run_id, "train-00")]
    assert states == ["CRASHED", "COMPLETED"]
    assert trials("retried") == ["FINISHED"]


def test_other_code_there(machines: Machines) -> None:
    """What another revision did is not taken for this one's: the error names the part that differs."""
    lock = machines.there.root / "requirements.lock"
    lock.write_text("another==1.0\n")
    try:
        machines.project("drifted", placement={"ingest": machines.there.pool})
        shutil.copytree(machines.here.root / "data", machines.there.root / "data", dirs_exist_ok=True)
        with pytest.raises(ConflictError, match="did step 'ingest' with other code") as caught:
            run("drifted", "ingest")
    finally:
        lock.unlink()
    assert "requirements.lock changed" in caught.value.details


def trials(project: str) -> list[str]:
    """The states of a project's runs in the tracker."""
    from mlflow import MlflowClient

    client = MlflowClient(open_workspace("test").endpoint("mlflow"))
    experiment = client.get_experiment_by_name(project)
    assert experiment
    return [run.info.status for run in client.search_runs([experiment.experiment_id])]


def test_an_engine_that_dies(tracked: Machines) -> None:
    """`kill -9` of the engine leaves the trial to its machine: the next run waits for that one and begins no other."""
    started, hold = tracked.held("orphan", placement={"train": tracked.there.pool})
    process = begin(tracked, "orphan", "train-00")
    try:
        eventually(started.exists, bool, 120)
    finally:
        process.kill()
        process.wait()
    log = RunLog(open_workspace("test"))
    first = log.ids()[0]
    [child] = tracked.children(first, "train-00")
    joined: list[str] = []
    wait = prefect_placement.Placement._wait

    def waiting(self: Any, node: Any, other: Any, deadline: float) -> Any:
        joined.append(str(other.id))
        hold.unlink()
        return wait(self, node, other, deadline)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefect_placement.Placement, "_wait", waiting)
        second = run("orphan", "train-00")
    assert joined == [child["id"]]
    assert tracked.children(second, "train-00") == []
    assert log.nodes(second)["train-00"].status == "found"
    assert trials("orphan") == ["FINISHED"]


def test_interrupted(tracked: Machines) -> None:
    """An engine that is told to stop has the flow run on the other machine cancelled, and its process ended."""
    started, _ = tracked.held("stopped", placement={"train": tracked.there.pool})
    process = begin(tracked, "stopped", "train-00")
    eventually(started.exists, bool, 120)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    run_id = RunLog(open_workspace("test")).ids()[0]
    [child] = eventually(
        lambda: tracked.children(run_id, "train-00"), lambda found: found[0]["state_name"] == "Cancelled", 60
    )
    pid = int(child["infrastructure_pid"])
    eventually(lambda: psutil.pid_exists(pid), lambda there: not there, 60)


def test_a_pool_without_a_worker(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said who is missing and how to start one; at the node's deadline the run ends, and its flow run too."""
    monkeypatch.setattr(prefect_placement, "PATIENCE", -1.0)
    machines.there.die()
    machines.tell("PATCH", f"/work_pools/{machines.there.pool}", is_paused=True)
    try:
        machines.project(
            "lonely",
            placement={"observe": machines.there.pool},
            policy={"observe": {"timeout": 8, "retries": 2, "cache": False}},
        )
        states: list[NodeState] = []
        with pytest.raises(TimeLimitError, match="was not begun on work pool.*prefect worker start --pool"):
            run("lonely", "observe", states.append)
    finally:
        machines.tell("PATCH", f"/work_pools/{machines.there.pool}", is_paused=False)
    assert [state.status for state in states] == ["waiting", "failed"]
    assert "is paused; next: prefect work-pool resume" in states[0].error
    [child] = machines.children(RunLog(open_workspace("test")).ids()[0], "observe")
    assert child["state_name"] == "Cancelled"


def test_no_deployment(machines: Machines) -> None:
    """A pool that has no deployment `step/POOL` is an error before anything runs."""
    profile = machines.here.root / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text().replace(machines.there.pool, "gpu-pool"))
    open_workspace.cache_clear()
    machines.project("early", placement={"prepare": "gpu-pool"})
    with pytest.raises(NotFoundError, match="no deployment step/gpu-pool on Prefect"):
        run("early", "prepare")
    log = RunLog(open_workspace("test"))
    assert {state.status for state in log.nodes(log.ids()[0]).values()} == {"waiting"}


def test_a_call_that_is_too_long(machines: Machines) -> None:
    """What Prefect's server would refuse is refused before anything runs, with the step's place in the DAG."""
    machines.project("long", placement={"prepare": machines.there.pool})
    features = machines.here.root / "config" / "projects" / "long" / "features.sql"
    features.write_text(features.read_text().replace("select ", f"select '{'long ' * 120_000}' as text, ", 1))
    with pytest.raises(DagError, match=r"lifecycle.py:\d+: the arguments of step 'prepare' take \d+,\d+ bytes"):
        run("long", "prepare")
