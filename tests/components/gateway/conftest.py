"""A gateway that runs: uvicorn in a thread, a real Triton behind it, and a real HTTP client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml

from components.gateway import keys
from components.gateway.app import Gateway
from components.gateway.protocol import Protocol
from components.records import Release
from components.serving import serve
from components.workspace import Workspace, open_workspace
from tests.conftest import place_small
from tests.triton import Fitted, free_ports, release_of

PROJECT = "small"
ROW: dict[str, Any] = {"carrier": "UA", "origin": "JFK", "distance": 1400.5, "wind": 3, "hour": 17}


@dataclass(frozen=True)
class Running:
    """A gateway, its profile's parts, and a client of it."""

    app: Gateway
    workspace: Workspace
    client: httpx.Client

    def predict(self, *rows: dict[str, Any], project: str = PROJECT, **headers: str) -> httpx.Response:
        return self.client.post(f"/v1/projects/{project}/predict", json={"rows": list(rows)}, headers=headers)


@pytest.fixture
def behind(served: Workspace, repository: Path, fitted: Fitted) -> Release:
    """A release of the project `small`, on the real Triton of the profile."""
    place_small(repository)
    release = release_of(served, fitted, PROJECT)
    serve(served, release.bundle, PROJECT)
    return release


Start = Callable[..., Running]


@pytest.fixture
def start(repository: Path, behind: Release) -> Iterator[Start]:
    """Starts a gateway with settings of `services.gateway`; it is up when it is returned."""
    with ExitStack() as stack:

        def begin(projects: Sequence[str] = (PROJECT,), **settings: object) -> Running:
            return stack.enter_context(running(repository, settings, projects=projects))

        yield begin


@pytest.fixture
def gateway(start: Start) -> Running:
    """One without authentication."""
    return start()


@pytest.fixture
def guarded(start: Start) -> Running:
    """One with authentication."""
    return start(authentication=True)


def key_of(running: Running, *scopes: str, name: str = "tester") -> dict[str, str]:
    """The header with a new key, which the gateway knows already."""
    _, text = keys.add(running.workspace, name, scopes)
    running.app._access.refresh()
    return {"Authorization": f"Bearer {text}"}


def configure(repository: Path, settings: dict[str, object]) -> Workspace:
    """The parts of profile `test`, with `settings` in `services.gateway`."""
    path = repository / "config" / "profiles" / "test.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["services"]["gateway"] = settings
    path.write_text(yaml.safe_dump(profile))
    open_workspace.cache_clear()
    return open_workspace("test")


@contextmanager
def running(
    repository: Path,
    settings: dict[str, object],
    revive: Callable[[], object] = lambda: None,
    projects: Sequence[str] = (PROJECT,),
    *,
    wait: bool = True,
) -> Iterator[Running]:
    """A gateway while inside; `wait` until it is ready."""
    workspace = configure(repository, settings)
    app = Gateway(workspace, projects, revive)
    (port,) = free_ports(1)
    config = uvicorn.Config(app, port=port, loop="uvloop", http=Protocol, lifespan="on", ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            until(lambda: server.started)
            if wait:
                until(lambda: client.get("/health/ready").status_code == 200)
            yield Running(app, workspace, client)
    finally:
        server.should_exit = True
        thread.join(20)


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
