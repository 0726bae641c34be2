"""`selection:` in project.yaml: several releases behind one endpoint, and which one answers whom."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from components.settings import Settings


class Selection(Settings):
    """Releases that answer side by side.

    `ab`: by shares; a key is answered by the same release each time. `epsilon-greedy`: the one with the best rewards so
    far, and a draw of all for a share of the requests. `thompson`: each as often as it is likely to be the best one.
    """

    how: Literal["ab", "epsilon-greedy", "thompson"]
    arms: tuple[PositiveInt, ...] = Field(min_length=2, max_length=16)
    """Numbers of releases."""
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Of `ab`, one an arm, 1 in sum; none: the same for all."""
    key: str | None = None
    """Of `ab`, the column whose value is the key; a request's header `Trilha-Key` goes before it."""
    epsilon: float = Field(default=0.1, ge=0, le=1)
    """Of `epsilon-greedy`, the share of requests that are drawn."""
    window: PositiveFloat = Field(default=604_800.0, le=2_592_000)
    """Seconds that feedback may come after its prediction."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if len(set(self.arms)) < len(self.arms):
            raise ValueError("each arm once")
        if self.shares and (len(self.shares) != len(self.arms) or abs(sum(self.shares) - 1) > 1e-6):
            raise ValueError("one share an arm, 1 in sum")
        if self.how != "ab" and (self.shares or self.key):
            raise ValueError(f"no `shares` and no `key` with {self.how}: rewards decide")
        return self
