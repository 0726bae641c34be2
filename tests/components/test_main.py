"""`python -m components STEP`: every node in a process of its own, handed on as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from components import config
from components.__main__ import main
from components.errors import GateError, UnavailableError
from components.project import Policy
from components.records import digest
from components.runs import NodeState, RunLog, new_header, output_of
from components.steps import STEPS
from components.workspace import open_workspace
from flows.dag import Dag
from flows.execute import execute, lifecycle_of
from flows.packing import packed


def do(dag: Dag, name: str, run: str, outputs: Path) -> subprocess.CompletedProcess[str]:
    """Do one node in a process of its own; its record goes to `outputs/NAME`."""
    call = packed(dag, dag[name])
    records = [part for need in call.needs for part in ("--record", need, (outputs / need).read_text())]
    command = [sys.executable, "-m", "components", call.step_name, "--call", call.model_dump_json()]
    where = [
        "--dag",
        dag.name,
        "--project",
        "small",
        "--profile",
        "test",
        "--run",
        run,
        "--output",
        str(outputs / name),
    ]
    path = str(Path(__file__).parents[2])
    environment = {"PYTHONPATH": path, "TRILHA_ROOT": str(config.root()), "PATH": "/usr/bin:/bin", "HOME": str(outputs)}
    return subprocess.run(
        [*command, *where, *records], env=environment, capture_output=True, text=True, check=False, cwd=outputs
    )


def test_every_step_of_the_lifecycle_has_its_name(small: Path) -> None:
    """What the lifecycle calls can be asked for by name, and is that very function."""
    for node in lifecycle_of("small", "test").nodes:
        assert STEPS[node.step.__name__] == f"{node.step.__module__}:{node.step.__qualname__}"


@pytest.mark.slow
def test_the_same_keys_and_records_as_in_one_process(small: Path, tmp_path: Path) -> None:
    """JSON there and back changes neither a key nor an output, and the run is on record."""
    dag = lifecycle_of("small", "test", "prepare")
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    header = new_header(dag.name, "small", "test", "kubeflow")
    for node in dag.nodes:
        done = do(dag, node.name, header.id, outputs)
        assert done.returncode == 0, done.stderr
    execute(dag, project="small", profile="test", engine="local")

    log = RunLog(open_workspace("test"))
    here, there = log.nodes(log.ids()[0]), log.nodes(header.id)
    assert {name: state.key for name, state in there.items()} == {name: state.key for name, state in here.items()}
    assert {state.status for state in there.values()} == {"done"}
    assert {name for name, state in here.items() if state.status == "done"} == {"observe"}
    for node in dag.nodes:
        assert digest(output_of(node, there[node.name])) == digest(output_of(node, here[node.name]))


def test_a_held_gate_skips_what_is_behind_it(small: Path, tmp_path: Path) -> None:
    """A gate is an input: the record of what it holds back says why."""
    dag = lifecycle_of("small", "test")
    for need in packed(dag, dag["register"]).needs:
        (tmp_path / need).write_text('{"skipped": "decision did not pass"}')
    header = new_header(dag.name, "small", "test", "kubeflow")
    assert do(dag, "register", header.id, tmp_path).returncode == 0
    assert json.loads((tmp_path / "register").read_text()) == {"skipped": "decision did not pass"}


def test_an_error_is_one_line_and_an_exit_code(small: Path, tmp_path: Path) -> None:
    """As at the command line: culprit, what was accepted, next step; and the run's record has it."""
    (small / "data" / "parcels.csv").unlink()
    dag = lifecycle_of("small", "test")
    header = new_header(dag.name, "small", "test", "kubeflow")
    done = do(dag, "observe", header.id, tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert "parcels.csv" in done.stderr.splitlines()[0]
    assert RunLog(open_workspace("test")).nodes(header.id)["observe"].status == "failed"


def stated(small: Path, dag: Dag, run: str, **fields: object) -> RunLog:
    """The run's record, in which `observe` is as `fields` say."""
    log, node = RunLog(open_workspace("test")), dag["observe"]
    log.write(run, NodeState(name=node.name, step="observe", needs=(), **fields))  # type: ignore[arg-type]
    return log


GATE = GateError("observe refused", next_step="look at it").as_dict()


@pytest.mark.parametrize("begun", [1, 2])
def test_what_cannot_end_otherwise_is_not_tried_again(small: Path, tmp_path: Path, begun: int) -> None:
    """A container that an orchestrator starts after a gate's refusal fails at once with the same error, and is counted."""
    dag = lifecycle_of("small", "test", "observe")
    dag = replace(dag, nodes=(replace(dag["observe"], policy=Policy(retries=2, cache=False)),))
    header = new_header(dag.name, "small", "test", "kubeflow")
    log = stated(small, dag, header.id, status="failed", attempts=begun, failure=GATE)
    done = do(dag, "observe", header.id, tmp_path)
    assert (done.returncode, done.stderr) == (5, "error: observe refused; next: look at it\n")
    state = log.node(header.id, "observe")
    assert state is not None
    assert (state.status, state.attempts, state.failure) == ("failed", begun + 1, GATE)


@pytest.mark.parametrize(
    ("begun", "failure"),
    [
        (3, GATE),  # as many as the policy allows: a person asked for this one
        (1, UnavailableError("no disk").as_dict()),
        (1, None),  # something that is not ours
    ],
)
def test_what_can_end_otherwise_is_tried_again(
    small: Path, tmp_path: Path, begun: int, failure: dict[str, object] | None
) -> None:
    """The attempts of all containers are counted together."""
    dag = lifecycle_of("small", "test", "observe")
    dag = replace(dag, nodes=(replace(dag["observe"], policy=Policy(retries=2, cache=False)),))
    header = new_header(dag.name, "small", "test", "kubeflow")
    log = stated(small, dag, header.id, status="failed", attempts=begun, failure=failure)
    assert do(dag, "observe", header.id, tmp_path).returncode == 0
    state = log.node(header.id, "observe")
    assert state is not None
    assert (state.status, state.attempts, state.failure) == ("done", begun + 1, None)


@pytest.mark.parametrize(("where", "attempts"), [("here", 3), ("", 1)])
def test_a_container_that_nobody_starts_again_tries_by_itself(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, attempts: int
) -> None:
    """On a cluster one attempt a container; where nobody retries, as many as the policy allows."""
    tries: list[int] = []

    def fails(*_: object) -> None:
        tries.append(1)
        raise UnavailableError("no disk")

    monkeypatch.setenv("TRILHA_RETRIES", where)
    monkeypatch.setattr("components.runs.perform", lambda *_, **__: fails())
    dag = lifecycle_of("small", "test", "observe")
    dag = replace(dag, nodes=(replace(dag["observe"], policy=Policy(retries=2, retry_delay=0, cache=False)),))
    run = new_header(dag.name, "small", "test", "kubeflow").id
    call = packed(dag, dag["observe"]).model_dump_json()
    named = ["--dag", "d", "--project", "small", "--profile", "test", "--run", run, "--output", str(tmp_path / "out")]
    assert main(["observe", "--call", call, *named]) == 6
    assert len(tries) == attempts


def test_a_long_record_stays_on_the_runs_record(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line has an end: what is long is passed on by name, and the next node reads it."""
    monkeypatch.setattr("components.__main__.LONG", 10)
    dag = lifecycle_of("small", "test", "ingest")
    run = new_header(dag.name, "small", "test", "kubeflow").id
    named = ["--dag", dag.name, "--project", "small", "--profile", "test", "--run", run]
    before: list[str] = []
    for node in dag.nodes:
        call = packed(dag, node).model_dump_json()
        output = tmp_path / node.name
        assert main([node.step.__name__, "--call", call, *named, *before, "--output", str(output)]) == 0
        assert json.loads(output.read_text()) == {"$stored": node.name}
        before += ["--record", node.name, output.read_text()]


def test_a_run_that_kubeflow_begins_has_an_id_that_sorts_by_time(small: Path, tmp_path: Path) -> None:
    """The same in every container of the run: made of the time and of Kubeflow's own id."""
    dag = lifecycle_of("small", "test", "observe")
    call = packed(dag, dag["observe"]).model_dump_json()
    job = "7112b0c5-1111-4222-8333-444455556666"
    where = ["--dag", "lifecycle", "--project", "small", "--profile", "test", "--output", str(tmp_path / "out")]
    assert main(["observe", "--call", call, *where, "--created", "2026-11-24T12:03:05Z", "--job", job]) == 0
    header = RunLog(open_workspace("test")).header("last")
    assert header.id == "20261124-120305-000-small-7112b0c5"
    assert header.started == "2026-11-24T12:03:05.000+00:00"


def test_a_backend_that_does_not_say_when_is_named(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An old Kubeflow leaves its placeholders as they are; the error says what to do."""
    dag = lifecycle_of("small", "test", "observe")
    call = packed(dag, dag["observe"]).model_dump_json()
    where = ["--dag", "lifecycle", "--project", "small", "--profile", "test", "--output", str(tmp_path / "out")]
    unresolved = ["--created", "{{$.pipeline_job_create_time_utc}}", "--job", "{{$.pipeline_job_uuid}}"]
    assert main(["observe", "--call", call, *where, *unresolved]) == 2
    assert "trilha kubeflow submit" in capsys.readouterr().err


def test_a_run_that_is_no_id_is_refused(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It becomes part of a path: nothing but an id is taken."""
    dag = lifecycle_of("small", "test", "observe")
    call = packed(dag, dag["observe"]).model_dump_json()
    where = ["--dag", "lifecycle", "--project", "small", "--profile", "test", "--output", str(tmp_path / "out")]
    assert main(["observe", "--call", call, *where, "--run", "../../elsewhere"]) == 2
    assert "'../../elsewhere'" in capsys.readouterr().err
