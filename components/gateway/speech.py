"""How a release speaks, by its task: its answers row by row under the names that `trilha predict` gives, as TensorFlow
Serving says them, as a schema, and the project's default answer in its place.

All begin with the tensors that the model answers with, which the release's record names; nothing else knows of tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from components.adapters.triton_config import Tensor, answer_tensors
from components.gateway.wire import Columns, Spec
from components.online_settings import BinaryDefault, ClassDefault, ValueDefault

if TYPE_CHECKING:
    from components.online_settings import DefaultAnswer

    Schema = dict[str, Any]

_CHANCE: Schema = {"type": "number", "minimum": 0, "maximum": 1}


class One(msgspec.Struct, gc=False):
    """The answer to one row, of a binary task."""

    probability: float
    label: int


class Class(msgspec.Struct, gc=False):
    """Of a multiclass one."""

    label: int | str
    probabilities: dict[str, float]


class Value(msgspec.Struct, gc=False):
    """Of a regression."""

    value: float


class Speech(ABC):
    """What all tasks have in common.

    Args:
        task: of the release.
        classes: its classes, in the order of the probabilities.
    """

    says = ""
    """What an answer is, for people; `{}` is the target."""
    verbs: tuple[str, ...] = ("predict",)
    """What TensorFlow Serving's clients may ask: `classify` wants classes, `regress` one number a row."""

    def __init__(self, task: str, classes: Sequence[int | str]) -> None:
        self.task = task
        self.classes = tuple(classes)
        self.names = [str(one) for one in classes]
        self.outputs = tuple(spec_of(one, many=one.width > 1) for one in answer_tensors(task, classes))

    @abstractmethod
    def rows(self, columns: Columns) -> list[Any]:
        """Answers, row by row."""

    @abstractmethod
    def schema(self) -> Schema:
        """Of one of them."""

    @abstractmethod
    def default(self, answer: DefaultAnswer) -> Columns | None:
        """The project's default answer as the tensors of one row; None where it is none for this release."""

    def scores(self, columns: Columns) -> list[list[list[Any]]]:
        """Pairs of class and score a row, as TensorFlow Serving classifies; only where `verbs` has `classify`."""
        raise TypeError(f"an answer of {len(columns)} tensors to a {self.task} task has no classes")


class _Binary(Speech):
    says = "The probability that {} is 1"
    verbs = ("predict", "classify", "regress")

    def rows(self, columns: Columns) -> list[Any]:
        return list(map(One, *columns))

    def schema(self) -> Schema:
        return _object(probability=_CHANCE, label={"enum": [0, 1]})

    def default(self, answer: DefaultAnswer) -> Columns | None:
        return [[answer.probability], [answer.label]] if isinstance(answer, BinaryDefault) else None

    def scores(self, columns: Columns) -> list[list[list[Any]]]:
        return [[["0", 1 - one], ["1", one]] for one in columns[0]]


class _Multiclass(Speech):
    says = "The class of {}, and the probability of each"
    verbs = ("predict", "classify")

    def rows(self, columns: Columns) -> list[Any]:
        names = self.names
        pairs = zip(*columns, strict=True)
        return [Class(label, dict(zip(names, row, strict=True))) for row, label in pairs]

    def schema(self) -> Schema:
        chances = _object(**dict.fromkeys(self.names, _CHANCE))
        return _object(label={"enum": list(self.classes)}, probabilities=chances)

    def default(self, answer: DefaultAnswer) -> Columns | None:
        if not isinstance(answer, ClassDefault) or answer.probabilities.keys() != set(self.names):
            return None
        label = self.classes[self.names.index(str(answer.label))]
        return [[[answer.probabilities[name] for name in self.names]], [label]]

    def scores(self, columns: Columns) -> list[list[list[Any]]]:
        return [[list(pair) for pair in zip(self.names, row, strict=True)] for row in columns[0]]


class _Regression(Speech):
    says = "The value of {}"
    verbs = ("predict", "regress")

    def rows(self, columns: Columns) -> list[Any]:
        return list(map(Value, columns[0]))

    def schema(self) -> Schema:
        return _object(value={"type": ["number", "null"]})

    def default(self, answer: DefaultAnswer) -> Columns | None:
        return [[answer.value]] if isinstance(answer, ValueDefault) else None


_TASKS: dict[str, type[Speech]] = {"binary": _Binary, "multiclass": _Multiclass, "regression": _Regression}


def speech_of(task: str, classes: Sequence[int | str]) -> Speech:
    """How releases of a task speak."""
    return _TASKS[task](task, classes)


def spec_of(tensor: Tensor, *, many: bool) -> Spec:
    """A tensor of Triton's configuration in V2's words."""
    kind = tensor.type.removeprefix("TYPE_")
    return Spec(tensor.name, "BYTES" if kind == "STRING" else kind, tensor.width, many)


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}
