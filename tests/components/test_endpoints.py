"""Where a service is said to be, and when that counts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from components import endpoints
from components.endpoints import TOKEN, Endpoint
from components.errors import UnavailableError
from components.workspace import Workspace, open_workspace


def write(workspace: Workspace, pid: int, token: str) -> Endpoint:
    endpoint = Endpoint(
        service="mlflow", url="http://127.0.0.1:5", ports={"http": 5}, pid=pid, token=token, started="2026-01-01"
    )
    path = endpoints.path(workspace.home, "mlflow")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(endpoint.model_dump_json())
    return endpoint


def test_nothing_written(workspace: Workspace) -> None:
    """A service that was never started is not running; the error says how to start it."""
    with pytest.raises(UnavailableError, match="mlflow is not running; next: trilha up"):
        workspace.endpoint("mlflow")


def test_the_process_that_was_started(workspace: Workspace) -> None:
    """A process counts while it lives and carries the token of its start; another one with its PID does not."""
    with subprocess.Popen(["sleep", "60"], env=os.environ | {TOKEN: "mine"}) as process:
        write(workspace, process.pid, "mine")
        assert workspace.endpoint("mlflow") == "http://127.0.0.1:5"
        write(workspace, process.pid, "that of an earlier one")
        with pytest.raises(UnavailableError):
            workspace.endpoint("mlflow")
        mine = write(workspace, process.pid, "mine")
        process.kill()
        while mine.alive:  # a zombie is dead, though nobody has waited for it yet
            pass
        with pytest.raises(UnavailableError):
            workspace.endpoint("mlflow")


def test_elsewhere(workspace: Workspace) -> None:
    """The profile's URL wins, without looking at processes."""
    path = Path("config/profiles/test.yaml")
    path.write_text(path.read_text() + "services: {mlflow: {url: 'https://mlflow.example/base/'}}\n")
    open_workspace.cache_clear()
    assert open_workspace("test").endpoint("mlflow") == "https://mlflow.example/base"


def test_proxies(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine are kept from a proxy; hosts that were spared before still are."""
    import urllib.request

    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "intranet.example")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    with subprocess.Popen(["sleep", "60"], env=os.environ | {TOKEN: "mine"}) as process:
        write(workspace, process.pid, "mine")
        workspace.endpoint("mlflow")
        process.kill()
    assert urllib.request.proxy_bypass("127.0.0.1")
    assert urllib.request.proxy_bypass("intranet.example")
    assert not urllib.request.proxy_bypass("elsewhere.example")
