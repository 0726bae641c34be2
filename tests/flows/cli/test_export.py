"""`trilha export` has two uses, and says so where they are mixed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.workspace import Workspace
from flows.trail import trail
from tests.conftest import place_small
from tests.triton import Fitted, release_of


def trilha(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from flows.cli import main; main()"
    command = [sys.executable, "-c", program, "export", *arguments, "--profile", "test"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_of_a_release(workspace: Workspace, repository: Path, fitted: Fitted) -> None:
    """A release by its number, or the one that serves, into a folder that is named after it."""
    place_small(repository)
    release = release_of(workspace, fitted, "small")
    done = trilha("small", "--target", "edge", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["folder"], found["card"]["digest"]) == ("small-1-edge", release.digest)
    assert (repository / "small-1-edge" / "model.onnx").stat().st_size == found["card"]["size"]
    assert trail(workspace, found["card"]["digest"][:12])[0].name == "small/1"
    done = trilha("small", "--target", "edge", "--release", "1", "--to", "elsewhere/small")
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("elsewhere/small: small/1, ")
    assert last == "  before: npm install onnxruntime-web, in elsewhere/small"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["model.onnx"], 2, "export; accepted: FILE --name NAME --into FOLDER, or PROJECT --target edge"),
        (["model.onnx", "--name", "a", "--into", "b", "--release", "1"], 2, "export: --release with --target auto"),
        (["small", "--target", "edge", "--name", "a"], 2, "export: --name with --target edge"),
        (["nothing", "--target", "edge"], 3, "no project 'nothing'"),
        (["small", "--target", "edge"], 3, "project 'small' has no release; next: trilha run small"),
    ],
)
def test_refused(small: Path, arguments: list[str], code: int, message: str) -> None:
    """One line that says what belongs together."""
    done = trilha(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
