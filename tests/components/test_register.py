"""The candidate as a version of the model that bears the project's name, in a real MLflow."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from components.ledger import running_as
from components.records import Candidate, ModelVersion, Prepared, digest
from components.register import register
from components.workspace import Workspace
from tests.triton import Fitted, candidate_in


def tried(workspace: Workspace, fitted: Fitted, key: str = "made") -> tuple[Candidate, Prepared]:
    """A candidate whose trial is a finished run in MLflow."""
    candidate, prepared = candidate_in(workspace, fitted, key)
    with workspace.tracker.trial(experiment="flights", name=key, key=digest(key), parameters={}, tags={}) as log:
        pass
    trial = candidate.trial.model_copy(update={"run_id": log.run_id})
    return candidate.model_copy(update={"trial": trial}), prepared


def registered(key: str, candidate: Candidate, prepared: Prepared) -> ModelVersion:
    with running_as(key * 64):
        return register("flights", "test", candidate, prepared)


def client(workspace: Workspace) -> MlflowClient:
    return MlflowClient(workspace.endpoint("mlflow"))


def test_a_version_leads_back(registry: Workspace, fitted: Fitted) -> None:
    """It holds the three graphs, bit by bit, and names its run, the graphs' digest and the data."""
    candidate, prepared = tried(registry, fitted)
    made = registered("a", candidate, prepared)
    graphs = candidate.trial.graphs
    assert made == ModelVersion(name="flights", version="1", digest=digest(graphs), run_id=candidate.trial.run_id)
    version = client(registry).get_model_version("flights", "1")
    assert version.run_id == candidate.trial.run_id
    assert {name: version.tags[name] for name in ("trilha.digest", "trilha.commit", "trilha.tree")} == {
        "trilha.digest": made.digest,
        "trilha.commit": prepared.commit,
        "trilha.tree": prepared.tree,
    }
    folder = client(registry).download_artifacts(made.run_id, "graphs")
    for part in ("pre", "model", "post"):
        assert Path(folder, f"{part}.onnx").read_bytes() == registry.artifacts.local(getattr(graphs, part)).read_bytes()


def test_done_again_after_a_crash_it_is_the_same_version(registry: Workspace, fitted: Fitted) -> None:
    """Killed between the version and its record: one version, found by the step's key; another step makes another."""
    candidate, prepared = tried(registry, fitted)
    first = registered("a", candidate, prepared)
    assert registered("a", candidate, prepared) == first
    assert len(client(registry).search_model_versions("name='flights'")) == 1
    assert registered("b", candidate, prepared).version == "2"
    assert registered("a", candidate, prepared) == first


def test_nothing_points_to_it(registry: Workspace, fitted: Fitted) -> None:
    """A version that is registered does not serve: the alias moves with a release."""
    registered("a", *tried(registry, fitted))
    assert registry.tracker.pointed(name="flights", alias="champion") is None
