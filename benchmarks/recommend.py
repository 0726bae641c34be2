"""What does it cost to read what a night recommends for one household, over HTTP?

2,600 households with twenty items each, asked at random, some of whom nobody knows. The limit is a bare ASGI
application on the same server, which answers as many bytes and looks nothing up. Needs wrk (`apt-get install wrk`);
Redis where `redis-server` is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from gateway import PROJECT, free_port, gateway_on, process, rate, release_in, repository_in, told
from report import ROOT, Row, Sample, interleave, report
from triton import graphs_in, triton

from components.gateway import keys
from components.project import Serve
from components.recommend import table_of
from components.sinks import TableSink
from components.workspace import Workspace, open_workspace

HOUSEHOLDS, ITEMS, UNKNOWN = 2_500, 20, 100
CLIENTS, SECONDS, ROUNDS = (1, 8), 3, 3
GOAL = 2.0
"""Milliseconds at p99, of one client."""

SCRIPT = """
wrk.headers["Authorization"] = "{who}"
local path = "/v1/projects/{project}/recommendations/"
request = function() return wrk.format("GET", path .. math.random(1, {keys}) .. "?count=10") end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{{"requests": %d, "us": %d, "p50": %f, "p99": %f, "bad": %d}}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""

BARE = """
import sys, uvicorn
body = b"x" * int(sys.argv[2])
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", lifespan="off")
"""


def main() -> None:
    """Measure in a repository of its own."""
    folder = Path(tempfile.mkdtemp(prefix="trilha-bench-"))
    try:
        with ExitStack() as stack:
            report(list(_rows(_doors(folder, stack))))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _doors(folder: Path, stack: ExitStack) -> dict[str, Callable[[int, list[dict[str, float]]], Callable[[], Sample]]]:
    """The gateways, one on each store of features, and the bare application."""
    graphs = graphs_in(folder)
    server = stack.enter_context(triton(folder))
    http = f"127.0.0.1:{(folder / 'ports').read_text().split()[1]}"
    settings = {
        "triton": {"url": server.address, "http": http, "repository": str(folder / "models")},
        "gateway": {"authentication": True, "limits": {"rate": 1_000_000, "burst": 1_000_000}},
    }
    workspace = repository_in(folder, settings)
    project = folder / "config" / "projects" / PROJECT / "project.yaml"
    scoring = {"rank": {"by": "household", "item": "product"}, "sinks": {"readers": {"kind": "online"}}}
    project.write_text(yaml.safe_dump(yaml.safe_load(project.read_text()) | {"scoring": scoring}))
    profiles = {"sqlite": "bench"}
    if shutil.which("redis-server"):
        port = free_port()
        command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", str(folder)]
        redis = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        stack.callback(redis.terminate)
        os.environ["BENCH_FEATURES"] = f"redis://127.0.0.1:{port}/0"
        bench = folder / "config" / "profiles" / "bench.yaml"
        there = yaml.safe_load(bench.read_text()) | {"features": {"redis_env": "BENCH_FEATURES"}}
        (bench.parent / "redis.yaml").write_text(yaml.safe_dump(there))
        profiles["redis"] = "redis"
    release_in(workspace, graphs, Serve(golden=16))
    _, key = keys.add(workspace, "bench", ["predict:*", "read:*"])
    script = folder / "ask.lua"
    script.write_text(SCRIPT.format(who=f"Bearer {key}", project=PROJECT, keys=HOUSEHOLDS + UNKNOWN))
    found = {}
    for name, profile in profiles.items():
        _fill(open_workspace(profile))
        url, _ = gateway_on(folder, stack, profile)
        found[name] = _asked(url, script)
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", BARE, url.rpartition(":")[2], str(_length())]
    stack.enter_context(process(command, url, folder / "bare.log", env=os.environ | {"PYTHONPATH": str(ROOT)}))
    return found | {"bare": _asked(url, script)}


def _night() -> Iterator[pa.RecordBatch]:
    people = [str(number) for number in range(1, HOUSEHOLDS + 1)]
    receipt = f"{PROJECT}-1-0123456789ab-0123456789ab8123812345678901234567.1234567"
    yield pa.record_batch(
        {
            "household": ["", *people],
            "items": [list(range(ITEMS))] * (HOUSEHOLDS + 1),
            "scores": [[1 / (place + 2) for place in range(ITEMS)]] * (HOUSEHOLDS + 1),
            "receipts": [[receipt] * ITEMS] * (HOUSEHOLDS + 1),
        }
    )


def _fill(workspace: Workspace) -> None:
    """Deliver the night to the store of a profile."""
    (batch,) = _night()
    table = table_of(PROJECT).removeprefix("nights.")
    TableSink(workspace.features, "").write(table, "a" * 64, batch.schema, [batch])


def _length() -> int:
    """Bytes of an answer, about."""
    (batch,) = _night()
    row = batch.slice(1, 1).to_pylist()[0]
    return len(json.dumps([list(one) for one in zip(row["items"], row["scores"], row["receipts"], strict=True)][:10]))


def _asked(url: str, script: Path) -> Callable[[int, list[dict[str, float]]], Callable[[], Sample]]:
    def of(clients: int, kept: list[dict[str, float]]) -> Callable[[], Sample]:
        def run() -> Sample:
            command = ["wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "--timeout", "10s", "-s", str(script), url]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
            assert not said["bad"], f"{url}: {done.stdout}"
            kept.append(said)
            return Sample(said["p99"] / 1e6, 0.0, 0.0)

        return run

    return of


def _rows(
    doors: dict[str, Callable[[int, list[dict[str, float]]], Callable[[], Sample]]],
) -> Iterator[Row]:
    for clients in CLIENTS:
        kept: dict[str, list[dict[str, float]]] = {name: [] for name in doors}
        interleave({name: ask(clients, kept[name]) for name, ask in doors.items()}, ROUNDS)
        for name in doors.keys() - {"bare"}:
            p99 = sorted(one["p99"] / 1e3 for one in kept[name][1:])[ROUNDS // 2]
            yield Row(
                f"what a night recommends for a household, {clients} client{'s' if clients > 1 else ''}, {name}",
                told(kept[name]),
                f"an ASGI application that looks nothing up {told(kept['bare'])}",
                rate(kept["bare"]) / rate(kept[name]),
                f"p99 {GOAL:g} ms" if clients == 1 else "",
                p99 <= GOAL or clients > 1,
            )


if __name__ == "__main__":
    main()
