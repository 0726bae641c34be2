"""Smaller weights for a model, where the project's metric allows it: tried, measured on the test split, and chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from components.answers import numbered, read_answers
from components.errors import GateError
from components.metrics import HIGHER_IS_BETTER, metric
from components.model_inputs import to_tensors
from components.records import Record

if TYPE_CHECKING:
    import pyarrow as pa

    from components.answers import AnyAnswers, Target
    from components.edge_settings import Edge
    from components.records import Prepared, Release

AS_IT_IS: Final = "float32"
"""The weights as training left them."""


class Variant(Record):
    """The model with its weights in one form, on rows of the test split."""

    weights: str
    """`float32`, which is as they are; `float16`; `int8`."""
    size: int
    """Bytes of the file."""
    value: float | None = None
    """Of the project's metric; none where it was not measured."""
    lost: float | None = None
    """How much worse that is than with the weights as they are."""
    difference: float | None = None
    """Largest difference of an answer's numbers from those with the weights as they are."""
    taken: bool = False
    why: str = ""
    """Why it is taken, or not."""


def smaller(plain: bytes, test: pa.Table, release: Release, edge: Edge) -> tuple[bytes, tuple[Variant, ...]]:
    """The smallest graph that loses no more than is allowed, and all that were tried.

    Args:
        plain: the graph with its weights as they are.
        test: rows of the test split, with the target.
        release: names the task and the metric.
        edge: what may be lost.
    """
    from components.adapters.onnx_small import SMALLER

    prepared, name = release.prepared, release.candidate.metric
    target = numbered(test[prepared.target].to_numpy(zero_copy_only=False), prepared.task, prepared.classes)
    before = asked(plain, test, prepared)
    made = {AS_IT_IS: plain}
    tried = [Variant(weights=AS_IT_IS, size=len(plain), value=metric(name, target, before), lost=0.0, difference=0.0)]
    for weights, shrink in SMALLER.items():
        made[weights] = shrink(plain)
        one = Variant(weights=weights, size=len(made[weights]), why="the file is no smaller")
        if one.size < len(plain):
            one = _weighed(one, made[weights], test, target, before, release, edge)
        tried.append(one)
    best = min((one for one in tried if not one.why), key=lambda one: one.size)
    return made[best.weights], tuple(_judged(one, best, edge) for one in tried)


def _weighed(
    one: Variant, graph: bytes, test: pa.Table, target: Target, before: AnyAnswers, release: Release, edge: Edge
) -> Variant:
    """What the smaller weights cost; `why` says what speaks against them."""
    name = release.candidate.metric
    try:
        answers = asked(graph, test, release.prepared)
    except GateError as error:
        return one.model_copy(update={"why": error.problem})
    was, value = metric(name, target, before), metric(name, target, answers)
    lost = was - value if name in HIGHER_IS_BETTER else value - was
    why = "" if lost <= edge.loss else f"{name} is worse by {lost:.4g}, and {edge.loss:g} is allowed"
    return one.model_copy(update={"value": value, "lost": lost, "difference": apart(answers, before), "why": why})


def _judged(one: Variant, best: Variant, edge: Edge) -> Variant:
    """With the verdict on it."""
    if one.weights != best.weights:
        return one if one.why else one.model_copy(update={"why": f"{best.weights} is smaller, and good enough"})
    words = f"the smallest file that loses {edge.loss:g} at most"
    if one.weights == AS_IT_IS:
        words = "nothing smaller is good enough"
    return one.model_copy(update={"taken": True, "why": words})


def asked(graph: bytes, rows: pa.Table, prepared: Prepared) -> AnyAnswers:
    """What a graph answers to rows, one by one.

    Raises:
        GateError: some answers are none.
    """
    from components.adapters.onnx_small import answer_one_by_one

    answers = answer_one_by_one(graph, to_tensors(rows, prepared.features))
    return read_answers(answers, prepared.task, prepared.classes)


def apart(ours: AnyAnswers, theirs: AnyAnswers) -> float:
    """The largest difference of a number; of a regression's values beyond 1, as a share of theirs."""
    import numpy as np

    one, other = ours.numbers(), theirs.numbers()
    scale = np.maximum(1, np.abs(other)) if ours.task == "regression" else 1
    return float((np.abs(one - other) / scale).max())
