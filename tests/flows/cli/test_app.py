"""The command as a whole: quick to start, errors in one line, JSON for machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "prefect", "kfp", "mlflow", "great_expectations", "papermill", "tensorboard", "tritonclient", "lakefs", "pygit2",
    "duckdb", "ibis", "pandas", "numpy", "pyarrow", "sklearn", "onnx", "onnxruntime", "optuna", "jinja2", "pydantic", "fsspec",
    "yaml",
)  # fmt: skip


def trilha(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = "from flows.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    """The command line is built from the standard library and typer alone."""
    program = "import sys, flows.cli; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not [name for name in HEAVY if f"'{name}'" in loaded]


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["plan", "nothing"], 3, "error: no project 'nothing'; accepted: none yet; next: create"),
        (["plan", "../x"], 2, "error: project '../x'; accepted: a name"),
        (["runs", "zzz"], 3, "error: no runs begin with 'zzz'; accepted: none yet; next: trilha run PROJECT"),
        (["runs", "--profile", "tset"], 3, "error: no profile 'tset'; accepted: test"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(repository: Path, arguments: list[str], code: int, line: str) -> None:
    """Culprit, what was accepted, next step; no traceback."""
    if "--profile" not in arguments:
        arguments = [*arguments, "--profile", "test"]
    done = trilha(*arguments, cwd=repository)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1


def test_an_error_for_machines_is_json(repository: Path) -> None:
    """The same fields, with `--json`."""
    done = trilha("plan", "nothing", "--json", cwd=repository)
    assert json.loads(done.stdout) | {"next": ""} == {
        "error": "NotFoundError",
        "problem": "no project 'nothing'",
        "accepted": "none yet",
        "next": "",
        "details": "",
        "exit_code": 3,
    }


def test_every_command_takes_profile_and_json() -> None:
    """Wherever a project runs, and whoever reads the answer."""
    import typer.main

    from flows.cli.app import app

    def leaves(command: object, path: str) -> list[tuple[str, set[str]]]:
        inner = getattr(command, "commands", None)
        if inner:
            return [leaf for name, child in inner.items() for leaf in leaves(child, f"{path} {name}")]
        return [(path, {option for parameter in command.params for option in parameter.opts})]  # type: ignore[attr-defined]

    for path, options in leaves(typer.main.get_command(app), "trilha"):
        assert {"--profile", "--json"} <= options, path


def test_an_unchanged_run_needs_none_of_the_heavy_packages() -> None:
    """The lifecycle is traced, and every step found, without what the steps themselves import."""
    heavy = [name for name in HEAVY if name not in {"pydantic", "fsspec", "yaml"}]
    program = "import sys, flows.lifecycle, flows.plan; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not [name for name in heavy if f"'{name}'" in loaded]
