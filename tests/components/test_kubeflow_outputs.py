"""What Kubeflow's pages show of a node, as the files that it reads."""

from __future__ import annotations

import json
from pathlib import Path

from components.kubeflow_outputs import kinds, write
from components.records import (
    Commit,
    Decision,
    ModelVersion,
    Parameters,
    Skipped,
    Trial,
)
from components.steps import STEPS, step_named
from components.workspace import Workspace
from tests.examples import prepare_parcels, trial_as

OBJECT_STORES = ("s3://", "gs://", "minio://")


def written(workspace: Workspace, record: object, folder: Path, *names: str) -> dict[str, dict[str, object]]:
    """The artifacts that the summary says."""
    summary = folder / "deep" / "executor_output.json"
    write(workspace, record, {name: folder / "files" / name for name in names}, summary)  # type: ignore[arg-type]
    said = json.loads(summary.read_text())["artifacts"]
    return {name: given["artifacts"][0] for name, given in said.items()}


def test_every_step_has_kinds_that_kubeflow_knows() -> None:
    """Whatever a step returns, its artifacts are of types that Kubeflow's pages draw."""
    found = {name: dict(kinds(step_named(name))) for name in STEPS}
    assert {kind for artifacts in found.values() for kind in artifacts.values()} == {
        "Dataset",
        "Model",
        "Metrics",
        "HTML",
    }
    assert found["train"] == {"metrics": "Metrics", "page": "HTML"}
    assert found["observe"] == {}


def test_data_and_models_are_places_that_kubeflow_does_not_fetch(workspace: Workspace, tmp_path: Path) -> None:
    """It would take an object store's URL for a file of its own bucket, and fail the node."""
    commit = Commit(id="c1", branch="main", tree="t1", tables={"a": 2, "b": 3})
    version = ModelVersion(name="small", version="4", digest="d", run_id="r")
    data = written(workspace, commit, tmp_path, "data")["data"]
    model = written(workspace, version, tmp_path, "model")["model"]
    assert data == {
        "name": "data",
        "uri": "trilha://test/data/c1",
        "metadata": {"tree": "t1", "branch": "main", "rows": 5},
    }
    assert model["uri"] == "models:/small/4"
    assert not str(data["uri"]).startswith(OBJECT_STORES)


def test_metrics_are_numbers(workspace: Workspace, tmp_path: Path) -> None:
    """Kubeflow compares them between runs; a verdict is 0 or 1."""
    decision = Decision(
        passed=True, reasons=(), metrics={"auc": 0.75}, baselines={}, difference=None, slices=(), plots=()
    )
    assert written(workspace, decision, tmp_path, "metrics")["metrics"]["metadata"] == {"auc": 0.75, "promoted": 1}


def test_a_page_is_a_file_of_its_own(workspace: Workspace, tmp_path: Path) -> None:
    """Kubeflow shows what lies at the path that it gave."""
    from sklearn.linear_model import LogisticRegression

    trial: Trial = trial_as(workspace, prepare_parcels(workspace), "b", LogisticRegression())
    assert trial.parameters == Parameters(values={"key": "b"})
    said = written(workspace, trial, tmp_path, "metrics", "page")
    assert set(said) == {"metrics"}
    assert (tmp_path / "files" / "page").read_bytes() == workspace.artifacts.local(trial.page).read_bytes()


def test_a_node_that_was_skipped_has_none(workspace: Workspace, tmp_path: Path) -> None:
    """Nothing is written for what was not made."""
    write(workspace, Skipped(skipped="decision did not pass"), {"model": tmp_path / "model"}, tmp_path / "summary")
    assert not list(tmp_path.glob("summary*"))
    assert not (tmp_path / "model").exists()
