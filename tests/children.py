"""Commands of processes that need something of the kernel before they begin.

A little program asks for it and becomes the command. `preexec_fn` would fork the test process itself, whose gRPC then
runs handlers in the child and, now and then, never comes back from them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

DIE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execvp(sys.argv[1], sys.argv[1:])"
HEAR = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"


def dying_with_us(command: Sequence[str | Path]) -> list[str]:
    """The command of a process that Linux ends when the test process is gone, even by `kill -9`."""
    return (
        [sys.executable, "-S", "-E", "-c", DIE, *map(str, command)] if sys.platform == "linux" else [*map(str, command)]
    )


def hearing_interrupts(command: Sequence[str | Path]) -> list[str]:
    """The command of a process that SIGINT ends; one that a shell's background job starts ignores it."""
    return [sys.executable, "-S", "-E", "-c", HEAR, *map(str, command)]
