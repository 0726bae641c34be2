"""Plots of answers, for notebooks and for the decision. They return figures and draw on no screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from components.metrics import Answers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from components.metrics import Ints
    from components.records import Slice

BINS = 10
"""Groups of equally many rows in a calibration plot."""


def roc(target: Ints, models: Mapping[str, Answers]) -> Figure:
    """How many of the rows of 1 are found, at the price of how many false alarms, one curve a model."""
    from sklearn.metrics import roc_curve

    from components.metrics import metric

    figure, axes = _blank("ROC", "share of 0 flagged", "share of 1 flagged")
    for name, answers in models.items():
        false, true, _ = roc_curve(target, answers.probability)
        axes.plot(false, true, label=f"{name} (auc {metric('auc', target, answers):.3f})")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.legend(frameon=False)
    return figure


def calibration(target: Ints, models: Mapping[str, Answers]) -> Figure:
    """What happened against what was foretold, in groups of equally many rows."""
    import numpy as np

    figure, axes = _blank("Calibration", "foretold probability", "share of 1 that came")
    for name, answers in models.items():
        groups = np.array_split(np.argsort(answers.probability, kind="stable"), BINS)
        foretold = [answers.probability[group].mean() for group in groups]
        axes.plot(foretold, [target[group].mean() for group in groups], marker="o", markersize=4, label=name)
    end = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, end], [0, end], color="grey", linestyle=":", linewidth=1)
    axes.legend(frameon=False)
    return figure


def bars(title: str, values: Mapping[str, float], bound: float | None = None) -> Figure:
    """Horizontal bars, the first on top, and a line at `bound`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 0.8 + 0.25 * len(values)), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(values), list(values.values()), color="tab:blue")
    axes.invert_yaxis()
    axes.set_title(title)
    if bound is not None:
        axes.axvline(bound, color="tab:red", linewidth=1)
    return figure


def slices(metric: str, found: Sequence[Slice], floor: float | None) -> Figure:
    """The metric in each slice, the worst on top, and the floor that each has to keep."""
    ranked = sorted(found, key=lambda one: one.metric)
    return bars(
        f"{metric} by slice", {f"{one.column} = {one.value} ({one.rows:,})": one.metric for one in ranked}, bound=floor
    )


def _blank(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes
