"""`trilha tune` as people call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.records import Artifact
from components.serving import serve
from components.workspace import Workspace
from tests.conftest import place_small
from tests.triton import Fitted, release_of


def trilha(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from flows.cli import main; main()"
    command = [sys.executable, "-c", program, "tune", "small", "--profile", "test", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def project(served: Workspace, repository: Path) -> Workspace:
    place_small(repository)
    return served


@pytest.mark.parametrize("budget", ["20 kg", "0ms", "-1", "ms"])
def test_a_budget_that_is_no_time(project: Workspace, budget: str) -> None:
    """Refused with what is one, before anything is loaded."""
    done = trilha("--p99", budget)
    assert done.returncode == 2
    assert done.stderr == f"error: --p99 {budget!r}; accepted: a time: 20ms, 0.5s; next: trilha tune --help\n"


def test_before_the_first_release(project: Workspace) -> None:
    """There is no model to measure yet, and what makes one is said."""
    done = trilha("--p99", "20ms")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == "error: project 'small' has no release; next: trilha run small"


@pytest.mark.long
def test_a_search(project: Workspace, fitted: Fitted) -> None:
    """A line for everything that was tried, then what was chosen, what the load cost, and where the page is."""
    serve(project, release_of(project, fitted, "small").bundle, "small")
    done = trilha("--p99", "60s", "--seconds", "1", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["outcome"]["budget_ms"] == 60_000
    assert result["outcome"]["cut"]
    assert result["chosen"]["knobs"]["instances"] == 1
    assert result["file"] is None
    assert project.artifacts.has(Artifact(**result["page"]))
    assert sum("1 instance" in line for line in done.stderr.splitlines()) == 2
