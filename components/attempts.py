"""How often and how long a node is tried, as its policy says: the same rules wherever it runs."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from components.errors import TimeLimitError, TrilhaError
from components.runs import Call

T = TypeVar("T")


def attempt(node: Call, do: Callable[[], T]) -> T:
    """Call `do` under the node's deadline, and again after a failure that can end otherwise, up to its retries."""
    for left in range(node.policy.retries, -1, -1):
        try:
            with deadline(node):
                return do()
        except Exception as error:
            if not left or not worth_retrying(error):
                raise
            time.sleep(node.policy.retry_delay)
    raise AssertionError  # the last round returns or raises


def worth_retrying(error: BaseException) -> bool:
    """Whether a second attempt can end otherwise: not after a gate's or a person's mistake."""
    return error.retryable if isinstance(error, TrilhaError) else isinstance(error, Exception)


@contextmanager
def deadline(node: Call) -> Iterator[None]:
    """Raise `TimeLimitError` inside this thread once the node's time is over.

    A thread that sits in one long call of a C library sees it when that call returns; what runs users' code (the
    notebooks) has a process and a deadline of its own.
    """
    seconds = node.policy.timeout
    if seconds is None:
        yield
        return
    thread = ctypes.c_ulong(threading.get_ident())
    raised = ctypes.py_object(_OverTime)
    timer = threading.Timer(seconds, ctypes.pythonapi.PyThreadState_SetAsyncExc, (thread, raised))
    timer.daemon = True
    timer.start()
    try:
        yield
    except _OverTime:
        raise over_time(node) from None
    finally:
        timer.cancel()


def over_time(node: Call) -> TimeLimitError:
    """What a node that ran past its deadline fails with."""
    return TimeLimitError(
        f"step {node.name!r} ran past its {node.policy.timeout:g} s",
        next_step=f"raise policy.{node.step.__name__}.timeout in project.yaml",
    )


class _OverTime(BaseException):
    """Raised into a thread whose time is over; no `except Exception` on the way can swallow it."""
