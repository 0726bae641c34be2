"""Fingerprints: which edits change a step's key. Each case edits real files and asks a fresh interpreter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STEP = '''
from components.near import helper as h
import components.near as near
from components import constants

def step(x: int) -> int:
    """Say something."""
    import components.plain
    return h(x) + near.other(x) + constants.ONE + components.plain.whole(x)
'''
NEAR = """
def helper(x):
    from components.far import deep
    return deep(x)

def other(x):
    return x

def unrelated(x):
    return x
"""
PLAIN = "def whole(x):\n    return x\n"
FAR = """
SCALE = 2

class Scaler:
    def scale(self, x):
        return x * SCALE

def deep(x):
    return Scaler().scale(x)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "components"
    folder.mkdir()
    for name, text in {
        "__init__": "",
        "steps": STEP,
        "near": NEAR,
        "far": FAR,
        "constants": "ONE = 1\nTWO = 2\n",
        "plain": PLAIN,
    }.items():
        (folder / f"{name}.py").write_text(text)
    for real in ("fingerprint", "module_code"):
        shutil.copy(Path(__file__).parents[2] / "components" / f"{real}.py", folder)
    return folder


def fingerprint(package: Path) -> str:
    program = """
from components.fingerprint import fingerprint
from components.steps import step
print(sorted(fingerprint(step).items()))
"""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=package.parent
    ).stdout


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("steps", "+ constants.ONE", "- constants.ONE"),
        ("near", "return deep(x)", "return deep(x) + 1"),
        ("near", "def other(x):\n    return x", "def other(x):\n    return -x"),
        ("far", "SCALE = 2", "SCALE = 3"),
        ("far", "x * SCALE", "x / SCALE"),
        ("constants", "ONE = 1", "ONE = 11"),
        ("plain", "return x", "return x + 1"),
    ],
)
def test_an_edit_within_reach_changes_it(package: Path, file: str, old: str, new: str) -> None:
    """In the step itself, a function two imports away, a method, a constant."""
    before = fingerprint(package)
    path = package / f"{file}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert fingerprint(package) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("far", "def deep(x):", "# a comment\ndef deep(x):  # and another\n"),
        ("far", "        return x * SCALE", "\n\n        return (x   *   SCALE)"),
        ("steps", "Say something.", "Say something else."),
        ("near", "def unrelated(x):\n    return x", "def unrelated(x):\n    return x + 1"),
        ("constants", "TWO = 2", "TWO = 22"),
    ],
)
def test_an_edit_that_cannot_matter_does_not(package: Path, file: str, old: str, new: str) -> None:
    """Comments, layout, docstrings, and what the step does not reach."""
    before = fingerprint(package)
    path = package / f"{file}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert fingerprint(package) == before


def test_it_names_what_it_reached(package: Path) -> None:
    """The parts are by symbol, so that `why` can name the one that changed."""
    assert "('components.far:Scaler'" in fingerprint(package)
