"""How good answers are: metrics that take weights, so that one sort serves every bootstrap resample.

A metric is two stages. `METRICS[name](target, answers)` does once what needs sorting; the function that it returns
yields the metric under any weights of the rows, in a few passes. A resample is a set of weights: how often each row was
drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from components.errors import GateError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]
    Ints: TypeAlias = npt.NDArray[np.int64]
    Scorer: TypeAlias = Callable[[Floats], float]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says of some rows: the probability of 1, and its label."""

    probability: Floats
    label: Ints

    @classmethod
    def of(cls, table: Any) -> Answers:
        """From anything with the columns `probability` and `label`: a frame, a table, what the graphs yield.

        Raises:
            GateError: some probability is none; how many are not.
        """
        import numpy as np

        probability = np.asarray(table["probability"], dtype=np.float64).ravel()
        strays = int((~((probability >= 0) & (probability <= 1))).sum())
        if strays:
            raise GateError(f"{strays} of {len(probability)} answers are no probabilities", accepted="0 to 1")
        return cls(probability, np.asarray(table["label"], dtype=np.int64).ravel())

    def take(self, rows: npt.NDArray[Any]) -> Answers:
        """The answers on some of the rows: a mask or positions."""
        return Answers(self.probability[rows], self.label[rows])


def metric(name: str, target: Ints, answers: Answers) -> float:
    """One metric; NaN where it is not defined, such as the AUC of rows of one class.

    Args:
        name: one of `METRICS`.
        target: 0 or 1, one a row.
        answers: on the same rows.
    """
    import numpy as np

    return METRICS[name](target, answers)(np.ones(len(target)))


def all_metrics(target: Ints, answers: Answers) -> dict[str, float]:
    """Every metric by name."""
    return {name: metric(name, target, answers) for name in METRICS}


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
    name: str, target: Ints, ours: Answers, theirs: Answers, *, resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """`ours` minus `theirs`: lower bound, estimate, upper bound, by the paired percentile bootstrap.

    Both are scored on the same resampled rows, so what is hard for both cancels out.

    Args:
        name: one of `METRICS`.
        target: 0 or 1, one a row.
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
    our_score, their_score = METRICS[name](target, ours), METRICS[name](target, theirs)
    once = np.ones(rows)
    drawn = np.empty(resamples)
    for index in range(resamples):
        weights = np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(np.float64)
        drawn[index] = our_score(weights) - their_score(weights)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), our_score(once) - their_score(once), float(high)


# --- the metrics ------------------------------------------------------------------------------------------------------


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


METRICS: Final[dict[str, Callable[[Ints, Answers], Scorer]]] = {
    "auc": _auc,
    "accuracy": _accuracy,
    "average_precision": _average_precision,
    "log_loss": _log_loss,
    "brier": _brier,
}
HIGHER_IS_BETTER: Final = frozenset({"auc", "accuracy", "average_precision"})
