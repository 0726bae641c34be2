from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from components.answers import ClassAnswers, ValueAnswers, from_scores
from components.metrics import METRICS, Answers, all_metrics, at_least_as_good, best, difference, metric

REFERENCE = {
    "auc": sklearn.metrics.roc_auc_score,
    "average_precision": sklearn.metrics.average_precision_score,
    "log_loss": sklearn.metrics.log_loss,
    "brier": sklearn.metrics.brier_score_loss,
}

cases = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 3)), min_size=2, max_size=40).filter(
    lambda rows: {label for label, _, weight in rows if weight} == {0, 1}
)
"""Rows of target, probability in eighths (so that there are ties), and weight, with both classes."""


def answers_of(probability: np.ndarray) -> Answers:
    return Answers(probability, (probability >= 0.5).astype(np.int64))


def made_up(rows: int, seed: int = 0) -> tuple[np.ndarray, Answers]:
    draw = np.random.default_rng(seed)
    target = draw.integers(0, 2, rows)
    return target, answers_of(np.clip(0.3 * target + draw.normal(0.35, 0.2, rows), 0.01, 0.99))


@pytest.mark.parametrize("name", REFERENCE)
@settings(deadline=None, max_examples=50)
@given(cases)
def test_agrees_with_scikit_learn(name: str, rows: list[tuple[int, int, int]]) -> None:
    """Each metric is scikit-learn's, ties and weights included."""
    target, eighths, weights = (np.array(column) for column in zip(*rows, strict=True))
    probability = np.clip(eighths / 8, 1e-6, 1 - 1e-6)
    ours = METRICS["binary"][name](target, answers_of(probability))(weights.astype(float))
    assert ours == pytest.approx(REFERENCE[name](target, probability, sample_weight=weights))


@pytest.mark.parametrize("name", METRICS["binary"])
def test_a_weight_is_a_repetition(name: str) -> None:
    """A row of weight 3 counts like three rows: what a bootstrap resample is."""
    target, answers = made_up(200)
    weights = np.random.default_rng(1).integers(0, 4, 200)
    rows = np.repeat(np.arange(200), weights)
    weighted = METRICS["binary"][name](target, answers)(weights.astype(float))
    assert weighted == pytest.approx(metric(name, target[rows], answers.take(rows)))


def test_accuracy_is_of_the_labels() -> None:
    """Accuracy judges the labels that the model gives at its own threshold, not its probabilities."""
    answers = Answers(np.array([0.4, 0.2]), np.array([1, 0]))
    assert metric("accuracy", np.array([1, 0]), answers) == 1.0


def test_one_class() -> None:
    """The AUC of rows of one class is not a number, and the other metrics are."""
    target, answers = np.zeros(10, dtype=np.int64), made_up(10)[1]
    found = all_metrics(target, answers)
    assert math.isnan(found["auc"])
    assert math.isfinite(found["log_loss"])


def test_difference_covers_the_truth() -> None:
    """An interval of 90% holds the true difference in about nine of ten draws of the data."""

    def draw(seed: int, rows: int) -> tuple[np.ndarray, Answers, Answers]:
        random = np.random.default_rng(seed)
        target = random.integers(0, 2, rows)
        signal = target + random.normal(0, 1, rows)
        return target, answers_of(signal + random.normal(0, 0.5, rows)), answers_of(signal + random.normal(0, 1, rows))

    target, ours, theirs = draw(0, 400_000)
    truth = metric("auc", target, ours) - metric("auc", target, theirs)
    held = 0
    for seed in range(1, 101):
        target, ours, theirs = draw(seed, 400)
        low, _, high = difference("auc", target, ours, theirs, resamples=100, confidence=0.9, seed=seed)
        held += low <= truth <= high
    assert 80 <= held <= 98


def test_difference_is_paired() -> None:
    """A model that is the same but for one row differs from itself by next to nothing, however noisy the rows."""
    target, answers = made_up(1_000)
    other = Answers(answers.probability.copy(), answers.label)
    other.probability[0] = 0.5
    low, estimate, high = difference("auc", target, answers, other, resamples=100, confidence=0.95, seed=0)
    assert low <= estimate <= high
    assert high - low < 0.005


def test_difference_is_repeatable() -> None:
    """A seed names the draws."""
    target, answers = made_up(300)
    other = answers_of(answers.probability[::-1].copy())
    runs = [difference("brier", target, answers, other, resamples=50, confidence=0.95, seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_best() -> None:
    """The best is the highest or the lowest as the metric has it, the first of equals, and never NaN."""
    assert best("auc", [0.5, math.nan, 0.7, 0.7]) == 2
    assert best("log_loss", [math.nan, 0.5, 0.4, 0.4]) == 2


def test_at_least_as_good() -> None:
    """A bound is met by what is equal, and by nothing that is NaN."""
    assert at_least_as_good("auc", 0.7, 0.7)
    assert not at_least_as_good("auc", 0.6, 0.7)
    assert at_least_as_good("brier", 0.1, 0.2)
    assert not at_least_as_good("brier", math.nan, 0.2)


# --- of the other tasks -----------------------------------------------------------------------------------------------

CLASS_REFERENCE = {
    "accuracy": lambda target, answers, weights: sklearn.metrics.accuracy_score(
        target, answers.place, sample_weight=weights
    ),
    "balanced_accuracy": lambda target, answers, weights: sklearn.metrics.balanced_accuracy_score(
        target, answers.place, sample_weight=weights
    ),
    "macro_f1": lambda target, answers, weights: sklearn.metrics.f1_score(
        target, answers.place, average="macro", sample_weight=weights
    ),
    "log_loss": lambda target, answers, weights: sklearn.metrics.log_loss(
        target, answers.probabilities, labels=[0, 1, 2], sample_weight=weights
    ),
}
VALUE_REFERENCE = {
    "rmse": sklearn.metrics.root_mean_squared_error,
    "mae": sklearn.metrics.mean_absolute_error,
    "r2": sklearn.metrics.r2_score,
}


def made_up_classes(rows: int) -> tuple[np.ndarray, ClassAnswers]:
    draw = np.random.default_rng(2)
    target = draw.integers(0, 3, rows)
    scores = draw.dirichlet([1, 1, 1], rows) + np.eye(3)[target] * 0.3
    answers = from_scores(scores / scores.sum(axis=1, keepdims=True), "multiclass", ("a", "b", "c"), 0.5)
    assert isinstance(answers, ClassAnswers)
    return target, answers


@pytest.mark.parametrize("name", METRICS["multiclass"])
def test_classes_agree_with_scikit_learn(name: str) -> None:
    """Each metric of classes is scikit-learn's, weights included."""
    target, answers = made_up_classes(300)
    weights = np.random.default_rng(3).integers(0, 4, 300)
    kept = weights > 0
    expected = CLASS_REFERENCE[name](target[kept], answers.take(kept), weights[kept])
    assert METRICS["multiclass"][name](target, answers)(weights.astype(float)) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS["regression"])
def test_values_agree_with_scikit_learn(name: str) -> None:
    """Each metric of values is scikit-learn's, weights included."""
    draw = np.random.default_rng(4)
    target, weights = draw.normal(10, 3, 200), draw.integers(0, 4, 200).astype(float)
    answers = ValueAnswers(target + draw.normal(0, 1, 200))
    expected = VALUE_REFERENCE[name](target, answers.value, sample_weight=weights)
    assert METRICS["regression"][name](target, answers)(weights) == pytest.approx(expected)


def test_difference_of_classes_and_values() -> None:
    """The bootstrap weighs two models of any task on the same rows; a model against itself is no different."""
    target, answers = made_up_classes(300)
    same = difference("macro_f1", target, answers, answers, resamples=20, confidence=0.9, seed=0)
    assert same == (0, 0, 0)
    values = np.arange(50.0)
    worse = difference(
        "rmse", values, ValueAnswers(values + 2), ValueAnswers(values + 1), resamples=20, confidence=0.9, seed=0
    )
    assert worse == (1, 1, 1)
