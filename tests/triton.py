"""A real Triton for tests, and a small fitted model to put into it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.adapters.triton_binary import command
from components.bundle import models_of
from components.export import export
from components.ledger import running_as
from components.project import Serve
from components.records import (
    Artifact,
    Bundle,
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
from components.rollout_settings import RolloutRules
from components.serving import take_down
from components.workspace import Workspace, open_workspace
from tests.children import dying_with_us

FEATURES = {"carrier": "string", "origin": "string", "distance": "double", "wind": "double", "hour": "bigint"}


@dataclass(frozen=True)
class Triton:
    """A server that runs: where it is, where it reads models from, its process, what it says."""

    address: str
    http: str
    repository: Path
    process: subprocess.Popen[bytes]
    log: Path


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """The Triton of the locked wheel, or the one on PATH, on free ports."""
    yield from running(tmp_path_factory.mktemp("triton"))


def running(home: Path, backends: str | None = None) -> Iterator[Triton]:
    """A server on free ports; it ends with the tests, however they end."""
    server = start(home, backends=backends)
    try:
        yield server
    finally:
        server.process.terminate()
        try:
            server.process.wait(15)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
        command(server.repository.parent, server.repository, 0, 0, 0)  # drops what a killed stub left in shared memory


def start(home: Path, taken: Sequence[int] = (), without: Sequence[str] = (), backends: str | None = None) -> Triton:
    """Start a server that ends with this process at the latest; on the ports that are given, and free ones.

    Args:
        home: of the server.
        taken: ports.
        without: how options begin that it is started without.
        backends: a folder of others.
    """
    ports = [*taken, *free_ports(3 - len(taken))]
    arguments, environment = command(home, home / "models", *ports, more=backends)
    arguments = [argument for argument in arguments if not argument.startswith(tuple(without))]
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            dying_with_us(arguments), env=environment, stdout=output, stderr=output
        )  # fmt: skip
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        if all(map(_listens, ports)):
            return Triton(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", home / "models", process, log)
        time.sleep(0.05)
    raise AssertionError(f"Triton does not start:\n{log.read_text()[-3000:]}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def served(repository: Path, triton: Triton) -> Workspace:
    """The parts of profile `test`, whose model server is the real one; models stay on it from test to test."""
    path = repository / "config" / "profiles" / "test.yaml"
    settings = f"url: '{triton.address}', http: '{triton.http}', repository: '{triton.repository}'"
    path.write_text(f"{path.read_text()}services: {{triton: {{{settings}}}}}\n")
    open_workspace.cache_clear()
    return open_workspace("test")


@dataclass(frozen=True)
class Fitted:
    """A logistic regression behind imputation, scaling and one-hot encoding, and the rows it is tested on."""

    pre: Any
    model: Any
    test: Path
    predictions: Path
    graphs: Path
    """A folder with pre.onnx, model.onnx, post.onnx."""


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Fitted once for all tests."""
    return fit(tmp_path_factory.mktemp("fitted"), seed=0)


def fit(folder: Path, seed: int, scale: float = 1.0) -> Fitted:
    """Fit on made-up flights.

    Args:
        folder: where the files go.
        seed: draws the rows.
        scale: multiplies the distances, so that another fit has another scaler.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from components.adapters.onnx_graphs import write_graphs
    from components.model_inputs import to_frame

    table = _flights(seed, scale)
    frame = to_frame(table, FEATURES)
    text = [name for name, kind in FEATURES.items() if kind == "string"]
    numbers = [name for name in FEATURES if name not in text]
    pre = ColumnTransformer([
        ("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
    ])  # fmt: skip
    features = pre.fit_transform(frame[list(FEATURES)])
    model = LogisticRegression().fit(features, frame["late"])
    probability = model.predict_proba(features)[:, 1]
    pq.write_table(table, folder / "test.parquet")
    answers = {"row": table["flight"], "target": table["late"], "probability": probability}
    pq.write_table(pa.table(answers | {"label": (probability >= 0.5).astype("int64")}), folder / "predictions.parquet")
    graphs = folder / "graphs"
    graphs.mkdir()
    write_graphs(pre, model, 0.5, FEATURES, (graphs / "pre.onnx", graphs / "model.onnx", graphs / "post.onnx"))
    return Fitted(pre, model, folder / "test.parquet", folder / "predictions.parquet", graphs)


def _flights(seed: int, scale: float) -> Any:
    import numpy as np
    import pyarrow as pa

    draw, rows = np.random.default_rng(seed), 400
    carrier = draw.choice(["AA", "UA", "DL", "Ã"], rows, p=[0.5, 0.3, 0.19, 0.01]).tolist()
    distance, wind = draw.normal(1000, 300, rows) * scale, draw.gamma(2, 5, rows)
    hour = draw.integers(0, 24, rows)
    late = distance / scale / 300 + wind / 5 + hour / 8 + np.array([2 * (one == "UA") for one in carrier]) > 8
    return pa.table(
        {
            "flight": [f"f{number:04}" for number in range(rows)],
            "late": late.astype("int64"),
            "carrier": pa.array([None if number % 50 == 7 else one for number, one in enumerate(carrier)], pa.string()),
            "origin": draw.choice(["JFK", "LGA", "EWR"], rows).tolist(),
            "distance": distance,
            "wind": pa.array([None if number % 40 == 3 else one for number, one in enumerate(wind)], pa.float64()),
            "hour": hour.astype("int64"),
        }
    )


def candidate_in(workspace: Workspace, fitted: Fitted, key: str = "made") -> tuple[Candidate, Prepared]:
    """The records of a fitted model, its files in the artifact store under `key`."""
    import shutil

    folder = workspace.home / "made"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(fitted.graphs, folder)
    shutil.copy(fitted.test, folder / "test.parquet")
    shutil.copy(fitted.predictions, folder / "predictions.parquet")
    files = workspace.artifacts.publish(key, folder)
    page = Artifact(path="page.html", sha256="", size=0)
    trial = Trial(
        parameters=Parameters(values={}),
        metrics={"auc": 0.9},
        graphs=Graphs(pre=files["pre.onnx"], model=files["model.onnx"], post=files["post.onnx"]),
        predictions=files["predictions.parquet"],
        run_id="1",
        notebook=page,
        page=page,
        plots=(),
        seconds=1.0,
    )
    split = Split(file=files["test.parquet"], rows=400, positives=0.5)
    prepared = Prepared(
        tree="0" * 64, commit="c", row="flight", target="late", features=FEATURES,
        train=split, valid=split, test=split, reference=page,
    )  # fmt: skip
    return Candidate(trial=trial, metric="auc", value=0.9, trials=(), run_id="1"), prepared


def release_of(
    workspace: Workspace,
    fitted: Fitted,
    project: str = "flights",
    key: str = "release",
    rules: RolloutRules | None = None,
    serve: Serve | None = None,
) -> Release:
    """A release of a fitted model, written to the data store; the server has not seen it. Another key, another release."""
    made = manifest_of(workspace, fitted, project, key, serve)
    return write(workspace.store, project, made(0).key, made, rules)


def manifest_of(
    workspace: Workspace, fitted: Fitted, project: str, key: str = "release", serve: Serve | None = None
) -> Callable[[int], Release]:
    """The manifest of a fitted model's release under a number; nothing is written but its bundle."""
    key = digest({key: project})
    candidate, prepared = candidate_in(workspace, fitted, f"made-{key[:12]}")
    with running_as(key):
        bundle = export(project, workspace.name, candidate, prepared, serve or Serve(golden=16))
    page = candidate.trial.page
    first = next(workspace.store.log("main"))
    commit = Commit(id=first.id, branch="main", tree=prepared.tree, tables={})

    def manifest(number: int) -> Release:
        return Release(
            project=project,
            number=number,
            digest=bundle.digest,
            commit=commit,
            validation=Validation(tree=commit.tree, results=(), report=page, docs=page, offending=None),
            prepared=prepared,
            candidate=candidate,
            decision=Decision(
                passed=True, reasons=(), metrics={}, baselines={}, difference=None, slices=(), plots=()
            ),
            version=ModelVersion(name=project, version="1", digest=bundle.digest, run_id="1"),
            bundle=bundle,
            qualification=Qualification(
                digest=bundle.digest, rows=16, tolerance=1e-5, difference=0.0, budget_ms=50.0, p50_ms=2.0, p99_ms=4.0,
                server="",
            ),
            key=key,
            revision="",
            created="2026-01-01T00:00:00+00:00",
        )  # fmt: skip

    return manifest


def slow(workspace: Workspace, bundle: Bundle) -> None:
    """Have the server answer with a bundle whose `model` takes a tenth of a second a time."""
    models = models_of(bundle)
    files = {
        model: {path: workspace.artifacts.local(file) for path, file in inner.items()}
        for model, inner in models.items()
    }
    part = files[f"{bundle.model}-model"]
    part["1/model.py"] = (
        part["1/model.py"]
        .read_text()
        .replace("        responses: list", "        __import__('time').sleep(0.1)\n        responses: list")
    )
    take_down(workspace.server, bundle.model)
    workspace.server.publish(files)
    workspace.server.load(bundle.model)
