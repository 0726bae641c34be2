"""How good answers are: metrics that take weights, so that one sort serves every bootstrap resample.

A metric is two stages. `METRICS[task][name](target, answers)` does once what needs sorting; the function that it
returns yields the metric under any weights of the rows, in a few passes. A resample is a set of weights: how often each
row was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from components.answers import Answers, AnyAnswers, ClassAnswers, ValueAnswers

if TYPE_CHECKING:
    from components.answers import Floats, Ints, Target

    Scorer: TypeAlias = Callable[[Floats], float]

__all__ = ["HIGHER_IS_BETTER", "METRICS", "Answers", "all_metrics", "at_least_as_good", "best", "difference", "metric"]


def metric(name: str, target: Target, answers: AnyAnswers) -> float:
    """One metric; NaN where it is not defined, such as the AUC of rows of one class.

    Args:
        name: one of `METRICS` of the answers' task.
        target: one a row: 0 or 1, the place of a class among the classes, a number.
        answers: on the same rows.
    """
    import numpy as np

    return METRICS[answers.task][name](target, answers)(np.ones(len(target)))


def all_metrics(target: Target, answers: AnyAnswers) -> dict[str, float]:
    """Every metric of the answers' task by name."""
    return {name: metric(name, target, answers) for name in METRICS[answers.task]}


def at_least_as_good(name: str, value: float, bound: float) -> bool:
    """Whether `value` is no worse than `bound`; NaN is worse than everything."""
    return value >= bound if name in HIGHER_IS_BETTER else value <= bound


def best(name: str, values: Iterable[float]) -> int:
    """The position of the best value, the first of equals; NaN is worse than everything."""
    import math

    sign = -1 if name in HIGHER_IS_BETTER else 1
    ranked = [math.inf if math.isnan(value) else sign * value for value in values]
    return ranked.index(min(ranked))


def difference(
    name: str, target: Target, ours: AnyAnswers, theirs: AnyAnswers, *, resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """`ours` minus `theirs`: lower bound, estimate, upper bound, by the paired percentile bootstrap.

    Both are scored on the same resampled rows, so what is hard for both cancels out.

    Args:
        name: one of `METRICS` of the answers' task.
        target: one a row, as for `metric`.
        ours: answers on those rows.
        theirs: answers on the same rows.
        resamples: how many times as many rows are drawn, with replacement.
        confidence: of the interval, 0..1.
        seed: of the draws.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
    """
    import numpy as np

    rows = len(target)
    generator = np.random.default_rng(seed)
    our_score, their_score = (METRICS[answers.task][name](target, answers) for answers in (ours, theirs))
    once = np.ones(rows)
    drawn = np.empty(resamples)
    for index in range(resamples):
        weights = np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(np.float64)
        drawn[index] = our_score(weights) - their_score(weights)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), our_score(once) - their_score(once), float(high)


# --- of a binary task -------------------------------------------------------------------------------------------------


def _auc(target: Ints, answers: Answers) -> Scorer:
    """The chance that a row of 1 is ranked above a row of 0; ties count half."""
    import numpy as np

    tally = _tally(target, answers)

    def score(weights: Floats) -> float:
        ones, zeros = tally(weights)
        pairs = ones.sum() * zeros.sum()
        return float((ones * (np.cumsum(zeros) - zeros / 2)).sum() / pairs) if pairs else float("nan")

    return score


def _average_precision(target: Ints, answers: Answers) -> Scorer:
    """Precision at each threshold, weighted by the recall that it adds."""
    import numpy as np

    tally = _tally(target, answers)

    def score(weights: Floats) -> float:
        ones, zeros = tally(weights)
        found, missed = np.cumsum(ones[::-1]), np.cumsum(zeros[::-1])
        chosen = found + missed
        precision = np.divide(found, chosen, out=np.zeros_like(chosen), where=chosen > 0)
        return float((ones[::-1] * precision).sum() / found[-1]) if found[-1] else float("nan")

    return score


def _tally(target: Ints, answers: Answers) -> Callable[[Floats], tuple[Floats, Floats]]:
    """From weights to how much of 1 and of 0 lies at each distinct probability, in ascending order."""
    import numpy as np

    order = np.argsort(answers.probability, kind="stable")
    ranked = answers.probability[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    positive = target[order].astype(np.float64)

    def tally(weights: Floats) -> tuple[Floats, Floats]:
        drawn = weights[order]
        ones = np.add.reduceat(drawn * positive, starts)
        return ones, np.add.reduceat(drawn, starts) - ones

    return tally


def _accuracy(target: Ints, answers: Answers) -> Scorer:
    return _mean((answers.label == target).astype(float))


def _log_loss(target: Ints, answers: Answers) -> Scorer:
    import numpy as np

    least = np.finfo(np.float64).eps
    sure = np.clip(np.where(target == 1, answers.probability, 1 - answers.probability), least, 1 - least)
    return _mean(-np.log(sure))


def _brier(target: Ints, answers: Answers) -> Scorer:
    return _mean((answers.probability - target) ** 2)


def _mean(values: Floats) -> Scorer:
    def score(weights: Floats) -> float:
        return float((values * weights).sum() / weights.sum())

    return score


# --- of a multiclass task ---------------------------------------------------------------------------------------------


def _class_accuracy(target: Ints, answers: ClassAnswers) -> Scorer:
    return _mean((answers.place == target).astype(float))


def _balanced_accuracy(target: Ints, answers: ClassAnswers) -> Scorer:
    """The share of each class that is found, averaged over the classes that there are."""
    import numpy as np

    hits = answers.place == target

    def score(weights: Floats) -> float:
        rows = np.bincount(target, weights, minlength=len(answers.classes))
        found = np.bincount(target[hits], weights[hits], minlength=len(answers.classes))
        return float((found[rows > 0] / rows[rows > 0]).mean())

    return score


def _macro_f1(target: Ints, answers: ClassAnswers) -> Scorer:
    """The F1 score of each class, averaged over the classes that are there or are answered."""
    import numpy as np

    hits, count = answers.place == target, len(answers.classes)

    def score(weights: Floats) -> float:
        either = np.bincount(target, weights, minlength=count) + np.bincount(answers.place, weights, minlength=count)
        found = np.bincount(target[hits], weights[hits], minlength=count)
        return float((2 * found[either > 0] / either[either > 0]).mean())

    return score


def _class_log_loss(target: Ints, answers: ClassAnswers) -> Scorer:
    import numpy as np

    least = np.finfo(np.float64).eps
    return _mean(-np.log(np.clip(answers.probabilities[np.arange(len(target)), target], least, 1)))


# --- of a regression --------------------------------------------------------------------------------------------------


def _rmse(target: Floats, answers: ValueAnswers) -> Scorer:
    squared = _mean((answers.value - target) ** 2)
    return lambda weights: float(squared(weights) ** 0.5)


def _mae(target: Floats, answers: ValueAnswers) -> Scorer:
    return _mean(abs(answers.value - target))


def _r2(target: Floats, answers: ValueAnswers) -> Scorer:
    """The share of the target's variance that the answers explain."""
    import numpy as np

    squares = (answers.value - target) ** 2

    def score(weights: Floats) -> float:
        around = (target - np.average(target, weights=weights)) ** 2
        spread = float((around * weights).sum())
        return 1 - float((squares * weights).sum()) / spread if spread else float("nan")

    return score


METRICS: Final[dict[str, dict[str, Callable[[Any, Any], Scorer]]]] = {
    "binary": {
        "auc": _auc,
        "accuracy": _accuracy,
        "average_precision": _average_precision,
        "log_loss": _log_loss,
        "brier": _brier,
    },
    "multiclass": {
        "accuracy": _class_accuracy,
        "balanced_accuracy": _balanced_accuracy,
        "macro_f1": _macro_f1,
        "log_loss": _class_log_loss,
    },
    "regression": {"rmse": _rmse, "mae": _mae, "r2": _r2},
}
"""Task -> metric -> its first stage."""
HIGHER_IS_BETTER: Final = frozenset({"auc", "accuracy", "average_precision", "balanced_accuracy", "macro_f1", "r2"})
