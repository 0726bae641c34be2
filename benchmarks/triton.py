"""What does serving cost: one row, many rows, and loading a bundle, on the embedded Triton over gRPC?

The limit of an answer is ONNX Runtime in this process on the same three graphs, one thread; that of loading is a Python
that imports ONNX Runtime, opens the three graphs and does nothing else. The model: 200 trees of LightGBM behind
imputation, scaling and one-hot encoding, 12 numbers and 4 texts in.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper
from report import Row, Sample, interleave, measure, median, ratio, report
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from components.adapters.onnx_graphs import fuse, write_graphs
from components.adapters.triton_binary import command
from components.adapters.triton_config import read_graph
from components.adapters.triton_server import TritonServer
from components.bundle import FUSED, PARTS, part_names
from components.export import repository
from components.model_inputs import frame_to_tensors
from components.project import Serve

TEXTS, NUMBERS = [f"text{number}" for number in range(4)], [f"number{number}" for number in range(12)]
FEATURES = dict.fromkeys(TEXTS, "string") | dict.fromkeys(NUMBERS, "double")
MODEL = "bench-000000000000"
SERVE = Serve()
REQUESTS = {1: 200, 1024: 20}
"""Rows a request -> requests a round."""

OPEN = "import sys, onnxruntime\nfor path in sys.argv[1:]: onnxruntime.InferenceSession(path)"

Inputs = dict[str, np.ndarray[Any, Any]]


def made_up(rows: int) -> pd.DataFrame:
    """Rows to learn from and to ask for."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({name: draw.normal(size=rows).astype(np.float32) for name in NUMBERS})
    return frame.assign(**{name: draw.choice([f"value{code}" for code in range(12)], rows) for name in TEXTS})


def graphs_in(folder: Path, trees: int = 200) -> dict[str, Path]:
    """The three graphs of a model that is fitted here."""
    frame = made_up(20_000)
    pre = ColumnTransformer([
        ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), TEXTS),
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
    ])  # fmt: skip
    target = (frame[NUMBERS].sum(axis=1) + (frame["text0"] == "value3") > 0).astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=trees, verbose=-1).fit(pre.fit_transform(frame), target)
    paths = {part: folder / f"{part}.onnx" for part in PARTS}
    write_graphs(pre, model, 0.5, FEATURES, (paths["pre"], paths["model"], paths["post"]))
    return paths


@contextmanager
def triton(home: Path, backends: str | None = None) -> Iterator[TritonServer]:
    """The embedded server on free ports, with further `backends`; `home/ports` has those of gRPC, HTTP and metrics."""
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    (home / "ports").write_text(" ".join(map(str, ports)))
    arguments, environment = command(home, home / "models", *ports, more=backends)
    log = (home / "log").open("wb")
    with subprocess.Popen(arguments, env=environment, stdout=log, stderr=log) as process:
        try:
            server = TritonServer(lambda: f"127.0.0.1:{ports[0]}", str(home / "models"), "bench")
            while True:
                try:
                    server.loaded()
                    break
                except Exception:  # noqa: BLE001  # not up yet
                    time.sleep(0.1)
            yield server
        finally:
            process.terminate()


def in_process(paths: dict[str, Path]) -> Callable[[Inputs], object]:
    """The three graphs one after the other, as the limit."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(path, options) for path in paths.values()]

    def ask(inputs: Inputs) -> Inputs:
        values = inputs
        for session in sessions:
            names = [node.name for node in session.get_outputs()]
            values = dict(zip(names, session.run(names, values), strict=True))
        return values

    return ask


def asked(ask: Callable[[Inputs], object], inputs: Inputs, count: int, times: list[float]) -> Callable[[], Sample]:
    """One round of requests; the sample is that of one of them, and `times` keeps each."""

    def run() -> Sample:
        begun, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            clock = time.perf_counter()
            ask(inputs)
            times.append(time.perf_counter() - clock)
        return Sample((time.perf_counter() - begun) / count, (time.process_time() - cpu) / count, 0.0)

    return run


def answer_rows(server: TritonServer, paths: dict[str, Path]) -> Iterator[Row]:
    """One row a request, and many."""
    frame = made_up(max(REQUESTS))
    limit = in_process(paths)
    for count, requests in REQUESTS.items():
        inputs = frame_to_tensors(frame.head(count), list(FEATURES))
        times: list[float] = []
        runs = {
            "triton": asked(lambda rows: server.infer(MODEL, rows), inputs, requests, times),
            "limit": asked(limit, inputs, requests, []),
        }
        samples = interleave(runs, 5)
        took, bare = median(samples["triton"]), median(samples["limit"])
        p50, p99 = (np.percentile(times, share) * 1e3 for share in (50, 99))
        if count == 1:
            yield Row(
                question="one row over gRPC",
                ours=f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
                limit=f"in process {bare * 1e3:.2f} ms",
                ratio=ratio(samples["triton"], samples["limit"]),
                goal="p99 50 ms (the default budget)",
                met=bool(p99 <= 50),
                note="three processes behind the server, one for each part",
            )
        else:
            share = ratio(samples["triton"], samples["limit"])
            yield Row(
                question=f"{count:,} rows a request over gRPC",
                ours=f"{count / took:,.0f} rows/s",
                limit=f"in process {count / bare:,.0f} rows/s",
                ratio=share,
                goal="2 times the limit's time",
                met=share <= 2,
            )


def empty_graph(path: Path) -> Path:
    """A graph with the inputs and the answer of the fused one that computes nothing: what a hop costs by itself."""
    texts = [helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]) for name in TEXTS]
    numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in NUMBERS]
    answer = [
        helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1]),
        helper.make_tensor_value_info("label", TensorProto.INT64, [None, 1]),
    ]
    nodes = [
        helper.make_node("Identity", [NUMBERS[0]], ["probability"]),
        helper.make_node("Cast", [NUMBERS[0]], ["label"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(nodes, "empty", [*texts, *numbers], answer)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def fused_row(server: TritonServer, paths: dict[str, Path], folder: Path) -> Row:
    """One graph in place of three, against one hop of the same tensors to a graph that computes nothing."""
    one = folder / "fused.onnx"
    one.write_bytes(fuse(list(paths.values())))
    for name, path in {"fused": one, "empty": empty_graph(folder / "empty.onnx")}.items():
        server.publish(by_model({FUSED: path}, f"{name}-000000000000"))
        server.load(f"{name}-000000000000")
    inputs = frame_to_tensors(made_up(1), list(FEATURES))
    features = onnxruntime.InferenceSession(paths["pre"]).run(None, inputs)[0]
    alone = part_names(MODEL)["model"]
    runs = {
        "fused": asked(lambda rows: server.infer("fused-000000000000", rows), inputs, REQUESTS[1], []),
        "three": asked(lambda rows: server.infer(MODEL, rows), inputs, REQUESTS[1], []),
        "hop": asked(lambda rows: server.infer("empty-000000000000", rows), inputs, REQUESTS[1], []),
        "alone": asked(lambda rows: server.infer(alone, rows), {"features": features}, REQUESTS[1], []),
    }
    samples = interleave(runs, 5)
    share = ratio(samples["fused"], samples["hop"])
    three, one_input = (median(samples[name]) * 1e3 for name in ("three", "alone"))
    return Row(
        question="pre + model + post in one graph, one row",
        ours=f"{median(samples['fused']) * 1e3:.2f} ms",
        limit=f"one hop of the same tensors that computes nothing {median(samples['hop']) * 1e3:.2f} ms",
        ratio=share,
        goal="1.2 times one hop",
        met=share <= 1.2,
        note=f"as an ensemble of three {three:.2f} ms; the model alone, one input for 16, {one_input:.2f} ms",
    )


def load_row(server: TritonServer, paths: dict[str, Path]) -> Row:
    """From files to the first answer, each time anew."""
    inputs = frame_to_tensors(made_up(1), list(FEATURES))

    def load() -> Sample:
        for name in (MODEL, *part_names(MODEL).values()):
            server.unload(name)
        time.sleep(2)  # the processes of the round before are gone
        clock = time.perf_counter()
        server.publish(by_model(paths))
        server.load(MODEL)
        server.infer(MODEL, inputs)
        return Sample(time.perf_counter() - clock, 0.0, 0.0)

    bare = [sys.executable, "-c", OPEN, *map(str, paths.values())]
    samples = interleave({"triton": load, "bare": lambda: measure(bare)}, 5)
    took = statistics.median(sample.wall for sample in samples["triton"])
    return Row(
        question="load a bundle, to its first answer",
        ours=f"{took:.2f} s",
        limit=f"import ONNX Runtime, open three graphs {median(samples['bare']):.2f} s",
        ratio=ratio(samples["triton"], samples["bare"]),
        goal="1.5 s",
        met=took <= 1.5,
        note="three processes start side by side, each imports ONNX Runtime",
    )


def by_model(paths: dict[str, Path], bundle: str = MODEL, serve: Serve = SERVE) -> dict[str, dict[str, Any]]:
    """The bundle's files, model by model."""
    models: dict[str, dict[str, Any]] = {}
    graphs = {part: read_graph(path) for part, path in paths.items()}
    cold: dict[str, list[Any]] = {part: [] for part in paths}
    for path, content in repository(bundle, serve, paths, graphs, cold).items():
        model, inside = path.split("/", 1)
        models.setdefault(model, {})[inside] = content
    return models


def main() -> None:
    """Ask a server of our own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graphs = graphs_in(folder)
        with triton(folder) as running:
            rows = [load_row(running, graphs), *answer_rows(running, graphs), fused_row(running, graphs, folder)]
    report(rows)


if __name__ == "__main__":
    main()
