"""What does an engine add to a node, beside the raw cost of what it is made of?

The DAG is steps that do nothing, one after the other: `observe` without sources, which runs every time. Raw is a call
of that step through the ledger for `local`, an empty task of Prefect's own flow on the same server for `prefect`, and
an empty container of the same image over the same API for `kubeflow`. Servers and images are there before the clock
starts.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from report import ROOT, Row, Sample, interleave, median, ratio, report

if TYPE_CHECKING:
    from components.workspace import Workspace

PROFILE = "state: .trilha/bench\nstore: {kind: git, path: .trilha/bench/data.git}\nworkers: 1\n"
NODES = {"local": 50, "prefect": 50, "kubeflow": 5}
WHY = {"prefect": "; each a task run of its own name, with its states told to the server, and the flow's own share"}
GOALS = {"local": 0.002, "prefect": 0.02, "kubeflow": 3.0}
"""Seconds a node beyond the raw cost."""


def main() -> None:
    """Measure in a repository of its own."""
    folder = Path(tempfile.mkdtemp(prefix="trilha-bench-"))
    for name in ("config", "notebooks", "requirements.lock"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    image = os.environ.get("TRILHA_IMAGE", "trilha:dev")
    (folder / "config" / "profiles" / "bench.yaml").write_text(PROFILE + f"kubeflow: {{image: '{image}'}}\n")
    os.environ["TRILHA_ROOT"] = str(folder)
    from components.workspace import open_workspace
    from flows.services import down, ensure

    workspace = open_workspace("bench")
    ensure(workspace, ["prefect"])
    try:
        report(_rows(workspace))
    finally:
        if "prefect" in sys.modules:  # else its logs look for the server when this process ends
            from prefect.logging.handlers import APILogWorker

            APILogWorker.drain_all(timeout=10)
        down(workspace)
        shutil.rmtree(folder, ignore_errors=True)


def _rows(workspace: Workspace) -> list[Row]:
    runs = {
        "local": _engine(workspace, "local"),
        "a call through the ledger": _call(workspace),
        "prefect": _engine(workspace, "prefect"),
        "an empty Prefect task": _prefect,
    }
    raws = {"local": "a call through the ledger", "prefect": "an empty Prefect task"}
    samples = interleave(runs)
    container = _container(workspace)
    if container:
        raws["kubeflow"] = "an empty container"
        samples |= interleave({"kubeflow": _engine(workspace, "kubeflow"), "an empty container": container}, rounds=3)
    return [_row(engine, raw, samples[engine], samples[raw]) for engine, raw in raws.items()]


def _row(engine: str, raw: str, ours: list[Sample], theirs: list[Sample]) -> Row:
    beyond = median(ours) - median(theirs)
    return Row(
        question=f"one node that does nothing, engine {engine}",
        ours=_milliseconds(median(ours)),
        limit=f"{raw} {_milliseconds(median(theirs))}",
        ratio=ratio(ours, theirs),
        goal=f"+{_milliseconds(GOALS[engine])}",
        met=beyond <= GOALS[engine],
        note=f"{1000 * beyond:+.3g} ms; {NODES[engine]} nodes, one after the other{WHY.get(engine, '')}",
    )


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _each(call: Callable[[], object], count: int) -> Sample:
    """The share of one of `count` nodes; what Prefect and Kubeflow print is no part of a report."""
    clock, cpu = time.perf_counter(), time.process_time()
    with redirect_stdout(StringIO()):
        call()
    return Sample((time.perf_counter() - clock) / count, (time.process_time() - cpu) / count, 0.0)


def _engine(workspace: Workspace, engine: str) -> Callable[[], Sample]:
    """A run on an engine, without what is done once: tracing, and starting a process."""
    from components.ingest import observe
    from components.project import Policy
    from components.runs import Run, new_header
    from flows.dag import Do, trace
    from flows.execute import engine_named

    def looking(do: Do) -> object:
        for index in range(NODES[engine] - 1):
            do.named(f"observe-{index:02}")(observe, project="flights", profile="bench", sources={})
        return do(observe, project="flights", profile="bench", sources={})

    dag, schedule = trace(looking, policies={"observe": Policy(cache=False)}), engine_named(engine)

    def once() -> object:
        run = Run(workspace, new_header(dag.name, "flights", "bench", engine))
        run.announce(dag.nodes)
        return schedule(dag, run)

    return lambda: _each(once, NODES[engine])


def _call(workspace: Workspace) -> Callable[[], Sample]:
    from components.ingest import observe
    from components.ledger import perform

    nothing = {"project": "flights", "profile": "bench", "sources": {}}

    def once() -> None:
        for _ in range(NODES["local"]):
            perform(observe, nothing, ledger=workspace.ledger, lock=workspace.lock, cached=False)

    return lambda: _each(once, NODES["local"])


def _prefect() -> Sample:
    """Tasks alone: what a flow costs at its beginning and end is left out, while ours has it in.

    The engine ran before and has told Prefect where its server is; that is read when Prefect is imported.
    """
    from prefect import flow, task

    samples = []

    @task
    def empty() -> None:
        pass

    def tasks() -> None:
        for _ in range(NODES["prefect"]):
            empty()

    @flow
    def whole() -> None:
        samples.append(_each(tasks, NODES["prefect"]))

    whole()
    return samples[0]


def _container(workspace: Workspace) -> Callable[[], Sample] | None:
    """None, with a word about it, where no container can run."""
    import docker

    from components.errors import TrilhaError
    from flows.engines.kubeflow_containers import image_here

    try:
        image = image_here("bench", workspace.profile.kubeflow)
    except TrilhaError as error:
        print(f"without kubeflow: {error}", file=sys.stderr)
        return None
    client = docker.from_env()

    def once() -> None:
        for _ in range(NODES["kubeflow"]):
            client.containers.run(image, ["-c", ""], entrypoint="/bin/sh", network_mode="host", remove=True)

    return lambda: _each(once, NODES["kubeflow"])


if __name__ == "__main__":
    main()
