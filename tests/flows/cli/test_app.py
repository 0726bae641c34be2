"""The command as a whole: quick to start, errors in one line, JSON for machines."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.runs import RunLog, new_header
from components.workspace import Workspace

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


def test_a_step_that_there_is_not(small: Path) -> None:
    """A mistake on the command line, with the exit code of one and the nearest name."""
    done = trilha("plan", "small", "--until", "trian-00", "--profile", "test", cwd=small)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: no step 'trian-00' in lifecycle (did you mean 'train-00'?); accepted: observe, "
    )


def test_a_run_that_there_is_not(repository: Path, workspace: Workspace) -> None:
    """Where there are runs, the next thing to do is to look at them."""
    header = new_header("lifecycle", "small", "test", "local")
    RunLog(workspace).begin(header)
    for words in (["runs", "zzz"], ["why", "zzz", "train"]):
        done = trilha(*words, "--profile", "test", cwd=repository)
        assert done.returncode == 3
        assert done.stderr == f"error: no runs begin with 'zzz'; accepted: {header.id}; next: trilha runs\n"


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


@pytest.mark.parametrize(
    ("arguments", "problem", "accepted", "next_step"),
    [
        ("plan small --wrong", "trilha plan: no option --wrong", "--profile, --until, --commit, --dag, --from, --to, --json, --help", "trilha plan --help"),
        ("runs --profiel x", "trilha runs: no option --profiel (did you mean 'profile'?)", "--profile, --json, --help", "trilha runs --help"),
        ("schema nosuch", "trilha schema: 'document' is 'nosuch'", "project, expectations, profile", "trilha schema --help"),
        ("up --workers 65", "trilha up: '--workers' is '65'", "a number of 64 or less", "trilha up --help"),
        ("up --workers two", "trilha up: '--workers' is 'two'", "a whole number", "trilha up --help"),
        ("plan", "trilha plan: missing argument 'project'", "trilha plan [OPTIONS] {project}", "trilha plan --help"),
        ("plan one two", "trilha plan: got unexpected extra argument(s) (two)", "trilha plan [OPTIONS] {project}", "trilha plan --help"),
        ("notebook exprt", "trilha notebook: no such command 'exprt'. Did you mean 'export'?", "export, sync", "trilha notebook --help"),
        ("plan --profile", "trilha: Option '--profile' requires an argument.", "what --help says of it", "put --help in its place"),
    ],
)  # fmt: skip
def test_a_misused_command_line_is_an_error_like_any_other(
    tmp_path: Path, arguments: str, problem: str, accepted: str, next_step: str
) -> None:
    """In one line for people, and for machines with `--json`, wherever that stands; exit code 2."""
    done = trilha(*arguments.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {problem}; accepted: {accepted}; next: {next_step}\n"
    words = arguments.split()
    words.insert(2 if words[0] == "notebook" else 1, "--json")
    done = trilha(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    said = json.loads(done.stdout)
    assert (said["problem"], said["accepted"], said["next"], said["exit_code"]) == (problem, accepted, next_step, 2)


def test_a_group_of_commands_by_itself(tmp_path: Path) -> None:
    """Its help, below the line that says what is missing."""
    done = trilha("data", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: trilha data: no command; accepted: log, diff, ")
    assert "Undo what the commit REF changed" in done.stderr


def test_an_interrupted_command_says_so(repository: Path) -> None:
    """With the exit code that shells know for it; no traceback."""
    # What a shell runs in the background ignores the signal, and so do its children unless they say otherwise.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = [sys.executable, "-c", f"{listen}; from flows.cli import main; main()"]
    log = repository / ".trilha" / "test" / "services" / "triton.log"
    log.parent.mkdir(parents=True)
    log.write_text("it is up\n")
    process = subprocess.Popen(
        [*program, "logs", "triton", "--follow", "--profile", "test"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=repository,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "it is up\n"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert (process.returncode, said) == (130, "interrupted; what is done is in the ledger\n")


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
        wanted = {"--json"} if path == "trilha export" else {"--profile", "--json"}  # a file becomes a folder, anywhere
        assert wanted <= options, path


def test_an_unchanged_run_needs_none_of_the_heavy_packages() -> None:
    """The lifecycle is traced, and every step found, without what the steps themselves import."""
    heavy = [name for name in HEAVY if name not in {"pydantic", "fsspec", "yaml"}]
    program = "import sys, flows.lifecycle, flows.plan; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not [name for name in heavy if f"'{name}'" in loaded]
