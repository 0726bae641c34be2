"""The way through the settings, on a made-up machine whose best settings are known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from components.tune_search import BETTER, CLIENTS, Ask, Outcome, Point, Refused, search
from components.tuned import Knobs

START = Knobs()


@dataclass
class Machine:
    """One that answers `rate(knobs)` a second with enough clients, each answer later the more of them there are."""

    cores: int = 4
    batch: int = 16
    """The preferred size that suits it; 0: none does anything."""
    seconds: float = 1.0
    """That one point takes."""
    most: int = 64
    """Instances that it has memory for."""
    now: float = 0.0
    asked: list[tuple[Knobs, int]] = field(default_factory=list)

    def rate(self, knobs: Knobs) -> float:
        whole = 1000.0 * min(knobs.instances, self.cores) - 50.0 * max(0, knobs.instances - self.cores)
        if self.batch and knobs.preferred_batch_size:
            whole *= 1.5 - abs(knobs.preferred_batch_size - self.batch) / 100
        return whole

    @contextmanager
    def in_force(self, knobs: Knobs) -> Iterator[Ask]:
        if knobs.instances > self.most:
            raise Refused("out of memory")

        def ask(clients: int) -> Point:
            self.asked.append((knobs, clients))
            self.now += self.seconds
            most = self.rate(knobs)
            rate = min(most, 400.0 * clients)
            p99 = clients / rate * 1e3 + knobs.max_queue_delay_microseconds / 1e3
            return Point(clients=clients, rate=rate, p50_ms=p99 / 2, p99_ms=p99, failed=0, cost_us=10)

        yield ask

    def found(
        self, budget_ms: float, seconds: float = 10_000, start: Knobs = START, fixed: frozenset[str] = frozenset()
    ) -> Outcome:
        return search(self.in_force, start, fixed, budget_ms, seconds, clock=lambda: self.now)


def test_it_finds_the_best() -> None:
    """As many instances as there are cores, and the size that suits, come out of far fewer tries than there are settings."""
    machine = Machine()
    outcome = machine.found(budget_ms=20)
    chosen = outcome.finals[0]
    assert (chosen.knobs.instances, chosen.knobs.preferred_batch_size) == (4, 16)
    best = chosen.best(20)
    assert best
    assert best.p99_ms <= 20
    assert len(outcome.tried) <= 15
    assert not outcome.cut


def test_the_budget_decides_what_is_best() -> None:
    """A point over the budget counts for nothing, however many answers it gives."""
    for budget in (3.0, 5.0, 20.0):
        outcome = Machine(batch=0).found(budget)
        best = outcome.finals[0].best(budget)
        assert best
        assert best.p99_ms <= budget


def test_it_takes_the_same_way_again() -> None:
    """The same answers lead along the same way."""
    first, second = Machine(), Machine()
    assert first.found(20) == second.found(20)
    assert first.asked == second.asked


def test_nothing_is_better_than_what_there_is() -> None:
    """Where nothing gains more than a measurement's own noise, what the project has stays."""
    outcome = Machine(cores=1, batch=0).found(50)
    assert outcome.finals[0].knobs == START
    assert outcome.finals[0] == outcome.before


def test_a_budget_that_nothing_holds() -> None:
    """All that was tried is there, and no best."""
    outcome = Machine().found(0.001)
    assert outcome.finals[0].best(0.001) is None
    assert outcome.tried


def test_it_ends_in_time() -> None:
    """When the time is over nothing new is begun but the last weighing; what is known then is the result."""
    machine = Machine(seconds=3)
    outcome = machine.found(20, seconds=30)
    assert outcome.cut
    assert machine.now <= 30 * 0.7 + 3 * len(CLIENTS) + 3 * 3 * len(CLIENTS)
    assert outcome.finals[0].rate(20) >= outcome.before.rate(20)


def test_what_the_project_sets_itself_is_left_alone() -> None:
    """Fixed settings are never tried otherwise."""
    machine = Machine()
    machine.found(20, start=Knobs(instances=2), fixed=frozenset({"instances"}))
    assert {knobs.instances for knobs, _ in machine.asked} == {2}


def test_settings_that_the_server_does_not_take() -> None:
    """They are remembered as refused, with its words, and the search goes on elsewhere."""
    machine = Machine(most=2)
    outcome = machine.found(20)
    assert outcome.finals[0].knobs.instances == 2
    assert next(one.refused for one in outcome.tried if one.knobs.instances == 4) == "out of memory"


@pytest.mark.parametrize(
    "start", [START, Knobs(instances=16, preferred_batch_size=64, max_queue_delay_microseconds=3200)]
)
def test_it_goes_down_as_well(start: Knobs) -> None:
    """From too much of everything it comes to the same as from nothing."""
    chosen = Machine().found(20, start=start).finals[0]
    assert chosen.rate(20) * BETTER >= Machine().found(20).finals[0].rate(20)


def test_the_last_are_weighed_in_turns() -> None:
    """All that are weighed last are asked by the same number of clients before the next number comes."""
    machine = Machine()
    outcome = machine.found(20)
    last = machine.asked[-len(outcome.finals) * len(CLIENTS) :]
    assert [clients for _, clients in last] == [clients for clients in CLIENTS for _ in outcome.finals]
    assert {knobs for knobs, _ in last} == {one.knobs for one in outcome.finals}
    assert outcome.noise == 0
