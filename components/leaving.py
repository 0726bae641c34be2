"""The end of a process: quick, since what it holds is the operating system's to take back."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def run_and_leave(main: Callable[[], int | None]) -> NoReturn:
    """Call `main` and exit with its code, as `sys.exit(main())` does, but free nothing at the end.

    With the packages of a lifecycle loaded, Python takes two seconds to free them one by one. All else is done as ever:
    threads are waited for, what was registered with `atexit` is called, and what was written is flushed.
    """
    code = 1  # of an exception that nobody catches
    atexit.register(lambda: _leave(code))  # first, and so the last to be called
    try:
        code = main() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
