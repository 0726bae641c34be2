"""What models say of rows: one kind of answers a task, and the tensors that carry them.

binary      `probability` [rows, 1] of 1, and `label` [rows, 1]
multiclass  `probabilities` [rows, K] in the order of the classes, and `label` [rows, 1], which is one of them
regression  `value` [rows, 1]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

from components.errors import GateError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]
    Ints: TypeAlias = npt.NDArray[np.int64]
    Target: TypeAlias = npt.NDArray[Any]

Task = Literal["binary", "multiclass", "regression"]
"""What a project predicts: 0 or 1, one of several classes, a number."""

NUMBERS: Final[Mapping[str, str]] = {"binary": "probability", "multiclass": "probabilities", "regression": "value"}
"""Task -> the tensor of numbers that its answer has, float32."""
LABEL: Final = "label"
"""The tensor with the class, which every task has that has classes."""

ROUNDING: Final = 1e-4
"""How far the probabilities of a row may be from 1 in sum: they are 32-bit floats, and there may be many."""


def answer_names(task: str) -> tuple[str, ...]:
    """The tensors of a task's answer, the numbers first."""
    return (NUMBERS[task],) if task == "regression" else (NUMBERS[task], LABEL)


@dataclass(frozen=True, slots=True)
class Answers:
    """Of a binary task: the probability of 1, and the label."""

    task: ClassVar[Task] = "binary"
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
        _refuse_strays(~((probability >= 0) & (probability <= 1)))
        return cls(probability, np.asarray(table["label"], dtype=np.int64).ravel())

    def take(self, rows: npt.NDArray[Any]) -> Answers:
        """The answers on some of the rows: a mask or positions."""
        return Answers(self.probability[rows], self.label[rows])

    def columns(self) -> dict[str, Any]:
        """As columns of an Arrow table."""
        return {"probability": self.probability, "label": self.label}

    def numbers(self) -> Floats:
        """What is compared within a tolerance: `[rows, 1]`."""
        return self.probability.reshape(-1, 1)


@dataclass(frozen=True, slots=True)
class ClassAnswers:
    """Of a multiclass task: the probability of each class, and the place of the label among the classes."""

    task: ClassVar[Task] = "multiclass"
    probabilities: Floats
    place: Ints
    classes: tuple[Any, ...]

    @classmethod
    def of(cls, table: Any, classes: Sequence[Any]) -> ClassAnswers:
        """From anything with the columns `probabilities`, `[rows, K]`, and `label`.

        Raises:
            GateError: some row's probabilities are none, or a label is no class.
        """
        import numpy as np

        probabilities = matrix(table["probabilities"]).astype(np.float64)
        if probabilities.shape[1] != len(classes):
            raise GateError(
                f"answers have {probabilities.shape[1]} probabilities a row", accepted=f"{len(classes)}, one a class"
            )
        inside = ((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
        _refuse_strays(~(inside & (np.abs(probabilities.sum(axis=1) - 1) <= ROUNDING)))
        return cls(probabilities, places(table["label"], classes), tuple(classes))

    def take(self, rows: npt.NDArray[Any]) -> ClassAnswers:
        """The answers on some of the rows: a mask or positions."""
        return ClassAnswers(self.probabilities[rows], self.place[rows], self.classes)

    def columns(self) -> dict[str, Any]:
        """As columns of an Arrow table."""
        return {"probabilities": list_column(self.probabilities), "label": [self.classes[one] for one in self.place]}

    def numbers(self) -> Floats:
        """What is compared within a tolerance: `[rows, K]`."""
        return self.probabilities


@dataclass(frozen=True, slots=True)
class ValueAnswers:
    """Of a regression: a number a row."""

    task: ClassVar[Task] = "regression"
    value: Floats

    @classmethod
    def of(cls, table: Any) -> ValueAnswers:
        """From anything with the column `value`.

        Raises:
            GateError: some value is not finite.
        """
        import numpy as np

        value = np.asarray(table["value"], dtype=np.float64).ravel()
        _refuse_strays(~np.isfinite(value), "finite numbers")
        return cls(value)

    def take(self, rows: npt.NDArray[Any]) -> ValueAnswers:
        """The answers on some of the rows: a mask or positions."""
        return ValueAnswers(self.value[rows])

    def columns(self) -> dict[str, Any]:
        """As columns of an Arrow table."""
        return {"value": self.value}

    def numbers(self) -> Floats:
        """What is compared within a tolerance: `[rows, 1]`."""
        return self.value.reshape(-1, 1)


AnyAnswers: TypeAlias = Answers | ClassAnswers | ValueAnswers


def read_answers(table: Any, task: str, classes: Sequence[Any]) -> AnyAnswers:
    """The answers of a task, from anything that has its columns.

    Raises:
        GateError: some are no answers.
    """
    if isinstance(table, Mapping) and NUMBERS[task] not in table:
        raise GateError(f"answers are {', '.join(table)}", accepted=", ".join(answer_names(task)))
    if task == "binary":
        return Answers.of(table)
    return ClassAnswers.of(table, classes) if task == "multiclass" else ValueAnswers.of(table)


def from_scores(scores: npt.NDArray[Any], task: str, classes: Sequence[Any], threshold: float) -> AnyAnswers:
    """What the graph `post` makes of scores, `[rows, classes]` or, in a regression, `[rows, 1]`."""
    import numpy as np

    if task == "binary":
        probability = scores[:, 1].astype(np.float64)
        label = probability.astype(np.float32) >= np.float32(threshold)  # as the graph `post` compares
        return Answers(probability, label.astype(np.int64))
    if task == "multiclass":
        place = (
            scores.astype(np.float32).argmax(axis=1).astype(np.int64)
        )  # as the graph `post` does, the first of equals
        return ClassAnswers(scores.astype(np.float64), place, tuple(classes))
    return ValueAnswers(scores.reshape(len(scores), -1)[:, 0].astype(np.float64))


def places(values: Any, classes: Sequence[Any]) -> Ints:
    """The place of each value among the classes.

    Raises:
        GateError: a value is no class.
    """
    import numpy as np

    known = {one: place for place, one in enumerate(classes)}
    given = np.asarray(values).ravel().tolist()
    unknown = next((one for one in given if one not in known), None)
    if unknown is not None:
        raise GateError(f"{unknown!r} is no class", accepted=shown(classes))
    return np.fromiter((known[one] for one in given), dtype=np.int64, count=len(given))


def numbered(values: Any, task: str, classes: Sequence[Any]) -> Target:
    """A target as metrics take it: 0 or 1, the place of each class, or a number."""
    import numpy as np

    if task == "multiclass":
        return places(values, classes)
    return np.asarray(values, dtype=np.int64 if task == "binary" else np.float64)


def shown(classes: Sequence[Any], most: int = 12) -> str:
    """The classes, for messages: the first ones, and how many more."""
    more = len(classes) - most
    return ", ".join(map(str, classes[:most])) + (f", and {more} more" if more > 0 else "")


def matrix(column: Any) -> npt.NDArray[Any]:
    """`[rows, width]` from a list column of Arrow, or from an array."""
    import numpy as np

    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    if hasattr(column, "flatten") and not isinstance(column, np.ndarray):
        return np.asarray(column.flatten()).reshape(len(column), -1)
    return np.asarray(column).reshape(len(column), -1)


def list_column(rows: npt.NDArray[Any]) -> Any:
    """`[rows, width]` as a column of Arrow, a list of fixed size a row."""
    import numpy as np
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).ravel()), rows.shape[1])


def _refuse_strays(strays: npt.NDArray[np.bool_], accepted: str = "0 to 1") -> None:
    if strays.any():
        kind = "probabilities" if accepted == "0 to 1" else "numbers"
        raise GateError(f"{int(strays.sum())} of {len(strays)} answers are no {kind}", accepted=accepted)
