"""Which release answers a request, where several may: a router of the project says, and is told how it went.

A project without a roll-out or a selection has no router, and its requests do not come here.
"""

from __future__ import annotations

import random
import uuid
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from components.gateway.problems import Problem
from components.tally import Rewards
from components.verdict import Arm, Counts

if TYPE_CHECKING:
    from components.gateway.catalogue import Door
    from components.gateway.requests import Request
    from components.rollouts import Rollout
    from components.selection_settings import Selection

_NOTHING: Final = Rewards()

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

    @property
    def column(self) -> str:
        """The column whose value is a request's key, where no header names one."""

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
    return int.from_bytes(blake2b(f"{project}\n{key}".encode(errors="surrogatepass"), digest_size=7).digest()) / 2**56


class RolloutRouter:
    """Routes one step of a roll-out, and counts what both releases do in it.

    Args:
        rollout: its record.
        running: the release that serves.
        candidate: the one that may.
    """

    column = ""

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


class SelectionRouter:
    """Routes between the arms of a selection; where one fails, the release that serves answers.

    Args:
        selection: the project's settings.
        champion: the release that serves.
        arms: the releases to choose from, in the settings' order.
    """

    tolerance = 0.0
    """Nothing is compared: each is asked on its own."""

    def __init__(self, selection: Selection, champion: Door, arms: Sequence[Door]) -> None:
        self.name = uuid.uuid4().hex  # what it counted is kept under it, and a later router's apart
        self.selection = selection
        self.champion = champion
        self.arms = tuple(arms)
        self.rewards: Mapping[int, Rewards] = {}
        self.counts = {door.number: Arm() for door in arms}
        self.column = selection.key or ""
        self._salt = f"{champion.project}\n{selection.arms}"
        self._edges = list(accumulate(selection.shares or [1 / len(arms)] * len(arms)))[:-1]
        self._pick = {"ab": self._by_share, "epsilon-greedy": self._by_mean, "thompson": self._by_draw}[selection.how]

    def choose(self, key: str) -> Choice:
        door = self._pick(key)
        return Choice(door, None if door is self.champion else self.champion)

    def answered(self, door: Door, seconds: float | None) -> None:
        arm = self.counts.get(door.number)
        if arm is not None:  # else it is the champion in an arm's place
            arm.requests += 1
            if seconds is not None:
                arm.took(seconds)

    def failed(self, door: Door) -> None:
        arm = self.counts[door.number]
        arm.requests += 1
        arm.failed += 1

    def compared(self, rows: int, differ: int) -> None:
        raise AssertionError(f"{rows} rows were compared, {differ} differ: no arm is asked beside another")

    def _by_share(self, key: str) -> Door:
        where = place(self._salt, key) if key else random.random()  # noqa: S311  # no secret
        return self.arms[bisect_right(self._edges, where)]

    def _by_mean(self, _: str) -> Door:
        if random.random() < self.selection.epsilon:  # noqa: S311
            return random.choice(self.arms)  # noqa: S311
        return max(self.arms, key=lambda door: (self._of(door).mean, random.random()))  # noqa: S311

    def _by_draw(self, _: str) -> Door:
        """Draw what each may be worth from what is known of it, and take the best (Thompson, Biometrika 25, 1933)."""
        return max(self.arms, key=self._drawn)

    def _drawn(self, door: Door) -> float:
        known = self._of(door)
        return random.betavariate(1 + known.total, 1 + known.count - known.total)

    def _of(self, door: Door) -> Rewards:
        return self.rewards.get(door.number, _NOTHING)


class Routers:
    """The router of each project: the one that counts already, as long as it is about the same.

    Args:
        say: is told of a new one.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._known: dict[str, tuple[object, Router]] = {}

    def of(
        self, rollout: Rollout | None, selection: Selection | None, champion: Door, doors: Mapping[int, Door]
    ) -> Router | None:
        """The router between some of `doors`; None where there is nothing to choose, or one is missing."""
        about: object
        make: Callable[[], Router]
        if rollout is not None and {rollout.running, rollout.candidate} <= doors.keys():
            about, words = (rollout.number, rollout.step), rollout.told
            make = partial(RolloutRouter, rollout, doors[rollout.running], doors[rollout.candidate])
        elif rollout is None and selection is not None and set(selection.arms) <= doors.keys():
            about, words = (selection, champion.number), f"{selection.how} between {selection.arms}"
            make = partial(SelectionRouter, selection, champion, [doors[number] for number in selection.arms])
        else:
            return None
        known = self._known.get(champion.project)
        if known is None or known[0] != about:
            known = self._known[champion.project] = (about, make())
            self._say(f"{champion.project}: {words}")
        return known[1]


def step_of(rollout: Rollout) -> str:
    """What a step's counts are kept under."""
    return f"{rollout.number}.{rollout.step}"


def key_of(request: Request, column: str, rows: Callable[[], Sequence[Any]]) -> str:
    """What keeps a request with one release: its header, or the value of a column; empty where there is neither.

    Raises:
        Problem: 422; rows with several keys are several requests.
    """
    header = request.header(KEY.lower().encode())
    if header or not column:
        return header.decode("latin-1")
    found = {str(row[column]) for row in rows() if isinstance(row, dict) and row.get(column) is not None}
    if len(found) > 1:
        raise Problem(
            422, f"{len(found)} keys in one request", field=column,
            accepted=f"the same {column} in all rows, or the header {KEY}",
        )  # fmt: skip
    return found.pop() if found else ""
