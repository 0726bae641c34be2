"""What does a roll-out cost those who ask meanwhile? Eight clients, one row a request, through the gateway.

Windows with a whole roll-out in them, in turns with windows without: the candidate gets half of the requests, is
compared, and is promoted. In one kind Triton has never seen its bundle, and starts its processes under the same load;
in the other it holds it already. Bundles are one graph each, as those of the projects here. The load comes from `wrk`;
a request that fails ends the benchmark.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
from gateway import PROJECT, Door, door, gateway_on, manifest_in, release_in, repository_in
from report import Row, report
from triton import FEATURES, graphs_in, made_up, triton

from components.gateway import keys
from components.project import Serve
from components.records import Release, digest
from components.releases import write
from components.rollout_settings import RolloutRules
from components.rollouts import change, ended, under_way
from components.workspace import Workspace

SECONDS = 8
ROUNDS = 3
RULES = RolloutRules(shares=(0.5,), errors=0.001, longest=600)


def begin(at: Door) -> subprocess.Popen[str]:
    """Load for so many seconds."""
    command = ["wrk", "-t1", "-c8", f"-d{SECONDS}s", "--timeout", "10s", "-s", str(at.script), at.url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def end(load: subprocess.Popen[str]) -> dict[str, float]:
    """What the clients saw."""
    told: dict[str, float] = json.loads(load.communicate()[0].strip().splitlines()[-1])
    assert not told["bad"], told
    return told


def roll_out(workspace: Workspace, at: Door, candidate: Release) -> dict[str, float]:
    """A window with a whole roll-out in it."""
    headers = dict(line.split(": ", 1) for line in at.headers.read_text().splitlines())
    page = at.url.removesuffix("/predict")
    load = begin(at)
    time.sleep(1)
    key = digest([candidate.digest, time.time()])

    def manifest(number: int) -> Release:
        return candidate.model_copy(update={"number": number, "key": key})

    made = write(workspace.store, PROJECT, key, manifest, RULES, anew=True)
    while not httpx.get(page, headers=headers, trust_env=False).json()["releases"].count(made.number):
        time.sleep(0.05)
    time.sleep(2)
    rollout = under_way(workspace.store, PROJECT)
    assert rollout is not None
    change(workspace.store, rollout, lambda one: ended(one, "promoted", "benchmark", "a benchmark"))
    while httpx.get(page, headers=headers, trust_env=False).json()["release"] != made.number:
        time.sleep(0.05)
    assert load.poll() is None, "the window was over before the roll-out was"
    return end(load)


def rows_of(folder: Path, stack: ExitStack) -> list[Row]:
    """What both kinds cost."""
    server = stack.enter_context(triton(folder))
    http = f"127.0.0.1:{(folder / 'ports').read_text().split()[1]}"
    gateway = {"authentication": True, "limits": {"rate": 1_000_000, "burst": 1_000_000}}
    settings = {"url": server.address, "http": http, "repository": str(folder / "models")}
    registry = {"url": f"sqlite:///{folder}/mlflow.db"}  # else the gateway, which settles what is promoted, starts one
    workspace = repository_in(folder, {"triton": settings, "gateway": gateway, "mlflow": registry})
    several = []
    for number in range(ROUNDS + 1):
        (folder / f"graphs{number}").mkdir()
        several.append(graphs_in(folder / f"graphs{number}", trees=200 - number))
    serve = Serve(golden=16, join="fused")
    before = release_in(workspace, several[0], serve)
    candidates = [manifest_in(workspace, graphs, f"round{number}", serve) for number, graphs in enumerate(several[1:])]
    _, key = keys.add(workspace, "bench", ["predict:*", "read:*"])
    url, pid = gateway_on(folder, stack, "bench")
    rows = made_up(1).astype({name: float for name, kind in FEATURES.items() if kind != "string"})
    body = json.dumps({"rows": rows.to_dict("records")}).encode()
    who = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    at = door(folder, "typed", f"{url}/v1/projects/{PROJECT}/predict", body, who, pid)
    end(begin(at))
    without, new, held = [], [], []
    for candidate in candidates:
        without.append(end(begin(at)))
        new.append(roll_out(workspace, at, candidate))
        held.append(roll_out(workspace, at, before))  # the one before stays loaded
        before = candidate
    return [row("a bundle that is brought up", new, without), row("a bundle that is loaded", held, without)]


def row(what: str, within: list[dict[str, float]], without: list[dict[str, float]]) -> Row:
    """One kind beside no roll-out."""
    ratios = sorted(one["p99"] / other["p99"] for one, other in zip(within, without, strict=True))
    return Row(
        question=f"a roll-out under load, 8 clients, {what}: canary, comparison, promotion in {SECONDS} s",
        ours=told(within),
        limit=f"no roll-out {told(without)}",
        ratio=ratios[len(ratios) // 2],
        goal="0 failed; p99 1.5 times",
        met=ratios[len(ratios) // 2] <= 1.5,
        note=f"{sum(int(one['requests']) for one in within):,} requests in it, none failed; p99 in each of {ROUNDS} "
        f"rounds {', '.join(f'{one:.2f}' for one in ratios)} times",
    )


def told(windows: list[dict[str, float]]) -> str:
    """The window in the middle, in words."""
    p50, p99 = (sorted(one[share] for one in windows)[len(windows) // 2] / 1e3 for share in ("p50", "p99"))
    rate = sorted(one["requests"] / one["us"] * 1e6 for one in windows)[len(windows) // 2]
    return f"{rate:,.0f}/s, p50 {p50:.2f} ms, p99 {p99:.1f} ms"


if __name__ == "__main__":
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name, ExitStack() as held:
        report(rows_of(Path(name), held))
