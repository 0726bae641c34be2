"""How far a long step is: a line on standard error now and then, for a terminal, a worker's log and a container's."""

from __future__ import annotations

import sys
import threading
import time
from typing import Final

TERMINAL, ELSEWHERE = 0.5, 15.0
"""Seconds between two lines: where each takes the place of the one before, and where a log grows by it."""
_DONE: Final = 1.0


class Progress:
    """Counts what is done of a step; may be shared by threads.

    Args:
        what: is counted: "score".
        total: how much there is.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._done = self._begun_with = 0
        self._start = self._told = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()

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
        left = f", {(self._total - self._done) / rate:,.0f} s left" if rate else ""
        return f"  {self._what}  {self._done:,} of {self._total:,} rows ({share:.0%}), {rate:,.0f} rows/s{left}"

    def _say(self, now: float) -> None:
        line = self.line(now)
        sys.stderr.write(f"\r\033[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()
