"""A registry, a model server and releases for the tests of what makes them visible."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.adapters.mlflow_tracker import MlflowTracker
from components.workspace import Workspace, open_workspace


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database before anything is in it; making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    assert MlflowTracker(f"sqlite:///{path}").pointed(name="nothing", alias="champion") is None
    return path


@pytest.fixture
def registry(served: Workspace, repository: Path, empty_registry: Path) -> Workspace:
    """The parts of profile `test`, with a real Triton and a real, empty MLflow that needs no server."""
    database = shutil.copy(empty_registry, repository / "mlflow.db")
    path = repository / "config" / "profiles" / "test.yaml"
    settings = path.read_text().replace("services: {", f"services: {{mlflow: {{url: 'sqlite:///{database}'}}, ")
    path.write_text(settings)
    open_workspace.cache_clear()
    return open_workspace("test")
