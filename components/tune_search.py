"""The search of `trilha tune`: one setting after the other, each up a ladder while it gets better, all in a given time.

It knows nothing of a server. Whoever asks gives it a way to put settings into force and to load them with clients; the
same answers lead it along the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Final

from components.records import Record
from components.tuned import Knobs

CLIENTS: Final = (1, 2, 4, 8, 16, 32, 64)
"""Clients that ask at the same time, each its next question when the last one is answered."""
LADDERS: Final[dict[str, tuple[int, ...]]] = {
    "instances": (1, 2, 4, 8, 16),
    "preferred_batch_size": (0, 4, 8, 16, 32, 64),
    "max_queue_delay_microseconds": (0, 100, 200, 400, 800, 1600, 3200),
}
"""What is tried of each setting, in this order."""
LEAP: Final = Knobs(preferred_batch_size=8, max_queue_delay_microseconds=200)
"""Neither of the two may help without the other, so both are tried at once."""
BETTER: Final = 1.03
"""A measurement differs from the next by as much; what gains less is not worth more instances."""
FINAL: Final = 0.3
"""Share of the time that is kept for weighing the best once more, over all numbers of clients."""
FINALISTS: Final = 2


class Point(Record):
    """What one number of clients got."""

    clients: int
    rate: float
    """Answers a second."""
    p50_ms: float
    p99_ms: float
    failed: int
    cost_us: float
    """The load generator's own CPU for a request."""

    def holds(self, budget_ms: float) -> bool:
        """Whether it is within the budget, and every request was answered."""
        return not self.failed and self.p99_ms <= budget_ms


class Tried(Record):
    """Settings, and what came of them at each number of clients."""

    knobs: Knobs
    points: tuple[Point, ...]
    refused: str = ""
    """Why the server did not take them."""

    def best(self, budget_ms: float) -> Point | None:
        """The most answers a second within the budget."""
        return max((one for one in self.points if one.holds(budget_ms)), key=lambda one: one.rate, default=None)

    def rate(self, budget_ms: float) -> float:
        """Answers a second within the budget; 0 where it is never held."""
        best = self.best(budget_ms)
        return best.rate if best else 0.0


class Outcome(Record):
    """`before` is what the project had; `finals` were measured over all numbers of clients, the best first."""

    budget_ms: float
    before: Tried
    finals: tuple[Tried, ...]
    tried: tuple[Tried, ...]
    seconds: float
    cut: bool
    """Whether the time was over before the search was."""

    @property
    def noise(self) -> float:
        """By how much the same settings differed from one time to another: 0.1 is a tenth of their answers."""
        first = next(one for one in self.tried if one.knobs == self.before.knobs)
        rates = [one.rate(self.budget_ms) for one in (first, self.before)]
        return (max(rates) - min(rates)) / max(rates) if max(rates) else 0.0


Ask = Callable[[int], Point]
InForce = Callable[[Knobs], AbstractContextManager[Ask]]
"""Puts settings into force; inside, so many clients ask. Raises `Refused` where the server does not take them."""


class Refused(Exception):  # noqa: N818  # it is said, not an error of ours
    """The server does not take the settings."""


def search(
    in_force: InForce,
    start: Knobs,
    fixed: frozenset[str],
    budget_ms: float,
    seconds: float,
    say: Callable[[Tried], object] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """The settings with the most answers a second at a p99 within the budget.

    Args:
        in_force: see `InForce`.
        start: what the project has; it wins where nothing is better.
        fixed: fields of `Knobs` that stay as they are.
        budget_ms: of the p99.
        seconds: for all of it. What is begun is ended, so it may take some more.
        say: is told of everything that was tried.
        clock: seconds.
    """
    begun = clock()
    way = _Way(in_force, start, budget_ms, say)
    cut = _walk(way, fixed, lambda: clock() - begun > seconds * (1 - FINAL))
    finals = _weighed(way, start)
    before = next(one for one in finals if one.knobs == start)
    if finals[0].rate(budget_ms) <= before.rate(budget_ms) * BETTER:
        finals = [before, *(one for one in finals if one != before)]
    return Outcome(
        budget_ms=budget_ms,
        before=before,
        finals=tuple(finals),
        tried=tuple(way.known.values()),
        seconds=clock() - begun,
        cut=cut,
    )


class _Way:
    """What was tried so far, nothing of it twice, and the best of it."""

    def __init__(self, in_force: InForce, start: Knobs, budget_ms: float, say: Callable[[Tried], object]) -> None:
        self.known: dict[Knobs, Tried] = {}
        self.best = start
        self.budget_ms = budget_ms
        self.in_force = in_force
        self.say = say
        self._level = 8
        self.look(start)

    def look(self, knobs: Knobs) -> float:
        """Answers a second within the budget, looked for around as many clients as were best before."""
        if knobs not in self.known:
            self.known[knobs] = self._load(knobs)
        best = self.known[knobs].best(self.budget_ms)
        self._level = best.clients if best else self._level
        return best.rate if best else 0.0

    def _load(self, knobs: Knobs) -> Tried:
        try:
            with self.in_force(knobs) as ask:
                tried = Tried(knobs=knobs, points=tuple(_climb(ask, self._level, self.budget_ms)))
        except Refused as refusal:
            tried = Tried(knobs=knobs, points=(), refused=str(refusal))
        self.say(tried)
        return tried


def _walk(way: _Way, fixed: frozenset[str], over: Callable[[], bool]) -> bool:
    """Go from the best that is known as far as it gets better; returns whether the time was over before."""
    moved = True
    while moved:
        moved = False
        for following in _steps(way, fixed):
            if over():
                return True
            if way.look(following) > way.look(way.best) * BETTER:
                way.best, moved = following, True
    return False


def _steps(way: _Way, fixed: frozenset[str]) -> Iterator[Knobs]:
    """Where to look next from the best: along each ladder on while it gets better, up and then down."""
    pair = {name: getattr(LEAP, name) for name in ("preferred_batch_size", "max_queue_delay_microseconds")}
    if not way.best.preferred_batch_size and not fixed & pair.keys():
        yield way.best.model_copy(update=pair)
    for name in LADDERS:
        for step in (1, -1):
            while name not in fixed and (following := _next(way.best, name, step)) is not None:
                yield following
                if way.best != following:
                    break


def _weighed(way: _Way, start: Knobs) -> list[Tried]:
    """The best that are known, and the start, loaded once more with all numbers of clients; the best first.

    They are in force side by side and take turns, so that what else the machine does meanwhile slows them all.
    """
    ranked = sorted(way.known, key=lambda one: -way.known[one].rate(way.budget_ms))  # equals keep their order
    chosen = list(dict.fromkeys([*ranked[:FINALISTS], start]))
    points: dict[Knobs, list[Point]] = {knobs: [] for knobs in chosen if not way.known[knobs].refused}
    with ExitStack() as stack:
        asks = {knobs: stack.enter_context(way.in_force(knobs)) for knobs in points}
        for clients in CLIENTS:
            for knobs, ask in asks.items():
                points[knobs].append(ask(clients))
    weighed = [way.known[knobs].model_copy(update={"points": tuple(points.get(knobs, ()))}) for knobs in chosen]
    for tried in weighed:
        way.say(tried)
    return sorted(weighed, key=lambda one: -one.rate(way.budget_ms))


def _climb(ask: Ask, level: int, budget_ms: float) -> list[Point]:
    """From `level` clients upwards while more of them get more within the budget; else downwards until it is held."""
    place = CLIENTS.index(level)
    points = [ask(level)]
    if points[0].holds(budget_ms):
        for clients in CLIENTS[place + 1 :]:
            points.append(ask(clients))
            if not points[-1].holds(budget_ms) or points[-1].rate <= points[-2].rate * BETTER:
                break
    else:
        for clients in reversed(CLIENTS[:place]):
            points.append(ask(clients))
            if points[-1].holds(budget_ms):
                break
    return points


def _next(knobs: Knobs, name: str, step: int) -> Knobs | None:
    """The next rung of one ladder, in a direction; none at its ends. Where all go together, none waits for others."""
    if name == "max_queue_delay_microseconds" and not knobs.preferred_batch_size:
        return None
    ladder = LADDERS[name]
    now = getattr(knobs, name)
    rungs = [rung for rung in ladder if (rung > now if step > 0 else rung < now)]
    if not rungs:
        return None
    changes = {name: min(rungs) if step > 0 else max(rungs)}
    if changes.get("preferred_batch_size") == 0:
        changes["max_queue_delay_microseconds"] = 0
    return knobs.model_copy(update=changes)
