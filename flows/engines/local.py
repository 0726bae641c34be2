"""The engine of a laptop: threads of this process, and no orchestrator."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from components.attempts import attempt
from components.errors import DagError
from components.records import Record
from components.runs import Call, Run
from flows.dag import Dag, Node, fold, replaced


def run(dag: Dag, run: Run) -> dict[str, Record]:
    """Run `dag` on as many threads as the profile has workers; a node starts when what it needs is done."""
    check_resources(dag)
    pool = ThreadPoolExecutor(run.workspace.profile.workers, thread_name_prefix="node")
    try:
        # Nodes are submitted in an order in which each comes after what it needs and the pool takes them first in,
        # first out, so a node that waits for another always waits for one that has a thread already.
        futures = fold(dag, lambda node, arguments, guards: pool.submit(_do, run, node, arguments, guards))
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


def _do(run: Run, node: Node, arguments: Mapping[str, Any], guards: Sequence[Any]) -> Record:
    """Wait for what the node needs, then do it."""
    ready = replaced(dict(arguments), Future, lambda future: future.result())
    gates = [guard.result() for guard in guards]
    return attempt(node, lambda: run.apply(node, ready, gates))


def check_resources(dag: Dag, pools: Collection[str] = ()) -> None:
    """Refuse what this machine does not have, but for nodes that run on one of `pools`.

    Raises:
        DagError: a policy asks for more CPUs, memory or GPUs than there are, or for a Kubernetes node; names the node's
            file and line.
    """
    for node in dag.nodes:
        if node.pool not in pools:
            check_node(node, node.line)


def check_node(node: Call, where: str) -> None:
    """Refuse a node whose policy asks for what this machine does not have; the `DagError` begins with `where`."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    gpus = sum(1 for path in Path("/dev").glob("nvidia[0-9]*"))
    policy = node.policy
    if policy.node_selector or policy.tolerations:
        raise DagError(
            f"{where}: step {node.name!r} asks for a Kubernetes node (node_selector, tolerations)",
            accepted="the engine kubeflow, or no such policy",
            next_step=f"remove them from policy.{node.step.__name__} in project.yaml, or use --engine kubeflow",
        )
    for what, wanted, there in (
        ("CPUs", policy.cpu, cpus),
        ("MiB of memory", policy.memory_mb, memory),
        ("GPUs", policy.gpu, gpus),
    ):
        if wanted is not None and wanted > there:
            raise DagError(
                f"{where}: step {node.name!r} asks for {wanted:g} {what}",
                accepted=f"at most {there} on this machine",
                next_step=f"lower policy.{node.step.__name__} in project.yaml, or take larger workers",
            )
