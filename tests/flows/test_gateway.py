"""The gateway as a service and as a command: started beside Triton, which it starts again, and refused where it is open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from components import endpoints
from components.records import Release
from components.workspace import Workspace, open_workspace
from flows.services import down, ensure
from flows.services.logs import log_path
from tests.components.gateway.conftest import PROJECT, ROW, until
from tests.conftest import place_small
from tests.triton import Fitted, release_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gateway")]


@pytest.fixture
def services(repository: Path, fitted: Fitted) -> Iterator[tuple[Workspace, Release]]:
    """A profile with a release, whose Triton and gateway may be started; both are stopped at the end."""
    place_small(repository)
    workspace = open_workspace("test")
    release = release_of(workspace, fitted, PROJECT)
    yield workspace, release
    down(workspace, ["gateway", "triton"])


def ask(workspace: Workspace) -> httpx.Response:
    url = f"{workspace.endpoint('gateway')}/v1/projects/{PROJECT}/predict"
    return httpx.post(url, json={"rows": [ROW]}, trust_env=False, timeout=30)


def test_up_and_killed(services: tuple[Workspace, Release]) -> None:
    """`up gateway` answers; a Triton that is killed is started again by the gateway, and answers as before."""
    workspace, release = services
    ensure(workspace, ["triton", "gateway"])
    until(lambda: ask(workspace).status_code == 200, 60)
    before = ask(workspace).json()
    assert before["release"] == release.number
    found = endpoints.read(workspace.home, "triton")
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    until(lambda: ask(workspace).status_code == 503, 10)
    until(lambda: ask(workspace).status_code == 200, 90)
    assert ask(workspace).json()["answers"] == before["answers"]
    assert "starting triton" in log_path(workspace.home, "gateway").read_text()


def trilha(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from flows.cli import main; main()"
    command = [sys.executable, "-c", program, *arguments, "--profile", "test"]
    return subprocess.run(command, capture_output=True, text=True, cwd=repository, check=False, timeout=120)


def test_beyond_loopback_is_refused(repository: Path) -> None:
    """Before anything is started, in one line, with what to do."""
    done = trilha(repository, "serve", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the gateway would listen on 0.0.0.0 and ask nobody who they are")
    assert "trilha keys add" in done.stderr


def test_keys(repository: Path) -> None:
    """A key is shown when it is made, and never again; it is listed by its name, and revoked by it."""
    made = json.loads(
        trilha(repository, "keys", "add", "ana", "--scope", "predict:small", "--days", "3", "--json").stdout
    )
    listed = trilha(repository, "keys", "list")
    assert "ana" in listed.stdout
    assert "predict:small" in listed.stdout
    assert made["key"].split("_", 2)[2] not in listed.stdout
    assert trilha(repository, "keys", "revoke", "ana").stdout == "revoked ana\n"
    assert json.loads(trilha(repository, "keys", "list", "--json").stdout) == []
