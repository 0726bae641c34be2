"""`python -m components STEP`: every node in a process of its own, handed on as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components import config
from components.records import digest
from components.runs import RunLog, new_header, output_of
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
    where = ["--dag", dag.name, "--project", "small", "--profile", "test", "--run", run, "--output", str(outputs / name)]
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
