from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

from components.errors import ConfigError, GateError
from components.evaluate import evaluate
from components.ledger import running_as
from components.metrics import METRICS
from components.project import Evaluate
from components.records import Candidate, Champion, Decision, Prepared, digest
from components.workspace import Workspace
from tests.components.test_frameworks import candidate_from, pre_of, prepared_for, sklearn_linear, trial_on
from tests.examples import FEATURES, candidate_of, commit_tables, parcels, prepare_as, prepare_parcels, trial_as

NOBODY = Champion(release=0, digest="", graphs=None)


@pytest.fixture
def prepared(workspace: Workspace) -> Prepared:
    return prepare_parcels(workspace)


@pytest.fixture
def good(workspace: Workspace, prepared: Prepared) -> Candidate:
    """A logistic regression."""
    return candidate_of(trial_as(workspace, prepared, "b", LogisticRegression()))


@pytest.fixture
def poor(workspace: Workspace, prepared: Prepared) -> Candidate:
    """One that has learned next to nothing, and that the wrong way round."""
    trial = trial_as(workspace, prepared, "c", LogisticRegression(C=1e-9, class_weight={0: 1, 1: 3}))
    return candidate_of(trial)


def weigh(
    prepared: Prepared, candidate: Candidate, champion: Champion = NOBODY, key: str = "e", **rules: object
) -> Decision:
    with running_as(key * 64):
        return evaluate("test", prepared, candidate, champion, Evaluate(**rules), seed=3)


def champion_of(candidate: Candidate) -> Champion:
    return Champion(release=1, digest=digest(candidate.trial.graphs), graphs=candidate.trial.graphs)


def test_passes(prepared: Prepared, good: Candidate) -> None:
    """A candidate that keeps every rule passes, and the decision says how each was kept."""
    decision = weigh(prepared, good, thresholds={"auc": 0.6, "brier": 0.25}, slices=("city",), slice_floor=0.5)
    assert decision.passed
    text = "\n".join(decision.reasons)
    assert "auc 0." in text
    assert "meets the threshold 0.6" in text
    assert "no champion to beat" in text
    assert decision.difference is None


def test_threshold(prepared: Prepared, good: Candidate) -> None:
    """A missed threshold is no error: the decision says no, and why."""
    decision = weigh(prepared, good, thresholds={"auc": 0.99, "log_loss": 0.01})
    assert not decision.passed
    assert sum("misses the threshold" in reason for reason in decision.reasons) == 2


def test_baselines(prepared: Prepared, good: Candidate) -> None:
    """Baselines stand beside the candidate: the majority ranks nobody, and a logistic regression ranks as well as one."""
    decision = weigh(prepared, good)
    assert decision.baselines["majority"]["auc"] == 0.5
    assert decision.baselines["logistic"]["auc"] == pytest.approx(decision.metrics["auc"], abs=0.01)
    assert set(decision.baselines) == {"majority", "logistic"}


def test_slices(workspace: Workspace) -> None:
    """Each slice of 500 rows or more is measured, a missing value is a slice, and one below the floor stops the release."""
    rows = parcels(9_000)
    cities = pa.array([None if city == "west" else city for city in rows["city"].to_pylist()])
    rows = rows.set_column(rows.column_names.index("city"), "city", cities)
    prepared = prepare_as(workspace, commit_tables(workspace, {"parcels": [rows]}))
    candidate = candidate_of(trial_as(workspace, prepared, "b", LogisticRegression()))
    decision = weigh(prepared, candidate, slices=("city", "sent"), slice_floor=0.9)
    assert [(one.column, one.value) for one in decision.slices] == [
        ("city", "(missing)"), ("city", "north"), ("city", "south"),
    ]  # fmt: skip
    assert sum(one.rows for one in decision.slices) == prepared.test.rows
    again = weigh(prepared, candidate, key="f", slices=("City",))  # as in SQL, upper or lower case makes no difference
    assert {one.column for one in again.slices} == {"city"}
    assert not decision.passed
    assert sum("misses the floor 0.9 where city =" in reason for reason in decision.reasons) == 3


def test_champion_is_beaten(prepared: Prepared, good: Candidate, poor: Candidate) -> None:
    """A better candidate passes: the whole interval lies above."""
    decision = weigh(prepared, good, champion_of(poor))
    assert decision.passed
    assert decision.difference is not None
    low, estimate, high = decision.difference
    assert 0 < low < estimate < high
    assert decision.baselines["champion"]["auc"] == pytest.approx(decision.metrics["auc"] - estimate)


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_champion_stays(prepared: Prepared, good: Candidate, poor: Candidate, metric: str) -> None:
    """A worse candidate does not pass, whichever way the metric points."""
    decision = weigh(prepared, poor, champion_of(good), metric=metric)
    assert not decision.passed
    assert any("against the champion" in reason and "not surely" in reason for reason in decision.reasons)


def test_equal_to_the_champion(prepared: Prepared, good: Candidate) -> None:
    """The champion's graphs answer what the candidate's framework answered: the same model differs by nothing."""
    decision = weigh(prepared, good, champion_of(good), loss=0.001)
    assert decision.passed
    assert decision.difference is not None
    assert max(map(abs, decision.difference)) < 1e-6


def test_champion_of_other_inputs(workspace: Workspace, prepared: Prepared, good: Candidate) -> None:
    """A champion that needs a column which is gone cannot answer: said so, and the other rules decide."""
    without = FEATURES.model_copy(update={"exclude": ("sent", "city")})
    commit = commit_tables(workspace, {"parcels": [parcels()]})
    champion = champion_of(good)
    narrow = prepare_as(workspace, commit, key="d", features=without)
    narrow_rows = candidate_of(good.trial)
    decision = weigh(narrow, narrow_rows, champion)
    assert decision.passed
    assert any("cannot answer" in reason and "'city'" in reason for reason in decision.reasons)


def test_repeatable(prepared: Prepared, good: Candidate, poor: Candidate) -> None:
    """The same inputs make the same decision, to the last digit."""
    decisions = [weigh(prepared, good, champion_of(poor), key, slices=("city",)) for key in "ef"]
    assert digest(decisions[0]) == digest(decisions[1])


def test_plots(workspace: Workspace, prepared: Prepared, good: Candidate) -> None:
    """The decision comes with pictures."""
    decision = weigh(prepared, good, slices=("city",))
    names = [Path(plot.path).name for plot in decision.plots]
    assert names[:2] == ["calibration.png", "roc.png"]
    assert all(workspace.artifacts.local(plot).read_bytes().startswith(b"\x89PNG") for plot in decision.plots)


def test_unknown_column(prepared: Prepared, good: Candidate) -> None:
    """A rule about a column that does not exist is an error that names it."""
    with pytest.raises(ConfigError, match="no column 'town'"):
        weigh(prepared, good, slices=("town",))


def test_other_rows(workspace: Workspace, prepared: Prepared, good: Candidate) -> None:
    """Predictions that are not for the test rows in their order are refused, not compared."""
    with running_as("9" * 64), workspace.output() as out:
        own = pq.read_table(workspace.artifacts.local(good.trial.predictions))
        pq.write_table(own.take(list(reversed(range(own.num_rows)))), out.folder / "predictions.parquet")
        files = out.publish()
    trial = good.trial.model_copy(update={"predictions": files["predictions.parquet"]})
    with pytest.raises(GateError, match="not for the rows of the test split"):
        weigh(prepared, good.model_copy(update={"trial": trial}))


def test_answers_that_are_none(prepared: Prepared, good: Candidate, workspace: Workspace) -> None:
    """Answers that are not probabilities are refused, with how many they are."""
    with running_as("9" * 64), workspace.output() as out:
        own = pq.read_table(workspace.artifacts.local(good.trial.predictions))
        broken = own.set_column(2, "probability", pa.array([math.nan] * own.num_rows))
        pq.write_table(broken, out.folder / "predictions.parquet")
        files = out.publish()
    trial = good.trial.model_copy(update={"predictions": files["predictions.parquet"]})
    with pytest.raises(GateError, match="answers are no probabilities"):
        weigh(prepared, good.model_copy(update={"trial": trial}))


@pytest.mark.parametrize(
    ("task", "metric", "baselines", "plot"),
    [
        ("multiclass", "macro_f1", {"majority", "logistic"}, "confusion.png"),
        ("regression", "rmse", {"mean", "linear"}, "foretold.png"),
    ],
)
def test_other_tasks(
    workspace: Workspace, tmp_path: Path, task: str, metric: str, baselines: set[str], plot: str
) -> None:
    """Classes and values are weighed by metrics, baselines and plots of their own, and against a champion of their own."""
    run = trial_on(workspace, prepared_for(workspace, task), tmp_path / "out")
    pre = pre_of(run)
    run.save(pre=pre, model=sklearn_linear(run, pre.transform(run.inputs(run.train)), task))
    candidate = candidate_from(workspace, run, metric)
    decision = weigh(run.spec.prepared, candidate, champion_of(candidate), metric=metric, loss=0.1)
    assert decision.passed
    assert set(decision.baselines) == {*baselines, "champion"}
    assert set(decision.metrics) == set(METRICS[task])
    assert decision.difference == pytest.approx((0, 0, 0), abs=1e-3)  # the champion's graphs are of 32 bits
    assert plot in {artifact.path.rsplit("/", 1)[-1] for artifact in decision.plots}


def test_champion_of_another_task(workspace: Workspace, tmp_path: Path) -> None:
    """Where a project's task has changed, the champion cannot answer, and the other rules decide alone."""
    candidates = {}
    for task, metric in (("multiclass", "accuracy"), ("regression", "rmse")):
        run = trial_on(workspace, prepared_for(workspace, task), tmp_path / task)
        pre = pre_of(run)
        run.save(pre=pre, model=sklearn_linear(run, pre.transform(run.inputs(run.train)), task))
        candidates[task] = run, candidate_from(workspace, run, metric, task[0])
    run, ours = candidates["regression"]
    decision = weigh(run.spec.prepared, ours, champion_of(candidates["multiclass"][1]), metric="rmse")
    assert decision.passed
    assert any(
        "champion cannot answer these rows (answers are probabilities, label)" in why for why in decision.reasons
    )
