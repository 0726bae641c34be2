"""How far a long step is: a line on standard error now and then, for a terminal, a worker's log and a container's."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

TERMINAL, ELSEWHERE = 0.5, 15.0
"""Seconds between two lines: where each takes the place of the one before, and where a log grows by it."""
_DONE: Final = 1.0
_WHOLE: Final = 10
"""A rate from which on tenths say nothing."""


class Progress:
    """Counts what is done of a step; may be shared by threads.

    Args:
        what: is counted: "score".
        total: how much there is.
        unit: of what.
    """

    def __init__(self, what: str, total: int, unit: str = "rows") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = self._begun_with = 0
        self._start = self._told = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()

    def since_first(self, items: Iterable[T]) -> Iterator[T]:
        """`items`; the rate is counted from the first of them on, however long that one took to come."""
        for number, item in enumerate(items):
            if number == 0:
                self._start = time.monotonic()
            yield item

    def add(self, count: int, *, found: bool = False) -> None:
        """So many more are done; `found`: by an earlier run, which says nothing of the rate."""
        with self._lock:
            self._done += count
            self._begun_with += count if found else 0
            now = time.monotonic()
            if now - self._told >= (TERMINAL if self._terminal else ELSEWHERE):
                self._told = now
                self._say(now)

    def end(self) -> None:
        """Leave the terminal's line clean."""
        if self._terminal and self._told > self._start:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def line(self, now: float) -> str:
        """What is said at the moment `now`."""
        rate = (self._done - self._begun_with) / max(now - self._start, 1e-9)
        share = self._done / self._total if self._total else _DONE
        said = f"  {self._what}  {self._done:,} of {self._total:,} {self._unit} ({share:.0%})"
        if not rate:
            return said
        speed = f"{rate:,.{0 if rate >= _WHOLE else 1}f} {self._unit}/s"
        return f"{said}, {speed}, {(self._total - self._done) / rate:,.0f} s left"

    def _say(self, now: float) -> None:
        line = self.line(now)
        sys.stderr.write(f"\r\033[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()


class StageProgress:
    """How far workers of an engine are, which does its work in stages of tasks: told of the stage that they are at.

    Args:
        what: they do: "score".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._stage, self._done = -1, 0
        self._progress = Progress(what, 0)

    def __call__(self, stage: int, done: int, tasks: int) -> None:
        """So many tasks of a stage are done, of how many."""
        new = stage != self._stage
        if not new and done == self._done == tasks:  # what comes next has nothing to tell yet
            return
        if new:
            self.end()
            self._progress = Progress(f"{self._what}, workers at stage {stage}", tasks, "tasks")
            self._stage, self._done = stage, 0
        self._progress.add(done - self._done, found=new)  # how long the first ones took is not known
        self._done = done

    def until_first(self, items: Iterable[T]) -> Iterator[T]:
        """`items`; with the first of them workers are through."""
        try:
            for item in items:
                self.end()
                yield item
        finally:
            self.end()

    def end(self) -> None:
        """Leave the terminal's line clean, once."""
        self._progress.end()
        self._progress = Progress(self._what, 0)
