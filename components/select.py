"""Select: the best trial of a search becomes the candidate."""

from __future__ import annotations

import math

from components.errors import GateError
from components.ledger import effect_key
from components.metrics import best
from components.records import Candidate, Trial
from components.workspace import open_workspace


def select(project: str, profile: str, trials: list[Trial], metric: str) -> Candidate:
    """The trial with the best `metric` on the valid split, the first of equals; gathers all under one MLflow run.

    Args:
        project: the MLflow experiment.
        profile: names the tracker.
        trials: in the order of the search.
        metric: what to compare them by.

    Raises:
        GateError: the metric is not defined for any trial.
    """
    values = [trial.metrics[metric] for trial in trials]
    if all(map(math.isnan, values)):
        raise GateError(f"{metric} is not defined for any of {len(trials)} trials", next_step="look at the valid split")
    winner = best(metric, values)
    run_id = open_workspace(profile).tracker.search(
        experiment=project,
        name="search",
        key=effect_key(),
        children=[trial.run_id for trial in trials],
        tags={"metric": metric, "value": f"{values[winner]:.6f}", "best_run": trials[winner].run_id},
    )
    return Candidate(
        trial=trials[winner],
        metric=metric,
        value=values[winner],
        trials=tuple((trial.parameters, value) for trial, value in zip(trials, values, strict=True)),
        run_id=run_id,
    )
