"""A DAG on a real Prefect server, and what the server's own API says about it afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from components.errors import DagError, GateError, TimeLimitError, UnavailableError
from components.project import Policy
from components.records import Record, Skipped
from components.runs import Header, Run, new_header
from components.workspace import Workspace, open_workspace
from flows.dag import Dag, Do, trace
from flows.engines import local, prefect
from tests.children import hearing_interrupts
from tests.prefect_api import api

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect")]

ROOT = Path(__file__).parents[3]
BARRIER = threading.Barrier(2, timeout=20)
ATTEMPTS: list[str] = []
ENDED: list[str] = []
FINAL = {"COMPLETED", "FAILED", "CRASHED"}


class Text(Record):
    text: str


class Verdict(Record):
    passed: bool


def say(text: str) -> Text:
    """Say it.

    Only the first line is for the server.
    """
    return Text(text=text)


def judge(text: Text) -> Verdict:
    return Verdict(passed=len(text.text) < 10)


def join(texts: list[Text], more: dict[str, Text]) -> Text:
    return Text(text=" ".join(text.text for text in [*texts, *more.values()]))


def shouting(do: Do, word: str) -> Text:
    first, second = do.named("say-a")(say, word), do.named("say-b")(say, "b")
    with do.when(do(judge, first)):
        return do(join, [first, second], {"again": first})


def run(dag: Dag, engine: Any = prefect.run) -> tuple[Header, dict[str, Record]]:
    header = new_header(dag.name, "small", "test", "prefect")
    one = Run(open_workspace("test"), header)
    one.announce(dag.nodes)
    return header, engine(dag, one)


def only(step: Any, *arguments: object, **policy: Any) -> Dag:
    """A DAG of one node."""

    def only(do: Do) -> Any:
        return do(step, *arguments)

    return trace(only, policies={step.__name__: Policy(**policy)})


class Server:
    """The server as its API shows it."""

    def __init__(self, url: str) -> None:
        self._client = api(url)

    def ask(self, what: str, **body: Any) -> Any:
        answer = self._client.post(f"/{what}/filter", json=body)
        answer.raise_for_status()
        return answer.json()

    def flow_run(self, name: str) -> dict[str, Any]:
        found = self.ask("flow_runs", flow_runs={"name": {"any_": [name]}})
        assert len(found) == 1
        return found[0]

    def task_runs(self, flow_run: str, expected: int) -> dict[str, dict[str, Any]]:
        """By name; the server writes them from events, first their state's type and a moment later the state itself."""
        found = eventually(
            lambda: [
                task
                for task in self.ask("task_runs", flow_runs={"id": {"any_": [flow_run]}})
                if task["state"] and (task["state"]["type"] in FINAL or task["state"]["name"] == "NotReady")
            ],
            lambda tasks: len(tasks) >= expected,
        )
        return {task["name"]: task for task in found}

    def artifacts(self, flow_run: str) -> dict[str, dict[str, Any]]:
        found = self.ask("artifacts", flow_runs={"id": {"any_": [flow_run]}})
        return {artifact["key"]: artifact for artifact in found}


def eventually(ask: Any, until: Any, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not until(found := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert until(found), found
    return found


@pytest.fixture
def server(on_prefect: Workspace, prefect_url: str) -> Server:
    return Server(prefect_url)


def test_same_records_as_local(server: Server) -> None:
    """A DAG returns the same records here and on the local engine."""
    here = run(trace(shouting, "hello"))[1]
    assert here == run(trace(shouting, "hello"), local.run)[1]
    assert here["join"] == Text(text="hello b hello")


def test_one_task_a_node(server: Server) -> None:
    """The flow run has the run's id, and each node is a task with its own name, of its step, after what it needs."""
    header, _ = run(trace(shouting, "names"))
    flow_run = server.flow_run(header.id)
    assert flow_run["state_name"] == "Completed"
    assert sorted(flow_run["tags"]) == ["small", "test"]
    tasks = server.task_runs(flow_run["id"], 4)
    assert sorted(tasks) == ["join", "judge", "say-a", "say-b"]
    assert tasks["say-a"]["task_key"].startswith("step")
    needs = {one["id"] for inputs in tasks["join"]["task_inputs"].values() for one in inputs}
    assert needs == {tasks[name]["id"] for name in ("say-a", "say-b", "judge")}


def test_what_was_found_or_skipped(server: Server) -> None:
    """A node that the ledger had is shown as cached, one whose gate did not pass as skipped, with the reason."""
    dag = trace(shouting, "far too long for the judge")
    run(dag)
    header, records = run(dag)
    assert records["join"] == Skipped(skipped="verdict did not pass")
    tasks = server.task_runs(server.flow_run(header.id)["id"], 4)
    assert tasks["say-a"]["state"]["name"] == "Cached"
    assert "Nothing changed since" in tasks["say-a"]["state"]["message"]
    assert (tasks["join"]["state"]["name"], tasks["join"]["state"]["message"]) == ("Skipped", "verdict did not pass")


def meet(name: str) -> Text:
    BARRIER.wait()
    return Text(text=name)


def test_independent_nodes_overlap(server: Server) -> None:
    """Two nodes that do not need each other run at the same time, and the server's times say so."""

    def meeting(do: Do) -> Text:
        do.named("meet-a")(meet, "a")
        return do.named("meet-b")(meet, "b")

    header, _ = run(trace(meeting))
    tasks = server.task_runs(server.flow_run(header.id)["id"], 2)
    starts, ends = ([task[key] for task in tasks.values()] for key in ("start_time", "end_time"))
    assert max(starts) < min(ends)


def wait(name: str, seconds: float, after: list[Text]) -> Text:
    time.sleep(seconds)
    ENDED.append(name)
    return Text(text=name)


def test_waiting_takes_no_thread(server: Server) -> None:
    """A node whose needs are not done yet does not keep others from running."""

    def waiting(do: Do) -> Text:
        long = do.named("long")(wait, "long", 1.0, [])
        last = do.named("last")(wait, "last", 0.0, [long])
        do.named("short")(wait, "short", 0.0, [])
        return last

    ENDED.clear()
    run(trace(waiting))
    assert ENDED == ["short", "long", "last"]


def stumble(name: str, error: str, times: int) -> Text:
    ATTEMPTS.append(name)
    if ATTEMPTS.count(name) <= times:
        raise {"gate": GateError, "unavailable": UnavailableError, "unknown": ValueError}[error]("stumbled")
    return Text(text=name)


@pytest.mark.parametrize("error", ["unavailable", "unknown"])
def test_retries(server: Server, error: str) -> None:
    """What can end otherwise is tried again, as often and as late as the policy says."""
    ATTEMPTS.clear()
    dag = only(stumble, error, error, 2, retries=2, retry_delay=0.2, cache=False)
    clock = time.monotonic()
    header, records = run(dag)
    assert records["stumble"] == Text(text=error)
    assert ATTEMPTS == [error] * 3
    assert time.monotonic() - clock >= 0.4
    assert server.task_runs(server.flow_run(header.id)["id"], 1)["stumble"]["run_count"] == 3


def test_a_gate_is_not_retried(server: Server) -> None:
    """A gate that refuses fails the run at once, with its own error."""
    ATTEMPTS.clear()
    dag = only(stumble, "gate", "gate", 1, retries=3, cache=False)
    with pytest.raises(GateError, match="stumbled"):
        run(dag)
    assert ATTEMPTS == ["gate"]


def wait_long(seconds: int) -> Text:
    for _ in range(seconds * 20):
        time.sleep(0.05)
    return Text(text="late")


def test_timeout(server: Server) -> None:
    """A step that runs past its deadline is stopped and named, and not given the same time again."""
    dag = only(wait_long, 20, timeout=0.5, retries=2, cache=False)
    header = new_header(dag.name, "small", "test", "prefect")
    clock = time.monotonic()
    with pytest.raises(TimeLimitError, match="'wait_long' ran past its 0.5 s"):
        prefect.run(dag, Run(open_workspace("test"), header))
    assert time.monotonic() - clock < 10
    task = server.task_runs(server.flow_run(header.id)["id"], 1)["wait_long"]
    assert (task["state_name"], task["run_count"]) == ("TimedOut", 1)


def refuse(name: str) -> Text:
    raise GateError(f"{name} is not good", accepted="better", next_step="improve it", details="line one\nline two")


def test_failure(server: Server) -> None:
    """A failed node fails the flow with its own error and a page about it; what does not need it has finished."""

    def failing(do: Do) -> Text:
        bad = do(refuse, "it")
        do.named("other")(say, "other")
        return do(join, [bad], {})

    dag = trace(failing, policies={"refuse": Policy(cache=False)})
    header = new_header(dag.name, "small", "test", "prefect")
    with pytest.raises(GateError) as caught:
        prefect.run(dag, Run(open_workspace("test"), header))
    assert caught.value.next_step == "improve it"
    flow_run = server.flow_run(header.id)
    assert flow_run["state_name"] == "Failed"
    assert "it is not good" in flow_run["state"]["message"]
    tasks = server.task_runs(flow_run["id"], 3)
    assert {name: task["state_name"] for name, task in tasks.items()} == {
        "refuse": "Failed",
        "other": "Completed",
        "join": "NotReady",
    }
    page = server.artifacts(flow_run["id"])["small-refuse-error"]["data"]
    assert all(text in page for text in ("it is not good", "better", "improve it", "line two"))


QUIET = """
from flows.dag import trace
from tests.flows.engines.test_prefect import run, shouting
print(run(trace(shouting, "quiet"))[0].id)
"""


def test_quiet_on_the_console(server: Server) -> None:
    """Prefect prints nothing here, and its logs are on the server."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", QUIET], env=environment, capture_output=True, text=True, check=True)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")
    flow_run = server.flow_run(done.stdout.strip())["id"]
    eventually(
        lambda: [line["message"] for line in server.ask("logs", logs={"flow_run_id": {"any_": [flow_run]}})],
        lambda lines: any("Finished in state" in line for line in lines),
    )


def test_refused_before_anything_runs(server: Server) -> None:
    """A policy that this machine cannot honour is refused, and no flow run is made."""
    dag = only(say, "gpu", gpu=64)
    header = new_header(dag.name, "small", "test", "prefect")
    with pytest.raises(DagError, match="asks for 64 GPUs"):
        prefect.run(dag, Run(open_workspace("test"), header))
    assert server.ask("flow_runs", flow_runs={"name": {"any_": [header.id]}}) == []


def test_no_server(repository: Path) -> None:
    """Without its server the engine says so; it starts none behind the scenes."""
    with pytest.raises(UnavailableError, match="prefect is not running.*trilha up"):
        run(trace(shouting, "alone"))


PROGRAM = """
import sys, time
sys.path.insert(0, {root!r})
from components.records import Record
from flows.dag import trace
from flows.engines import prefect
from components.runs import Run, new_header
from components.workspace import open_workspace

class Text(Record):
    text: str

def hang(file: str) -> Text:
    open(file, "w").close()
    while True:
        time.sleep(0.05)

def hanging(do):
    return do(hang, sys.argv[2])

dag = trace(hanging)
header = new_header("hanging", "small", "test", "prefect").model_copy(update=dict(id=sys.argv[1]))
prefect.run(dag, Run(open_workspace("test"), header))
"""


def hang(repository: Path, name: str, **variables: str) -> subprocess.Popen[bytes]:
    """A process in the middle of a step of the run `name`."""
    program, started = repository / "program.py", repository / f"{name}.started"
    program.write_text(PROGRAM.format(root=str(ROOT)))
    process = subprocess.Popen(
        hearing_interrupts([sys.executable, program, name, started]),
        env=os.environ | variables,
        stderr=subprocess.PIPE,
    )
    eventually(started.exists, bool, 60)
    return process


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(server: Server, repository: Path, ending: signal.Signals) -> None:
    """A run that is told to stop stops within seconds, its step too, and the server knows."""
    process = hang(repository, f"run-{ending.name.lower()}")
    process.send_signal(ending)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert server.flow_run(f"run-{ending.name.lower()}")["state_type"] in {"CRASHED", "CANCELLED"}


def test_the_users_own_settings(server: Server, repository: Path) -> None:
    """Whatever server and profile a person uses Prefect with otherwise, states and logs go to ours."""
    process = hang(repository, "run-elsewhere", PREFECT_API_URL="http://127.0.0.1:9/api", PREFECT_PROFILE="cloud")
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=20)[1]
    flow_run = server.flow_run("run-elsewhere")
    assert flow_run["state_type"] == "CRASHED"
    assert server.ask("logs", logs={"flow_run_id": {"any_": [flow_run["id"]]}})
    assert b"Error logging to API" not in output


def test_killed(server: Server, repository: Path) -> None:
    """A flow run whose process was killed does not say for ever that it runs: the next run sees to it."""
    process = hang(repository, "run-killed")
    process.kill()
    process.communicate()
    assert server.flow_run("run-killed")["state_type"] == "RUNNING"
    run(trace(shouting, "after"))
    assert server.flow_run("run-killed")["state_type"] == "CRASHED"
