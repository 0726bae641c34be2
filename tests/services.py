"""A real Prefect server for tests, shared by all that need one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import config
from components.workspace import Workspace, open_workspace
from flows.services import down, ensure


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with a fresh database, on a free port of loopback."""
    root = tmp_path_factory.mktemp("prefect")
    (root / "config" / "projects").mkdir(parents=True)
    (root / "config" / "profiles").mkdir()
    (root / "config" / "profiles" / "shared.yaml").write_text(
        "state: state\nstore: {kind: git, path: state/data.git}\n"
    )
    before = os.environ.get("TRILHA_ROOT")
    os.environ["TRILHA_ROOT"] = str(root)
    config.root.cache_clear()
    try:
        workspace = Workspace("shared", config.load_profile("shared"))
        workspace.home  # noqa: B018  # below the root, while the root is this one
    finally:
        os.environ.pop("TRILHA_ROOT")
        if before is not None:
            os.environ["TRILHA_ROOT"] = before
        config.root.cache_clear()
    ensure(workspace, ["prefect"])
    try:
        yield workspace.endpoint("prefect")
    finally:
        if "prefect" in sys.modules:  # else its logs look for the server when this process ends
            from prefect.logging.handlers import APILogWorker

            APILogWorker.drain_all(timeout=10)
        down(workspace)


@pytest.fixture
def on_prefect(repository: Path, prefect_url: str) -> Workspace:
    """The parts of profile `test`, whose Prefect server is the shared one."""
    path = repository / "config" / "profiles" / "test.yaml"
    path.write_text(path.read_text() + f"services: {{prefect: {{url: '{prefect_url}'}}}}\n")
    open_workspace.cache_clear()
    return open_workspace("test")
