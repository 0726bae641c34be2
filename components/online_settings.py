"""How the gateway answers for a project: the section `online` of project.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, FiniteFloat, PositiveFloat, Tag, model_validator

from components.answers import NUMBERS, ROUNDING
from components.settings import Settings


class OnlineFeatures(Settings):
    """Which columns of `features.sql` a request may leave out, because they are known by the entity that it names."""

    entity: str | tuple[str, ...]
    """The column, or columns together, that name an entity: text or whole numbers."""
    columns: tuple[str, ...] = Field(min_length=1)
    """Inputs of the model. Of each entity the latest row counts, by the column that the split by time has; without one,
    all its rows have to agree."""

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the entity."""
        return (self.entity,) if isinstance(self.entity, str) else self.entity

    @model_validator(mode="after")
    def _names_each_once(self) -> OnlineFeatures:
        names = (*self.key, *self.columns)
        if not self.key or len(set(names)) < len(names):
            raise ValueError("at least one column as `entity`, and each column once in `entity` and `columns`")
        return self


Chance = Annotated[float, Field(ge=0, le=1)]


class BinaryDefault(Settings):
    """What is answered for a row where the model is late, of a binary task."""

    probability: Chance
    label: Literal[0, 1]


class ClassDefault(Settings):
    """Of a multiclass one: the class, and the probability of each."""

    label: int | str
    probabilities: dict[str, Chance]

    @model_validator(mode="after")
    def _is_one_of_them(self) -> ClassDefault:
        if str(self.label) not in self.probabilities or abs(sum(self.probabilities.values()) - 1) > ROUNDING:
            raise ValueError("probabilities of all classes, the label's too, that are 1 in sum")
        return self


class ValueDefault(Settings):
    """Of a regression."""

    value: FiniteFloat


DEFAULTS: dict[str, type[Settings]] = {
    "binary": BinaryDefault,
    "multiclass": ClassDefault,
    "regression": ValueDefault,
}
"""Task -> what is answered there."""


def _task_of(answer: object) -> str:
    """The task that a default answer is meant for, so that a fault in it is told of that one alone."""
    names = answer if isinstance(answer, dict) else type(answer).model_fields if isinstance(answer, Settings) else ()
    return next((task for task in ("regression", "multiclass") if NUMBERS[task] in names), "binary")


DefaultAnswer = Annotated[
    Annotated[BinaryDefault, Tag("binary")]
    | Annotated[ClassDefault, Tag("multiclass")]
    | Annotated[ValueDefault, Tag("regression")],
    Discriminator(_task_of),
]
"""What is answered for a row where the model is late."""


class Online(Settings):
    """How the gateway answers for the project; no part of a bundle."""

    seconds: PositiveFloat | None = Field(default=None, le=60)
    """For the model to answer, in place of the profile's."""
    default: DefaultAnswer | None = None
    """Answered, and called so, where the model is late; none: 504."""
    log: float = Field(default=0.0, ge=0, le=1)
    """Share of requests that is written down, with its answers, on the branch `predictions` of the data store."""
    redact: tuple[str, ...] = ()
    """Columns of the inputs that are left out there."""
    features: OnlineFeatures | None = None
    """What requests may leave out, because it is known by the entity that they name; part of a release."""
