"""`trilha gc` at the command line: a look changes nothing, people and machines are told the same, a terminal is asked."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.workspace import Workspace

YEAR = 365 * 86_400.0


@pytest.fixture
def left(workspace: Workspace) -> Path:
    """A file of a step that nobody needs, a year old."""
    file = workspace.home / "artifacts" / ("a" * 64) / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(1_234))
    os.utime(file, (time.time() - YEAR,) * 2)
    return file


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("trilha")), "gc", *arguments, "--profile", "test"]


def gc(*arguments: str) -> str:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, check=True).stdout


def test_a_look(left: Path) -> None:
    """What would go, by store, in bytes and by name; it is there afterwards."""
    said = gc("--dry-run")
    assert "artifacts        1            1,234" in said
    assert "1,234 bytes that nothing needs and nobody used in 14 days: this would go" in said
    assert f"artifacts {'a' * 64}" in said
    found = json.loads(gc("--dry-run", "--json"))
    assert (found["bytes"], found["days"], found["unseen"]) == (1_234, 14, {})
    assert found["stores"] == {
        "artifacts": [{"kind": "artifacts", "name": f"artifacts {'a' * 64}", "id": "a" * 64, "bytes": 1_234}]
    }
    assert left.is_file()


def test_a_terminal_is_asked(left: Path) -> None:
    """A person who says no keeps all; one who says yes does not, and the next time there is nothing to do."""
    assert "Remove all of this for good?" in answered("n")
    assert left.is_file()
    assert "this is gone" in answered("y")
    assert not left.exists()
    assert gc().startswith("nothing to remove")


def test_nobody_is_asked_without_one(left: Path) -> None:
    """A script that says so removes."""
    assert "this is gone" in gc()
    assert not left.exists()


def answered(answer: str) -> str:
    """What it says at a terminal where a person says that."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command(), stdin=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    said, _ = process.communicate(timeout=120)
    os.close(ours)
    return said
