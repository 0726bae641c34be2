"""How does serving compare with what people use otherwise? One row at 1, 8, 64 clients, 256 rows at 8, a large tensor.

The same three graphs everywhere, one thread each. Ours: Triton's own door, and the gateway before it with
authentication, receipts and metrics on; one release, its parts fused, an instance a core; and once more with
`target: full`, on a Triton of its own, where `TRILHA_BACKENDS` names a folder with the ONNX Runtime backend. Peers:
`mlflow models serve`, and FastAPI with ONNX Runtime, which has neither keys nor receipts; MLServer and BentoML where
`TRILHA_PEERS` names a Python that has them (MLServer 1.7 wants `uvloop<0.22`). Each peer has as many workers as there
are cores, MLServer none beside itself, which is its fastest for a model this small. The load is `wrk`'s.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from gateway import (
    PROJECT,
    ROUNDS,
    Door,
    binary,
    check,
    door,
    free_port,
    gateway_on,
    loaded,
    plain,
    process,
    rate,
    release_in,
    repository_in,
    told,
)  # fmt: skip
from onnx import TensorProto, helper
from report import Row, Sample, interleave, median, ratio, report
from triton import FEATURES, by_model, graphs_in, made_up, triton
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from components.bundle import FUSED
from components.gateway import keys
from components.project import Serve
from components.serve_settings import InstanceGroup, Triton

LOADS = ((1, 1), (1, 8), (1, 64), (256, 8))
"""Rows a request, and clients."""
PEERS = {"mlflow": "MLflow", "mlserver": "MLServer", "bentoml": "BentoML"}
WHY = {
    (1, "auto"): "Ours is a socket and two processes away, a peer answers in the one that is asked",
    (1, "full"): "Ours is a socket and a process away, a peer answers in the one that is asked",
    (256, "auto"): "The model's own time is most of it, on the same cores",
    (256, "full"): "The model's own time is most of it, on the same cores; JSON of 256 rows is read by one core",
}
"""What keeps the ratio down, by rows and target."""
THROUGH = {"auto": "bytes pass through the Python backend twice", "full": "no process stands between"}
"""What a large tensor has to go through, by target."""
WIDTH = 150_000
"""Numbers of the large tensor: 600 KB."""


def v2_rows(rows: int) -> bytes:
    """Rows as V2's JSON."""
    frame = made_up(rows)
    inputs = [
        {
            "name": name,
            "shape": [rows, 1],
            "datatype": "BYTES" if kind == "string" else "FP32",
            "data": frame[name].tolist(),
        }
        for name, kind in FEATURES.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


def peers_on(folder: Path, stack: ExitStack, graphs: dict[str, Path]) -> dict[str, tuple[str, int]]:
    """The peers that can be had, up: URL and PID."""
    home = folder / "peers"
    shutil.copytree(Path(__file__).parent / "peers", home)
    (home / "inputs.json").write_text(json.dumps({
        "texts": [name for name, kind in FEATURES.items() if kind == "string"],
        "numbers": [name for name, kind in FEATURES.items() if kind != "string"],
        "graphs": [str(path) for path in graphs.values()],
    }))  # fmt: skip
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # MLflow looks for uvicorn there
        "PYTHONPATH": str(home),
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(home),
    }
    workers, found = str(os.cpu_count()), {}

    def start(name: str, command: list[str], path: str, well: str) -> None:
        port = free_port()
        given = [one.replace("{port}", str(port)) for one in command]
        url = f"http://127.0.0.1:{port}"
        pid = stack.enter_context(process(given, f"{url}{well}", home / f"{name}.log", cwd=home, env=environment))
        found[name] = (f"{url}{path}", pid)

    uvicorn = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", "{port}", "--workers", workers]
    start("fastapi", [*uvicorn, "--log-level", "warning"], "/predict", "/docs")
    save = "mlflow.pyfunc.save_model('model', python_model='mlflow_app.py', code_paths=['graphs.py', 'inputs.json'])"
    subprocess.run(
        [sys.executable, "-c", f"import mlflow; {save}"], cwd=home, env=environment, check=True, capture_output=True
    )
    mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "model", "--env-manager", "local"]
    start("mlflow", [*mlflow, "--port", "{port}", "--workers", workers], "/invocations", "/ping")
    if python := os.environ.get("TRILHA_PEERS"):
        settings = {"host": "127.0.0.1", "debug": False, "parallel_workers": 0}
        settings |= {name: free_port() for name in ("grpc_port", "metrics_port")}
        (home / "model-settings.json").write_text(json.dumps({"name": PROJECT, "implementation": "mlserver_app.Ours"}))
        port = free_port()
        (home / "settings.json").write_text(json.dumps(settings | {"http_port": port}))
        url = f"http://127.0.0.1:{port}/v2/models/{PROJECT}"
        command = [python, "-m", "mlserver.cli.main", "start", "."]
        pid = stack.enter_context(process(command, f"{url}/ready", home / "mlserver.log", cwd=home, env=environment))
        found["mlserver"] = (f"{url}/infer", pid)
        bentoml = [python, "-m", "bentoml", "serve", "bentoml_app:Bench", "--host", "127.0.0.1", "--port", "{port}"]
        start("bentoml", bentoml, "/predict", "/readyz")
    return found


class Ours:
    """A Triton and a gateway before it, up, with one release for a target."""

    def __init__(self, folder: Path, stack: ExitStack, graphs: dict[str, Path], target: str) -> None:
        folder.mkdir()
        self.server = stack.enter_context(triton(folder, os.environ.get("TRILHA_BACKENDS")))
        self.http = f"127.0.0.1:{(folder / 'ports').read_text().split()[1]}"
        limits = {"rate": 1_000_000, "burst": 1_000_000}
        triton_settings = {"url": self.server.address, "http": self.http, "repository": str(folder / "models")}
        workspace = repository_in(
            folder, {"triton": triton_settings, "gateway": {"authentication": True, "limits": limits}}
        )
        settings = Triton(instance_group=(InstanceGroup(count=os.cpu_count() or 1),))
        serve = Serve.model_validate({"golden": 16, "join": "fused", "target": target, "triton": settings})
        self._model = release_in(workspace, graphs, serve).bundle.model
        _, key = keys.add(workspace, "bench", ["predict:*", "read:*"])
        self._who = {"Authorization": f"Bearer {key}"}
        self._gateway = gateway_on(folder, stack, "bench")

    def of(self, rows: int) -> dict[str, tuple[str, bytes, dict[str, str], int | None]]:
        """Each door, and a request of so many rows."""
        url, pid = self._gateway
        tensors, header = binary(rows)
        body, typed = plain(rows)
        return {
            "triton": (f"http://{self.http}/v2/models/{self._model}/infer", tensors, header, None),
            "v2": (f"{url}/v2/models/{PROJECT}/infer", tensors, header | self._who, pid),
            "typed": (f"{url}/v1/projects/{PROJECT}/predict", body, typed | self._who, pid),
        }


class Doors:
    """All of them, up: ours and the peers'."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        graphs = graphs_in(folder)
        self._folder = folder
        targets = ("auto", "full") if "TRILHA_BACKENDS" in os.environ else ("auto",)
        self.ours = {target: Ours(folder / target, stack, graphs, target) for target in targets}
        self._peers = peers_on(folder, stack, graphs)

    def of(self, rows: int) -> dict[str, Door]:
        """Each door with a request of so many rows; ours are named by target."""
        body, typed = plain(rows)
        frames = json.dumps({"dataframe_records": json.loads(body)["rows"]}).encode()
        bodies = {"mlserver": v2_rows(rows), "mlflow": frames}
        found = {f"{name} {target}": given for target, one in self.ours.items() for name, given in one.of(rows).items()}
        found |= {name: (at, bodies.get(name, body), typed, peer) for name, (at, peer) in self._peers.items()}
        return {name: door(self._folder, f"{name}-{rows}".replace(" ", "-"), *given) for name, given in found.items()}


def rows_of(doors: Doors) -> Iterator[Row]:
    """What each door answers under each load, against the best peer in the same rounds."""
    for rows, clients in LOADS:
        found = doors.of(rows)
        check(found)
        kept: dict[str, list[dict[str, float]]] = {name: [] for name in found}
        interleave({name: loaded(at, clients, kept[name]) for name, at in found.items()}, ROUNDS)
        for target in doors.ours:
            yield from _rows(rows, clients, target, kept)


def _rows(rows: int, clients: int, target: str, kept: dict[str, list[dict[str, float]]]) -> Iterator[Row]:
    """The rows of one target under one load."""
    rates = {name: rate(seen) for name, seen in kept.items()}
    best = max((name for name in PEERS if name in rates), key=rates.__getitem__)
    others = ", ".join(
        f"{PEERS.get(name, name)} {rates[name]:,.0f}/s" for name in rates if name in {*PEERS, "fastapi"} - {best}
    )
    who = f"{rows} row{'s' if rows > 1 else ''}, {clients} client{'s' if clients > 1 else ''}"
    words = {"v2": "V2 through the gateway", "typed": "JSON through the gateway", "triton": "Triton's own door"}
    for name, goal in {"v2": 2.0, "typed": 2.0, "triton": 5.0}.items():
        if name == "triton" and (rows, clients) != (1, 64):
            continue
        ours = f"{name} {target}"
        yield Row(
            question=f"{who}, {words[name]}{', target full' if target == 'full' else ''}",
            ours=told(kept[ours]),
            limit=f"best peer, {PEERS[best]}: {told(kept[best])}",
            ratio=rates[ours] / rates[best],
            goal=f"{goal:g} times as many",
            met=rates[ours] >= goal * rates[best],
            note=f"{others}; Triton's own door {rates[f'triton {target}']:,.0f}/s. {WHY[rows, target]}",
        )


def large_row(ours: Ours, folder: Path, target: str) -> Row:
    """A tensor of 600 KB to Triton and back, as JSON and as bytes; of the latter 20, for JSON leaves memory cold."""
    server = ours.server
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, WIDTH]) for name in ("x", "probability")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["probability"])], "wide", value[:1], value[1:])
    path = folder / "wide.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    server.publish(by_model({FUSED: path}, "wide-000000000000", Serve.model_validate({"target": target})))
    server.load("wide-000000000000")
    connection = HTTPConnection(ours.http, timeout=60)  # Triton's own client takes 2 ms more to send bytes
    sent = np.random.default_rng(0).normal(size=(1, WIDTH)).astype(np.float32)

    def ask(*, as_bytes: bool) -> None:
        tensor = InferInput("x", list(sent.shape), "FP32")
        tensor.set_data_from_numpy(sent, binary_data=as_bytes)
        output = InferRequestedOutput("probability", binary_data=as_bytes)
        body, header = InferenceServerClient.generate_request_body([tensor], outputs=[output])
        headers = {} if header is None else {"Inference-Header-Content-Length": str(header)}
        connection.request("POST", "/v2/models/wide-000000000000/infer", body, headers)
        answer = connection.getresponse()
        length = answer.headers.get("Inference-Header-Content-Length")
        parsed = InferenceServerClient.parse_response_body(answer.read(), header_length=int(length) if length else None)
        assert np.allclose(parsed.as_numpy("probability"), sent)

    def asked(times: int, *, as_bytes: bool) -> Sample:
        begun = time.perf_counter()
        for _ in range(times):
            ask(as_bytes=as_bytes)
        return Sample((time.perf_counter() - begun) / times, 0.0, 0.0)

    samples = interleave({"bytes": lambda: asked(20, as_bytes=True), "json": lambda: asked(1, as_bytes=False)}, 9)
    share = ratio(samples["json"], samples["bytes"])
    return Row(
        question=f"a tensor of 600 KB to Triton and back, as bytes{', target full' if target == 'full' else ''}",
        ours=f"{median(samples['bytes']) * 1e3:.1f} ms",
        limit=f"as JSON {median(samples['json']) * 1e3:.0f} ms",
        ratio=1 / share,
        goal="100 times faster than JSON",
        met=share >= 100,
        note=f"{share:.0f} times: {THROUGH[target]}; the client writes JSON in C++",
    )


def main() -> None:
    """Ask servers of our own."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name, ExitStack() as held:
        doors = Doors(Path(name), held)
        large = [large_row(ours, Path(name), target) for target, ours in doors.ours.items()]
        report([*rows_of(doors), *large])


if __name__ == "__main__":
    main()
