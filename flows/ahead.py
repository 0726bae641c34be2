"""Get ready for later steps: imports that take seconds are done while an earlier step keeps the disk or others busy."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable

from components.runs import NodeState, Watcher
from flows.dag import Dag


def _import(*names: str) -> Callable[[], None]:
    def load() -> None:
        for name in names:
            importlib.import_module(name)

    return lambda: threading.Thread(target=load, name="ahead", daemon=True).start()


def _warm_kernels() -> None:
    from components.adapters import papermill_kernel

    papermill_kernel.warm_up()


AHEAD: dict[str, tuple[str, Callable[[], None]]] = {
    "adopt": ("validate", _import("great_expectations")),
    "ingest": ("validate", _import("great_expectations")),
    "validate": ("train", _warm_kernels),
    "prepare": ("train", _warm_kernels),
    "train": ("evaluate", _import("sklearn.linear_model", "matplotlib.figure", "tritonclient.grpc")),
}
"""Step that has begun to run -> a later step, and what that one needs."""


def getting_ready(dag: Dag, watch: Watcher) -> Watcher:
    """`watch`, and what the steps of `dag` need is got ready once it is clear that they will run."""
    steps = {node.step.__name__ for node in dag.nodes}
    begun: set[str] = set()

    def seen(state: NodeState) -> None:
        watch(state)
        step = state.step.rpartition(":")[2]
        if state.status != "running" or step in begun or step not in AHEAD:
            return
        begun.add(step)
        later, get_ready = AHEAD[step]
        if later in steps:
            get_ready()

    return seen
