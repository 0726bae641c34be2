from __future__ import annotations

import math
from pathlib import Path

import pytest

from components import config
from components.errors import GateError
from components.records import Artifact, Graphs, Parameters, Trial
from components.select import select
from components.workspace import open_workspace

FILE = Artifact(path="a/b", sha256="0" * 64, size=1)


@pytest.fixture
def profile(repository: Path) -> str:
    """The name of a profile whose tracker is an MLflow database in the repository."""
    name = "tracked"
    path = repository / "config" / "profiles" / f"{name}.yaml"
    path.write_text(
        "state: .trilha/tracked\nstore: {kind: git, path: .trilha/tracked/data.git}\nengine: local\n"
        f"services: {{mlflow: {{url: 'sqlite:///{repository}/mlflow.db'}}}}\n"
    )
    return name


def trial(name: str, run_id: str = "", **metrics: float) -> Trial:
    return Trial(
        parameters=Parameters(values={"name": name}),
        metrics=metrics,
        graphs=Graphs(pre=FILE, model=FILE, post=FILE),
        predictions=FILE,
        run_id=run_id,
        notebook=FILE,
        page=FILE,
        plots=(),
        seconds=1.0,
    )


def tracked(profile: str, name: str, **metrics: float) -> Trial:
    """A finished trial with a run in MLflow."""
    tracker = open_workspace(profile).tracker
    with tracker.trial(experiment="small", name=name, key=name, parameters={"name": name}, tags={}) as log:
        log.metrics(metrics)
    return trial(name, log.run_id, **metrics)


@pytest.mark.slow
def test_select(profile: str, as_step: str) -> None:
    """The best on valid wins, the first of equals; lower is better for a loss; a trial without a value never wins.

    One parent run holds them all, and the step done again finds it.
    """
    trials = [
        tracked(profile, "a", auc=math.nan, log_loss=0.3),
        tracked(profile, "b", auc=0.7, log_loss=0.5),
        tracked(profile, "c", auc=0.7, log_loss=0.4),
    ]
    by_auc = select("small", profile, trials, "auc")
    assert (by_auc.trial, by_auc.value) == (trials[1], 0.7)
    assert [parameters.values["name"] for parameters, _ in by_auc.trials] == ["a", "b", "c"]
    again = select("small", profile, trials, "log_loss")
    assert again.trial == trials[0]
    assert again.run_id == by_auc.run_id

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{config.root()}/mlflow.db")
    assert client.get_run(by_auc.run_id).data.tags["best_run"] == trials[1].run_id
    assert client.get_run(trials[0].run_id).data.tags["mlflow.parentRunId"] == by_auc.run_id


def test_no_winner(profile: str, as_step: str) -> None:
    """Where the metric is defined for no trial, there is no candidate."""
    with pytest.raises(GateError, match="auc is not defined for any of 2 trials"):
        select("small", profile, [trial("a", auc=math.nan), trial("b", auc=math.nan)], "auc")
