"""How a project looks for the best parameters: the section `search` of project.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from components.records import Scalar
from components.settings import Settings


class Choice(Settings):
    """A parameter of the search that takes one of `values`."""

    values: tuple[Scalar, ...] = Field(min_length=1)


class Range(Settings):
    """A number between `low` and `high`, both included; `log` draws its logarithm evenly."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low < high, and low > 0 with log")
        return self


def _kind(axis: object) -> str:
    """Which of the two a parameter is meant to be, so that a fault in it is told of that one alone."""
    meant = isinstance(axis, Range) or (isinstance(axis, dict) and not axis.keys().isdisjoint({"low", "high"}))
    return "range" if meant else "choice"


Axis = Annotated[Annotated[Choice, Tag("choice")] | Annotated[Range, Tag("range")], Discriminator(_kind)]
"""One parameter of the search."""


class Search(Settings):
    """How parameter sets are found. A grid takes every combination of every space; the others draw `trials` of them."""

    method: Literal["grid", "random", "optuna"] = "grid"
    spaces: tuple[dict[str, Axis], ...] = Field(min_length=1)
    """One space a model family, say: each is searched by itself, a trial draws from one of them."""
    trials: PositiveInt | None = Field(default=None, le=1000)
    parallel: PositiveInt = Field(default=2, le=64)
    """Trials side by side; `optuna` learns from the trials before each such wave."""
    timeout: PositiveFloat = 600.0
    """Seconds for one trial."""
    memory_mb: PositiveInt = 4096
    """Memory that one trial may take beyond the libraries that all trials share, MiB."""

    @model_validator(mode="after")
    def _is_finite(self) -> Search:
        if self.method == "grid":
            if self.trials is not None:
                raise ValueError("no `trials` with method grid: it takes every combination")
            if any(isinstance(axis, Range) for space in self.spaces for axis in space.values()):
                raise ValueError("`values` only with method grid: a range has no end of points")
        elif self.trials is None:
            raise ValueError(f"`trials` with method {self.method}")
        return self
