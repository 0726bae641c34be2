"""How far a long step is: what a log gets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from components import progress
from components.progress import Progress, StageProgress


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`clock.now` is the time; every change is a line."""
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(progress, "ELSEWHERE", 0.0)
    return clock


def test_what_an_earlier_run_did_says_nothing_of_the_rate(clock: SimpleNamespace) -> None:
    """Nor of the time that is left; a slow rate has tenths."""
    done = Progress("score", 1_000)
    done.add(200, found=True)
    done.add(400)
    assert done.line(clock.now + 100) == "  score  600 of 1,000 rows (60%), 4.0 rows/s, 100 s left"
    assert done.line(clock.now + 10) == "  score  600 of 1,000 rows (60%), 40 rows/s, 10 s left"


def test_the_rate_counts_from_the_first_item(clock: SimpleNamespace) -> None:
    """What the first one waited for was other work."""
    done = Progress("score", 100)
    items = done.since_first(range(2))
    clock.now += 60
    assert [*items] == [0, 1]
    done.add(10)
    assert done.line(clock.now + 1) == "  score  10 of 100 rows (10%), 10 rows/s, 9 s left"


def test_stages_of_an_engine(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is told by its own tasks, from when it was first seen on; with the first answer there is no more to tell."""
    stages = StageProgress("score")
    for stage, done, tasks in [(0, 2, 2), (0, 2, 2), (3, 1, 12), (3, 7, 12)]:
        clock.now += 2
        stages(stage, done, tasks)
    assert [*stages.until_first("ab")] == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == [
        "  score, workers at stage 0  2 of 2 tasks (100%)",
        "  score, workers at stage 3  1 of 12 tasks (8%)",
        "  score, workers at stage 3  7 of 12 tasks (58%), 3.0 tasks/s, 2 s left",
    ]
