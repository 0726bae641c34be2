"""Which release answers a request, where several may: a router of the project says, and is told how it went.

A project without a roll-out or a selection has no router, and its requests do not come here.
"""

from __future__ import annotations

import random
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from components.verdict import Arm, Counts

if TYPE_CHECKING:
    from components.gateway.catalogue import Door
    from components.rollouts import Rollout

KEY: Final = "Trilha-Key"
"""The header whose value keeps a caller with one release."""


class Choice(NamedTuple):
    """`door` answers. Where it fails, `spare` does. `beside` is asked as well, and what it says is compared only."""

    door: Door
    spare: Door | None = None
    beside: Door | None = None


class Router(Protocol):
    """Chooses for the requests of one project."""

    @property
    def tolerance(self) -> float:
        """Within which numbers of two releases are the same."""

    def choose(self, key: str) -> Choice:
        """For a request; one that names a key is answered by the same release each time."""

    def answered(self, door: Door, seconds: float | None) -> None:
        """`door` answered; in that time, where the model was asked."""

    def failed(self, door: Door) -> None:
        """`door` failed, and the request was not to blame."""

    def compared(self, rows: int, differ: int) -> None:
        """So many rows were answered by both doors, so many of them differently."""


def place(project: str, key: str) -> float:
    """Where a key is between 0 and 1: the same place in every process, and as a roll-out's share grows."""
    return int.from_bytes(blake2b(f"{project}\n{key}".encode(), digest_size=7).digest()) / 2**56


class RolloutRouter:
    """Routes one step of a roll-out, and counts what both releases do in it.

    Args:
        rollout: its record.
        running: the release that serves.
        candidate: the one that may.
    """

    def __init__(self, rollout: Rollout, running: Door, candidate: Door) -> None:
        self.rollout = rollout
        self.counts = Counts()
        self._running = running
        self._candidate = candidate
        self._shadow = rollout.rules.how == "shadow"
        self._share = rollout.share
        self._compare = rollout.rules.compare
        self.tolerance = rollout.rules.tolerance

    def choose(self, key: str) -> Choice:
        chosen = (place(self.rollout.project, key) if key else random.random()) < self._share  # noqa: S311  # no secret
        if not chosen:
            return Choice(self._running)
        if self._shadow:
            return Choice(self._running, beside=self._candidate)
        beside = self._running if random.random() < self._compare else None  # noqa: S311
        return Choice(self._candidate, self._running, beside)

    def answered(self, door: Door, seconds: float | None) -> None:
        if seconds is None:
            return  # remembered: it says nothing of the model
        arm = self._arm(door)
        arm.requests += 1
        arm.took(seconds)

    def failed(self, door: Door) -> None:
        arm = self._arm(door)
        arm.requests += 1
        arm.failed += 1

    def compared(self, rows: int, differ: int) -> None:
        self.counts.rows += rows
        self.counts.differ += differ

    def _arm(self, door: Door) -> Arm:
        return self.counts.candidate if door is self._candidate else self.counts.running


def step_of(rollout: Rollout) -> str:
    """What a step's counts are kept under."""
    return f"{rollout.number}.{rollout.step}"
