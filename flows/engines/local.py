"""The engine of a laptop: threads of this process, and no orchestrator."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.errors import DagError, TimeLimitError, TrilhaError
from components.records import Record
from flows.dag import Dag, Node, fold, replaced
from flows.run import Apply, Header


def run(dag: Dag, apply: Apply, *, header: Header, workers: int) -> dict[str, Record]:  # noqa: ARG001  # `Engine`
    """Run `dag` on `workers` threads; a node starts when what it needs is done."""
    check_resources(dag)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="node")
    try:
        # Nodes are submitted in an order in which each comes after what it needs and the pool takes them first in,
        # first out, so a node that waits for another always waits for one that has a thread already.
        futures = fold(dag, lambda node, arguments, guards: pool.submit(_attempt, apply, node, arguments, guards))
        records: dict[str, Record] = {}
        failures: list[BaseException] = []
        for name, future in futures.items():
            error = future.exception()
            if error is None:
                records[name] = future.result()
            elif not any(error is known for known in failures):
                failures.append(error)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if failures:
        raise failures[0]
    return records


def _attempt(apply: Apply, node: Node, arguments: Mapping[str, Any], guards: Sequence[Any]) -> Record:
    """Wait for what the node needs, then try it as often as its policy says."""
    ready = replaced(dict(arguments), Future, lambda future: future.result())
    gates = [guard.result() for guard in guards]
    for left in range(node.policy.retries, -1, -1):
        try:
            with _deadline(node):
                return apply(node, ready, gates)
        except Exception as error:
            if not left or not worth_retrying(error):
                raise
            time.sleep(node.policy.retry_delay)
    raise AssertionError  # the last round returns or raises


def worth_retrying(error: BaseException) -> bool:
    """Whether a second attempt can end otherwise: not after a gate's or a person's mistake."""
    return error.retryable if isinstance(error, TrilhaError) else isinstance(error, Exception)


@contextmanager
def _deadline(node: Node) -> Iterator[None]:
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
        raise TimeLimitError(
            f"step {node.name!r} ran past its {seconds:g} s",
            next_step=f"raise policy.{node.step.__name__}.timeout in project.yaml",
        ) from None
    finally:
        timer.cancel()


class _OverTime(BaseException):
    """Raised into a thread whose time is over; no `except Exception` on the way can swallow it."""


def check_resources(dag: Dag) -> None:
    """Refuse what this machine does not have.

    Raises:
        DagError: a policy asks for more CPUs, memory or GPUs than there are; names the node's file and line.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    gpus = sum(1 for path in Path("/dev").glob("nvidia[0-9]*"))
    for node in dag.nodes:
        policy = node.policy
        for what, wanted, there in (
            ("CPUs", policy.cpu, cpus),
            ("MiB of memory", policy.memory_mb, memory),
            ("GPUs", policy.gpu, gpus),
        ):
            if wanted is not None and wanted > there:
                raise DagError(
                    f"{node.line}: step {node.name!r} asks for {wanted:g} {what}",
                    accepted=f"at most {there} on this machine",
                    next_step=f"lower policy.{node.step.__name__} in project.yaml, or take larger workers",
                )
