"""Plots of answers, for notebooks and for the decision. They return figures and draw on no screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.answers import Answers, ClassAnswers, ValueAnswers

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from components.answers import Floats, Ints
    from components.records import Slice

BINS = 10
"""Groups of equally many rows in a calibration plot."""
MOST_NAMED = 20
"""Classes whose names and numbers a confusion plot has room for."""


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


def confusion(target: Ints, answers: ClassAnswers) -> Figure:
    """What was answered (across) where what was right (down), in rows; the diagonal is right.

    Args:
        target: the place of each row's class among the classes.
        answers: on the same rows.
    """
    import numpy as np

    count = len(answers.classes)
    rows = np.bincount(target * count + answers.place, minlength=count * count).reshape(count, count)
    figure, axes = _blank("Confusion", "answered", "right")
    axes.imshow(np.log1p(rows), cmap="Blues")
    if count <= MOST_NAMED:
        names = [str(one)[:14] for one in answers.classes]
        axes.set_xticks(range(count), names, rotation=90 if max(map(len, names)) > 3 else 0, fontsize=7)
        axes.set_yticks(range(count), names, fontsize=7)
        for right, answered in zip(*rows.nonzero(), strict=True):
            ink = "white" if rows[right, answered] > rows.max() / 8 else "black"
            axes.text(answered, right, f"{rows[right, answered]}", ha="center", va="center", fontsize=6, color=ink)
    return figure


def foretold(target: Floats, answers: ValueAnswers) -> Figure:
    """What came against what was foretold, a dot a row."""
    figure, axes = _blank("Foretold and come", "foretold", "came")
    axes.plot(answers.value, target, ".", markersize=3, alpha=0.4)
    ends = [min(*axes.get_xlim(), *axes.get_ylim()), max(*axes.get_xlim(), *axes.get_ylim())]
    axes.plot(ends, ends, color="grey", linestyle=":", linewidth=1)
    return figure


def images(pictures: Sequence[npt.NDArray[Any]], titles: Sequence[str], columns: int = 8) -> Figure:
    """Pictures `[height, width]` in rows, each under its title."""
    from matplotlib.figure import Figure

    rows = max(1, -(-len(pictures) // columns))
    figure = Figure(figsize=(columns, 1.25 * rows), layout="constrained")
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).ravel()):
        axes.set_axis_off()
        if place < len(pictures):
            axes.imshow(pictures[place], cmap="gray_r")
            axes.set_title(titles[place], fontsize=7)
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
