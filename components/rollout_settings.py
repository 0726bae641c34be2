"""`rollout:` in project.yaml: how a new release takes over, and what it is held to on the way."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from components.settings import Settings

How = Literal["blue-green", "canary", "shadow"]

Share = Annotated[float, Field(gt=0, le=1)]


class RolloutRules(Settings):
    """How requests move to the candidate, and what ends a roll-out.

    `blue-green`: all at once, with the running release ready to take them back. `canary`: in steps of shares. `shadow`:
    none; the candidate is asked as well, and what it says is compared and dropped.
    """

    how: How = "canary"
    shares: tuple[Share, ...] = ()
    """Of the requests, one step after the other. As shipped: a canary 0.05, 0.25, 0.5; the others all."""
    auto: bool = False
    """Whether a candidate that held to everything in the last step is promoted without a person."""
    errors: float = Field(default=0.01, gt=0, lt=1)
    """By how much the candidate's share of failed requests may be above the running release's."""
    latency: PositiveFloat | None = 1.5
    """The candidate's p50 and p99 may be so many times the running release's; null: not looked at."""
    disagreement: float | None = Field(default=0.1, gt=0, lt=1)
    """The share of rows that may be answered differently; null: not looked at."""
    tolerance: PositiveFloat = 0.1
    """Numbers, of a regression, agree within it; those above 1 within that share."""
    compare: float = Field(default=0.1, ge=0, le=1)
    """The share of the candidate's requests that the running release is asked as well; a shadow is always compared."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """That a candidate which holds to everything is not aborted, however often one looks."""
    samples: PositiveInt = 200
    """Requests of each release in a step before it can end well."""
    seconds: float = Field(default=60.0, ge=0)
    """That a step lasts at least."""
    longest: PositiveFloat = 86_400.0
    """Seconds after which a step that is still open is given up."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.how == "canary" and (list(self.steps) != sorted(set(self.steps)) or self.steps[-1] == 1):
            raise ValueError("shares of a canary that grow, below 1")
        if self.how != "canary" and len(self.steps) > 1:
            raise ValueError(f"one share for {self.how}")
        if self.how == "blue-green" and self.steps != (1.0,):
            raise ValueError("no shares for blue-green: it moves all requests at once")
        if not self.compare and (self.how == "blue-green" or (self.how == "canary" and self.disagreement is not None)):
            raise ValueError(
                "`compare` above 0: nothing else says what the running release does, or would have answered"
            )
        if self.longest <= self.seconds:
            raise ValueError("`seconds` below `longest`")
        return self

    @property
    def steps(self) -> tuple[float, ...]:
        """The share of each step."""
        return self.shares or ((0.05, 0.25, 0.5) if self.how == "canary" else (1.0,))
