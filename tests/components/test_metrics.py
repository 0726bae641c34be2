from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

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
