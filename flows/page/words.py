"""Numbers and verdicts in words: what the page says for a metric, a size, a time, a command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime

from components.metrics import HIGHER_IS_BETTER, at_least_as_good
from components.records import Prepared, Release, Scalar

NAMES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "brier": "Brier score",
    "macro_f1": "macro F1",
    "mae": "mean absolute error",
    "r2": "R\N{SUPERSCRIPT TWO}",
    "rmse": "root mean squared error",
}
SHARES = ("auc", "accuracy", "balanced_accuracy")
"""Metrics that are said in percent."""
BASELINES = {
    "logistic": "a logistic regression",
    "linear": "a linear regression",
    "majority": "always answering the majority",
    "mean": "always answering the mean",
}
"""Baseline -> what it is; the one that learns comes first."""


def metric_name(name: str) -> str:
    """The metric's name as people write it."""
    return NAMES.get(name, name.replace("_", " "))


def number(value: float) -> str:
    """A metric's value: four decimals tell models apart, more would not."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """A difference; its minus is the typographer's."""
    return f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def size(octets: float) -> str:
    """A file's size: `12.3 MB`."""
    for unit in ("B", "kB", "MB"):
        if octets < 999.5:
            return f"{octets:.0f} {unit}" if unit == "B" or octets >= 99.5 else f"{octets:.1f} {unit}"
        octets /= 1000
    return f"{octets:.1f} GB"


def duration(seconds: float) -> str:
    """How long a step took: `38 ms`, `4.2 s`, `3 min 20 s`."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(text: str) -> str:
    """A time for people: `22 Nov 2026, 14:03 UTC`; what is no ISO 8601 stays as it is."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{when.day} {when:%b %Y, %H:%M} UTC"


def setting(value: Scalar) -> str:
    """A parameter's value."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def verdict(release: Release) -> str:
    """How good the model is, in one honest sentence."""
    metric, decision = release.candidate.metric, release.decision
    rows, score = count(release.prepared.test.rows), decision.metrics.get(metric)
    if score is None:
        return f"Nobody measured the {metric_name(metric)} of this model."
    claim = {
        "auc": f"On {rows} held-out rows it ranks a positive above a negative {score:.1%} of the time",
        "accuracy": f"It labels {score:.1%} of {rows} held-out rows right",
        "balanced_accuracy": f"Of each class it finds {score:.1%} on average, on {rows} held-out rows",
    }.get(metric, f"On {rows} held-out rows its {metric_name(metric)}{_direction(metric)} is {score:.4f}")
    share = metric in SHARES
    peers = [
        f"{words} {value:.1%}" if share else f"{words} has {value:.4f}"
        for name, words in BASELINES.items()
        if (value := decision.baselines.get(name, {}).get(metric)) is not None
    ]
    return ", ".join((claim, *peers)) + "."


def task_words(prepared: Prepared) -> str:
    """What kind of target it is."""
    return {"binary": "", "multiclass": f" (one of {len(prepared.classes)} classes)", "regression": " (a number)"}[
        prepared.task
    ]


def _direction(metric: str) -> str:
    return "" if metric in HIGHER_IS_BETTER else " (lower is better)"


def caveats(release: Release) -> list[str]:
    """What a reader must not overlook: how far it is from perfect, and which baseline it does not beat."""
    metric, decision = release.candidate.metric, release.decision
    baselines = decision.baselines
    found = []
    linear, dull = ("linear", "mean") if "mean" in baselines else ("logistic", "majority")
    mine = _skill(metric, decision.metrics, baselines.get(dull, {}))
    theirs = _skill(metric, baselines.get(linear, {}), baselines.get(dull, {}))
    if mine is not None and theirs is not None:
        found.append(
            f"In {metric_name(metric)} that is {mine:.0%} of the way from the {dull}'s answer to a perfect one; "
            f"the {linear} regression goes {theirs:.0%}."
        )
    for name, words in BASELINES.items():
        kinds = decision.metrics.keys() & baselines.get(name, {}).keys()
        lost = [kind for kind in kinds if at_least_as_good(kind, baselines[name][kind], decision.metrics[kind])]
        if lost:
            found.append(f"It is no better than {words} in {', '.join(map(metric_name, sorted(lost)))}.")
    return found


def _skill(metric: str, metrics: Mapping[str, float], dull: Mapping[str, float]) -> float | None:
    """How far the metric is on its way from the dullest answer's to a perfect score; negative where it is worse."""
    start, value = dull.get(metric), metrics.get(metric)
    perfect = 1.0 if metric in HIGHER_IS_BETTER else 0.0
    return None if start is None or value is None or start == perfect else (value - start) / (perfect - start)


def command(*words: str) -> str:
    """A command line that a shell takes as it stands."""
    return shlex.join(words)
