"""In a real MLflow: what Trilha made and nothing needs is gone for good, with its files; what others made stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from components.adapters.mlflow_sweep import MlflowSweep, open_sweep
from components.adapters.mlflow_tracker import MlflowTracker
from components.errors import NotFoundError
from components.records import digest
from components.workspace import Workspace, open_workspace
from tests.components.conftest import empty_registry

__all__ = ["empty_registry"]


@pytest.fixture
def tracked(repository: Path, empty_registry: Path) -> Workspace:
    """The parts of profile `test`, with an empty MLflow that needs no server."""
    import shutil

    database = shutil.copy(empty_registry, repository / "mlflow.db")
    path = repository / "config" / "profiles" / "test.yaml"
    path.write_text(f"{path.read_text()}services: {{mlflow: {{url: 'sqlite:///{database}'}}}}\n")
    open_workspace.cache_clear()
    return open_workspace("test")


def tried(workspace: Workspace, name: str) -> str:
    """A finished run with a file of 1,000 bytes; returns its id."""
    file = workspace.home / "file.txt"
    file.write_text("x" * 1_000)
    with workspace.tracker.trial(experiment="small", name=name, key=digest(name), parameters={}, tags={}) as log:
        log.metrics({"auc": 0.9})
        log.files([file])
    return log.run_id


def registered(workspace: Workspace, run_id: str, name: str) -> str:
    file = workspace.home / "model.onnx"
    file.write_text("a model")
    return workspace.tracker.register(name="small", run_id=run_id, graphs={"model": file}, key=digest(name), tags={})


@contextmanager
def alone(_: str) -> Iterator[bool]:
    yield True


@contextmanager
def busy(_: str) -> Iterator[bool]:
    yield False


def swept(workspace: Workspace, needed: set[str], before: float | None = None) -> MlflowSweep:
    found = open_sweep(workspace, needed, time.time() + 1 if before is None else before, alone)
    assert found is not None
    return found


def client(workspace: Workspace) -> MlflowClient:
    return MlflowClient(workspace.endpoint("mlflow"))


def runs(workspace: Workspace) -> set[str]:
    """All that the database has, those that are marked as deleted too."""
    asked = client(workspace)
    experiments = [one.experiment_id for one in asked.search_experiments()]
    return {run.info.run_id for run in asked.search_runs(experiments, run_view_type=ViewType.ALL)}


def test_what_nothing_needs(tracked: Workspace) -> None:
    """A run and its version are gone, files and all; the run that is needed, and its version, are as they were."""
    kept, lost, marked = tried(tracked, "kept"), tried(tracked, "lost"), tried(tracked, "marked")
    assert [registered(tracked, kept, "kept"), registered(tracked, lost, "lost")] == ["1", "2"]
    client(tracked).delete_run(marked)
    sweep = swept(tracked, {kept})
    found = sweep.leftovers()
    assert [(one.kind, one.id, one.size) for one in found] == [
        ("version", "small:2", 0),
        *sorted([("run", lost, 1_007), ("run", marked, 1_000)], key=lambda one: one[1] != found[1].id),
    ]
    assert any("run small lost" in one.name for one in found)
    assert sweep.discard(found) == found
    assert runs(tracked) == {kept}
    assert {path.name for path in (tracked.home / "mlflow").rglob("*") if path.is_file()} == {"file.txt", "model.onnx"}
    assert [str(one.version) for one in client(tracked).search_model_versions()] == ["1"]
    assert client(tracked).get_run(kept).data.metrics == {"auc": 0.9}
    with pytest.raises(NotFoundError):
        tracked.tracker.url(lost)
    assert swept(tracked, {kept}).leftovers() == []
    again = tried(tracked, "lost")
    assert again != lost
    assert registered(tracked, again, "lost") == "3"


def test_what_others_made(tracked: Workspace) -> None:
    """A run without a key, and a version that an alias names, are somebody's."""
    aliased = tried(tracked, "aliased")
    tracked.tracker.point(name="small", alias="paper", version=registered(tracked, aliased, "aliased"))
    asked = client(tracked)
    theirs = asked.create_run(asked.get_run(aliased).info.experiment_id).info.run_id
    assert swept(tracked, set()).leftovers() == []
    assert runs(tracked) == {aliased, theirs}


def test_what_is_young(tracked: Workspace) -> None:
    """A run that goes on, or ended after the moment in question, stays."""
    with tracked.tracker.trial(experiment="small", name="one", key=digest("one"), parameters={}, tags={}):
        assert swept(tracked, set(), time.time() - 60).leftovers() == []


def test_what_a_run_found_meanwhile(tracked: Workspace) -> None:
    """A step that has found its run before it was to go keeps it."""
    run = tried(tracked, "one")
    registered(tracked, run, "one")
    found = swept(tracked, set()).leftovers()
    late = open_sweep(tracked, set(), time.time() + 1, busy)
    assert late is not None
    assert late.discard(found) == []
    assert runs(tracked) == {run}


def test_there_was_never_one(workspace: Workspace) -> None:
    """Where no MLflow of ours has begun, none is made."""
    assert open_sweep(workspace, set(), 0.0, alone) is None
    assert not (workspace.home / "mlflow").exists()


def test_it_needs_no_server(workspace: Workspace, empty_registry: Path) -> None:
    """What our own server keeps is swept while it is down: its database, and the files behind its door."""
    import shutil

    folder = workspace.home / "mlflow"
    folder.mkdir()
    shutil.copy(empty_registry, folder / "mlflow.db")
    tracker = MlflowTracker(f"sqlite:///{folder / 'mlflow.db'}", "mlflow-artifacts:/small")
    key = digest("one")
    with tracker.trial(experiment="small", name="one", key=key, parameters={}, tags={}) as log:
        pass
    file = folder / "artifacts" / "small" / log.run_id / "artifacts" / "file.txt"
    file.parent.mkdir(parents=True)
    file.write_text("x" * 500)
    sweep = swept(workspace, set())
    assert [one.size for one in sweep.leftovers()] == [500]
    assert len(sweep.discard(sweep.leftovers())) == 1
    assert not file.parent.parent.exists()
