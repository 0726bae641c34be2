"""What does the gateway cost? One row a request at 1, 8 and 64 clients.

Side by side: Triton's own HTTP door, and the gateway before it with authentication, receipts and metrics on. The load
comes from `wrk` (Debian has it), which is not Python and keeps connections open. CPU is that of the door's own
processes, not of Triton's. `serving.py` compares with others.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from report import Row, Sample, interleave, median, ratio, report
from triton import FEATURES, graphs_in, in_process, made_up, triton
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from components import config
from components.export import export
from components.gateway import keys
from components.ledger import running_as
from components.model_inputs import frame_to_tensors
from components.project import Serve
from components.records import (
    Artifact,
    Candidate,
    Commit,
    Decision,
    Graphs,
    ModelVersion,
    Parameters,
    Prepared,
    Qualification,
    Release,
    Split,
    Trial,
    Validation,
    digest,
)
from components.releases import write
from components.workspace import Workspace, open_workspace

CLIENTS = (1, 8, 64)
SECONDS = 2
ROUNDS = 3
PROJECT = "bench"

SCRIPT = """
wrk.method, wrk.body = "POST", io.open("{body}", "rb"):read("*a")
for line in io.lines("{headers}") do local name, value = line:match("([^:]+): (.*)"); wrk.headers[name] = value end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{{"requests": %d, "us": %d, "p50": %f, "p99": %f, "bad": %d}}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""
"""How wrk asks, and what it prints last."""


@dataclass(frozen=True)
class Door:
    """Where to ask, what, and whose CPU counts."""

    url: str
    body: Path
    headers: Path
    script: Path
    process: psutil.Process | None

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        if self.process is None:
            return 0.0
        family = [self.process, *self.process.children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in family)


def door(folder: Path, name: str, url: str, body: bytes, headers: dict[str, str], pid: int | None) -> Door:
    """Write down for wrk what to ask."""
    paths = {kind: folder / f"{name}.{kind}" for kind in ("body", "headers", "lua")}
    paths["body"].write_bytes(body)
    paths["headers"].write_text("".join(f"{key}: {value}\n" for key, value in headers.items()))
    paths["lua"].write_text(SCRIPT.format(body=paths["body"], headers=paths["headers"]))
    return Door(url, paths["body"], paths["headers"], paths["lua"], psutil.Process(pid) if pid else None)


def loaded(at: Door, clients: int, kept: list[dict[str, float]]) -> Callable[[], Sample]:
    """One round; the sample's wall is the median latency of a request, its CPU the door's own a request, in seconds."""

    def run() -> Sample:
        before = at.cpu()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "--timeout", "10s", "-s", str(at.script), at.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout.strip().splitlines()[-1])
        assert not told["bad"], f"{at.url}: {done.stdout}"
        kept.append(told)
        return Sample(told["p50"] / 1e6, (at.cpu() - before) / told["requests"], 0.0)

    return run


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def release_in(workspace: Workspace, graphs: dict[str, Path], serve: Serve) -> Release:
    """A release of the three graphs, in an empty data store."""
    made = manifest_in(workspace, graphs, "made", serve)
    return write(workspace.store, PROJECT, made.key, lambda _: made)


def manifest_in(workspace: Workspace, graphs: dict[str, Path], name: str, serve: Serve) -> Release:
    """What is written of a release of the three graphs; its bundle is there."""
    folder = workspace.home / name
    folder.mkdir()
    frame = made_up(64)
    answers = in_process(graphs)(frame_to_tensors(frame, list(FEATURES)))
    doubles = frame.astype({name: float for name, kind in FEATURES.items() if kind != "string"})
    table = pa.Table.from_pandas(doubles).append_column("id", pa.array(range(64)))
    pq.write_table(table, folder / "test.parquet")
    said = {name: answers[name].ravel() for name in ("probability", "label")}  # type: ignore[index]  # a dict of arrays
    pq.write_table(pa.table({"row": range(64), "target": [0] * 64, **said}), folder / "predictions.parquet")
    for part, path in graphs.items():
        shutil.copy(path, folder / f"{part}.onnx")
    files = workspace.artifacts.publish(name, folder)
    page = Artifact(path="page.html", sha256="", size=0)
    trial = Trial(
        parameters=Parameters(values={}), metrics={}, predictions=files["predictions.parquet"], run_id="1",
        graphs=Graphs(pre=files["pre.onnx"], model=files["model.onnx"], post=files["post.onnx"]),
        notebook=page, page=page, plots=(), seconds=1.0,
    )  # fmt: skip
    split = Split(file=files["test.parquet"], rows=64, positives=0.5)
    prepared = Prepared(
        tree="0" * 64, commit="c", row="id", target="late", features=FEATURES, train=split, valid=split, test=split,
        reference=page,
    )  # fmt: skip
    candidate = Candidate(trial=trial, metric="auc", value=0.9, trials=(), run_id="1")
    key = digest(name)
    with running_as(key):
        bundle = export(PROJECT, workspace.name, candidate, prepared, serve)
    first = next(workspace.store.log("main"))
    return Release(
        project=PROJECT, number=1, digest=bundle.digest, prepared=prepared, candidate=candidate, bundle=bundle,
        commit=Commit(id=first.id, branch="main", tree="0" * 64, tables={}),
        validation=Validation(tree="0" * 64, results=(), report=page, docs=page, offending=None),
        decision=Decision(passed=True, reasons=(), metrics={}, baselines={}, difference=None, slices=(), plots=()),
        version=ModelVersion(name=PROJECT, version="1", digest=bundle.digest, run_id="1"),
        qualification=Qualification(
            digest=bundle.digest, rows=16, tolerance=1e-5, difference=0.0, budget_ms=50, p50_ms=1, p99_ms=1, server=""
        ),
        key=key, revision="", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def repository_in(folder: Path, settings: dict[str, Any]) -> Workspace:
    """A repository with one project and one profile, opened."""
    project = folder / "config" / "projects" / PROJECT
    project.mkdir(parents=True)
    (folder / "config" / "profiles").mkdir()
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "notebook.ipynb").write_text(json.dumps(notebook))
    (project / "features.sql").write_text("select 1")
    (project / "expectations.yaml").write_text("tables: {}\n")
    (project / "project.yaml").write_text(yaml.safe_dump({
        "title": "Bench", "sources": {"t": {"path": "t.csv"}}, "row": "id", "target": "late",
        "split": {"by": "random", "key": "id", "valid": 0.2, "test": 0.2}, "notebook": "notebook.ipynb",
        "search": {"spaces": [{"x": {"values": [1]}}]},
    }))  # fmt: skip
    profile = {"state": "state", "store": {"kind": "git", "path": "state/data.git"}, "services": settings}
    (folder / "config" / "profiles" / "bench.yaml").write_text(yaml.safe_dump(profile))
    for name, setting in (("cached", {"cache": {}}), ("gathered", {"gather": {}})):
        others = settings | {"gateway": settings["gateway"] | setting}
        (folder / "config" / "profiles" / f"{name}.yaml").write_text(yaml.safe_dump(profile | {"services": others}))
    os.environ["TRILHA_ROOT"] = str(folder)
    config.root.cache_clear()
    open_workspace.cache_clear()
    return open_workspace("bench")


@contextmanager
def process(command: list[str], url: str, log: Path, **options: Any) -> Iterator[int]:
    """A server while inside; its PID once `url` answers 200."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, **options) as running:
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    if httpx.get(url, trust_env=False).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                if running.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{command} did not start:\n{log.read_text()}")
                time.sleep(0.1)
            yield running.pid
        finally:
            running.terminate()


def binary(rows: int) -> tuple[bytes, dict[str, str]]:
    """Rows as binary tensors of the V2 protocol."""
    tensors = []
    for name, array in frame_to_tensors(made_up(rows), list(FEATURES)).items():
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    body, length = InferenceServerClient.generate_request_body(tensors)
    return body, {"Inference-Header-Content-Length": str(length)}


def plain(rows: int) -> tuple[bytes, dict[str, str]]:
    """Rows as objects."""
    frame = made_up(rows).astype({name: float for name, kind in FEATURES.items() if kind != "string"})
    return json.dumps({"rows": frame.to_dict("records")}).encode(), {"Content-Type": "application/json"}


def gateway_on(folder: Path, stack: ExitStack, profile: str) -> tuple[str, int]:
    """A gateway's URL and PID."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "flows.gateway", "--profile", profile, "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    log = folder / f"{profile}.log"
    return url, stack.enter_context(process(command, f"{url}/health/ready", log, env=environment))


def doors(folder: Path, stack: ExitStack) -> dict[str, Door]:
    """All of them, up."""
    graphs = graphs_in(folder)
    server = stack.enter_context(triton(folder))
    http = f"127.0.0.1:{(folder / 'ports').read_text().split()[1]}"
    limits = {"rate": 1_000_000, "burst": 1_000_000}
    gateway = {"authentication": True, "limits": limits, "gather": None}
    workspace = repository_in(
        folder,
        {"triton": {"url": server.address, "http": http, "repository": str(folder / "models")}, "gateway": gateway},
    )
    release = release_in(workspace, graphs, Serve(golden=16))
    _, key = keys.add(workspace, "bench", ["predict:*", "read:*"])
    who = {"Authorization": f"Bearer {key}"}
    ours, gateway_pid = gateway_on(folder, stack, "bench")
    remembering, remembering_pid = gateway_on(folder, stack, "cached")
    gathering, gathering_pid = gateway_on(folder, stack, "gathered")
    body, typed = plain(1)
    tensors, header = binary(1)
    v2 = f"/v2/models/{release.bundle.model}/infer"
    found = {
        "triton": door(folder, "triton", f"http://{http}{v2}", tensors, header, None),
        "v2": door(folder, "v2", f"{ours}/v2/models/{PROJECT}/infer", tensors, header | who, gateway_pid),
        "typed": door(folder, "typed", f"{ours}/v1/projects/{PROJECT}/predict", body, typed | who, gateway_pid),
        "cached": door(
            folder, "cached", f"{remembering}/v1/projects/{PROJECT}/predict", body, typed | who, remembering_pid
        ),
        "gathered": door(
            folder, "gathered", f"{gathering}/v1/projects/{PROJECT}/predict", body, typed | who, gathering_pid
        ),
    }
    check(found)
    return found


def check(found: dict[str, Door]) -> None:
    """The doors give the same answer."""
    said = []
    for at in (at for name, at in found.items() if not name.startswith(("triton", "v2"))):
        headers = dict(line.split(": ", 1) for line in at.headers.read_text().splitlines())
        answer = httpx.post(at.url, content=at.body.read_bytes(), headers=headers, trust_env=False).json()
        answers = answer.get("answers") or answer.get("predictions")
        said.append(answers[0]["probability"] if answers else answer["outputs"][0]["data"][0])
    assert np.allclose(said, said[0], atol=1e-6), said


def rows_of(found: dict[str, Door]) -> Iterator[Row]:
    """The rows of the table for each number of clients."""
    for clients in CLIENTS:
        kept: dict[str, list[dict[str, float]]] = {name: [] for name in found}
        samples = interleave({name: loaded(at, clients, kept[name]) for name, at in found.items()}, ROUNDS)
        who = f"one row, {clients} client{'s' if clients > 1 else ''}"
        for name in ("v2", "typed"):
            added = median(samples[name]) - median(samples["triton"])
            cpu = median(samples[name], "cpu")
            yield Row(
                question=f"{who}, {name} through the gateway",
                ours=told(kept[name]),
                limit=f"Triton's own door {told(kept['triton'])}",
                ratio=ratio(samples[name], samples["triton"]),
                goal="0.5 ms more at p50; 430 us of CPU" if clients == 1 else "430 us of CPU",
                met=cpu <= 430e-6 and (clients > 1 or added <= 0.5e-3),
                note=f"{added * 1e3:+.2f} ms at p50; {cpu * 1e6:.0f} us of the gateway's CPU a request",
            )
        yield Row(
            question=f"{who}, typed, remembered by the gateway",
            ours=told(kept["cached"]),
            limit=f"not remembered {told(kept['typed'])}",
            ratio=ratio(samples["cached"], samples["typed"]),
            goal="p50 0.5 ms" if clients == 1 else "never slower",
            met=median(samples["cached"]) <= (0.5e-3 if clients == 1 else median(samples["typed"])),
            note=f"{median(samples['cached'], 'cpu') * 1e6:.0f} us of the gateway's CPU a request",
        )
        yield Row(
            question=f"{who}, typed, gathered by the gateway",
            ours=told(kept["gathered"]),
            limit=f"each by itself {told(kept['typed'])}",
            ratio=rate(kept["gathered"]) / rate(kept["typed"]),
            goal="never slower",
            met=rate(kept["gathered"]) >= 0.95 * rate(kept["typed"]),
            note=f"{median(samples['gathered'], 'cpu') * 1e6:.0f} us of the gateway's CPU a request",
        )


def rate(kept: list[dict[str, float]]) -> float:
    """Requests a second, the median of the rounds that count."""
    return float(np.median([one["requests"] / one["us"] * 1e6 for one in kept[1:]]))


def told(kept: list[dict[str, float]]) -> str:
    """The same in words, with latencies."""
    p50, p99 = (np.median([one[share] for one in kept[1:]]) / 1e3 for share in ("p50", "p99"))
    return f"{rate(kept):,.0f}/s, p50 {p50:.2f} ms, p99 {p99:.1f} ms"


if __name__ == "__main__":
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name, ExitStack() as held:
        report(list(rows_of(doors(Path(name), held))))
