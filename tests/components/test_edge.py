"""A release as one file: what it answers, where it runs, what its card says, and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from components.adapters.onnx_small import answer_one_by_one
from components.answers import list_column
from components.edge import EdgeCard, export_edge
from components.edge_cost import PROBE
from components.edge_page import RUNTIME
from components.edge_settings import Edge
from components.errors import ConfigError, GateError
from components.export import export
from components.ledger import running_as
from components.project import Features, RandomSplit, Serve
from components.records import Release
from components.workspace import Workspace
from tests.components.test_frameworks import candidate_from, trial_on
from tests.examples import commit_tables, prepare_as
from tests.triton import Fitted, release_of

ALONE = """
import json, sys
import numpy, onnxruntime
card = json.load(open("card.json"))
session = onnxruntime.InferenceSession(card["file"])
def tensor(one, value):
    values = value if isinstance(value, list) else [value]
    if one["type"] == "string":
        return numpy.array([[text or "" for text in values]], dtype=object)
    return numpy.array([[numpy.nan if number is None else number for number in values]], dtype=numpy.float32)
answers = [session.run(None, {one["name"]: tensor(one, row[one["name"]]) for one in card["inputs"]}) for row in json.load(sys.stdin)]
names = [one.name for one in session.get_outputs()]
said = [{name: array.ravel().tolist() for name, array in zip(names, answer)} for answer in answers]
packages = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
print(json.dumps({"said": said, "packages": sorted(packages)}))
"""
"""A program as somebody else would write it, with the card and the file before them."""

NOTHING_ELSE = {"__main__", "_distutils_hack", "numpy", "onnxruntime"}


def alone(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a process says that has the folder, ONNX Runtime and NumPy."""
    command = [sys.executable, "-I", "-c", ALONE]
    done = subprocess.run(command, cwd=folder, input=json.dumps(rows), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def release(workspace: Workspace, fitted: Fitted) -> Release:
    """A release of a small model of texts and numbers."""
    return release_of(workspace, fitted)


@pytest.fixture
def pictures(workspace: Workspace, release: Release, tmp_path: Path) -> Release:
    """A release of a network whose weights are most of its file: handwritten digits, judged by the log loss."""
    pixels, digits = load_digits(return_X_y=True)
    table = pa.table({"id": np.arange(len(digits)), "digit": digits, "pixels": list_column(pixels)})
    features = Features(sql="select * from digits", row="id", target="digit", task="multiclass")
    split = RandomSplit(by="random", key="id", valid=0.2, test=0.2)
    prepared = prepare_as(workspace, commit_tables(workspace, {"digits": [table]}), "b", features, split)
    run = trial_on(workspace, prepared, tmp_path / "out")
    pre = make_pipeline(SimpleImputer(), MinMaxScaler(clip=True)).fit(run.inputs(run.train))
    model = MLPClassifier((64,), max_iter=20, tol=1, n_iter_no_change=19, random_state=0)
    run.save(pre=pre, model=model.fit(pre.transform(run.inputs(run.train)), run.train["digit"]))
    candidate = candidate_from(workspace, run, "log_loss")
    with running_as("e" * 64):
        bundle = export("digits", workspace.name, candidate, prepared, Serve(golden=16, join="fused"))
    changes = {"project": "digits", "prepared": prepared, "candidate": candidate, "bundle": bundle}
    return release.model_copy(update=changes)


def test_runs_alone(workspace: Workspace, release: Release, tmp_path: Path) -> None:
    """ONNX Runtime and NumPy, nothing of Trilha, and the answers to all golden rows are the release's own."""
    card = export_edge(workspace, release, "Flights", Edge(), tmp_path / "edge")
    golden = pq.read_table(workspace.artifacts.local(release.bundle.golden)).to_pylist()
    found = alone(tmp_path / "edge", [{name: row[name] for name in card.features} for row in golden])
    assert set(found["packages"]) <= NOTHING_ELSE
    for said, row in zip(found["said"], golden, strict=True):
        assert said["probability"] == pytest.approx([row["probability"]], abs=1e-5)
        assert said["label"] == [row["label"]]


def test_card(workspace: Workspace, release: Release, tmp_path: Path) -> None:
    """It says what the file is, takes, needs and costs, and it is the one that lies beside it."""
    folder = tmp_path / "edge"
    card = export_edge(workspace, release, "Flights", Edge(), folder)
    content = (folder / card.file).read_bytes()
    assert EdgeCard.model_validate_json((folder / "card.json").read_bytes()) == card
    assert (card.sha256, card.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (card.project, card.release, card.digest) == (release.project, release.number, release.digest)
    [said] = alone(folder, [dict(card.example)])["said"]
    assert card.answer == {"probability": pytest.approx(said["probability"][0], abs=1e-5), "label": said["label"][0]}
    session = onnxruntime.InferenceSession(content)
    assert [(one.name, one.type.replace("float32", "float")) for one in card.inputs] == [
        (node.name, node.type[len("tensor(") : -1]) for node in session.get_inputs()
    ]
    assert session.get_modelmeta().custom_metadata_map["trilha.digest"] == release.digest
    graph = onnx.load_from_string(content).graph
    assert sum(card.operators.values()) == len(graph.node)
    assert card.operators["ai.onnx.ml.OneHotEncoder"] == 2
    cost = card.costs["float32"]
    assert (cost.cores, cost.memory > 0, 0 < cost.cpu_ms < 50) == (1, True, True)
    assert card.metric in (folder / "index.html").read_text()
    assert card.taken.weights == "float32"  # such a small model has no table of weights
    assert {one.why for one in card.weights if not one.taken} == {"the file is no smaller"}


def test_the_probe_has_nothing_else(workspace: Workspace, release: Release, tmp_path: Path) -> None:
    """What is measured is what a device has: one core, ONNX Runtime and NumPy."""
    card = export_edge(workspace, release, "Flights", Edge(), tmp_path / "edge")
    rows = [{name: [value if value is not None else float("nan")] for name, value in card.example.items()}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    command = [sys.executable, "-I", str(PROBE), str(tmp_path / "edge" / card.file), str(tmp_path / "rows.json")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert set(found["packages"]) <= NOTHING_ELSE
    assert found["cores"] == 1


def test_smaller_weights(workspace: Workspace, pictures: Release, tmp_path: Path) -> None:
    """The smallest file that loses no more than the project allows is taken, and runs alone like the others."""
    card = export_edge(workspace, pictures, "Digits", Edge(loss=0.05), tmp_path / "edge")
    weights = {one.weights: one for one in card.weights}
    assert (card.taken.weights, card.metric) == ("int8", "log_loss")
    assert weights["int8"].size < weights["float16"].size < weights["float32"].size
    assert 0 < weights["int8"].lost <= 0.05  # type: ignore[operator]  # both were measured
    assert abs(weights["float16"].lost) < weights["int8"].lost  # type: ignore[arg-type, operator]
    assert card.operators["ai.onnx.MatMulInteger"] == 2
    assert set(card.costs) == {"float32", "int8"}
    golden = pq.read_table(workspace.artifacts.local(pictures.bundle.golden)).to_pylist()
    found = alone(tmp_path / "edge", [{"pixels": row["pixels"]} for row in golden])["said"]
    right = [said["label"] == [row["label"]] for said, row in zip(found, golden, strict=True)]
    assert np.mean(right) > 0.9
    off = max(np.abs(np.subtract(said["probabilities"], row["probabilities"])).max() for said, row in zip(found, golden, strict=True))  # fmt: skip
    assert off == pytest.approx(card.difference, abs=1e-5)


def test_what_would_lose_too_much_is_left(workspace: Workspace, pictures: Release, tmp_path: Path) -> None:
    """Where nothing may be lost, 8 bits are refused, and the card says by how much it was too much."""
    card = export_edge(workspace, pictures, "Digits", Edge(loss=0), tmp_path / "edge")
    int8 = next(one for one in card.weights if one.weights == "int8")
    assert card.taken.weights != "int8"
    assert int8.why == f"log_loss is worse by {int8.lost:.4g}, and 0 is allowed"
    assert "and 0 is allowed" in (tmp_path / "edge" / "index.html").read_text()


def test_a_row_is_asked_by_itself(workspace: Workspace, pictures: Release, tmp_path: Path) -> None:
    """Whatever else is asked: 8 bits are scaled by what comes in together, and a device asks row by row."""
    export_edge(workspace, pictures, "Digits", Edge(loss=1), tmp_path / "edge")
    graph = (tmp_path / "edge" / "model.onnx").read_bytes()
    pixels = load_digits().data[:9].astype(np.float32)
    several = answer_one_by_one(graph, {"pixels": pixels})["probabilities"]
    for row in range(9):
        alone_ = answer_one_by_one(graph, {"pixels": pixels[row : row + 1]})["probabilities"]
        np.testing.assert_array_equal(several[row : row + 1], alone_)


def test_the_runtime_is_copied_from_where_it_is(workspace: Workspace, release: Release, tmp_path: Path) -> None:
    """Two files of the npm package, from its folder or from node_modules; the card has its version."""
    package = tmp_path / "node_modules" / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text('{"version": "1.30.0"}')
    for name in (*RUNTIME, "ort.all.js"):
        (package / "dist" / name).write_text(name)
    for number, place in enumerate((package, package.parent)):
        folder = tmp_path / f"edge-{number}"
        assert export_edge(workspace, release, "Flights", Edge(), folder, place).web == "1.30.0"
        assert {path.name for path in (folder / "onnxruntime-web").iterdir()} == set(RUNTIME)


def test_refused(workspace: Workspace, release: Release, tmp_path: Path) -> None:
    """A folder that is there, a package that is not, a file that answers otherwise; nothing is left behind."""
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="is there already; accepted: a folder that is not there yet"):
        export_edge(workspace, release, "Flights", Edge(), tmp_path / "there")
    with pytest.raises(ConfigError, match="no onnxruntime-web .*next: npm install onnxruntime-web"):
        export_edge(workspace, release, "Flights", Edge(), tmp_path / "edge", tmp_path / "there")
    strict = release.qualification.model_copy(update={"tolerance": 1e-15})
    with pytest.raises(GateError, match=r"off the release's own answers by up to .*e-.*serve.tolerance"):
        export_edge(workspace, release.model_copy(update={"qualification": strict}), "Flights", Edge(), tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir() if "edge" in path.name or path.name == "x"} == set()


def test_a_python_class_is_refused(workspace: Workspace, release: Release, tmp_path: Path) -> None:
    """Where a part is no graph, its place is named."""
    bundle = release.bundle
    files = {path: file for path, file in bundle.files.items() if not path.endswith("-pre/1/model.onnx")}
    changed = release.model_copy(update={"bundle": bundle.model_copy(update={"files": files})})
    with pytest.raises(ConfigError, match="`pre` of flights/1 is a Python class, which ONNX Runtime does not run"):
        export_edge(workspace, changed, "Flights", Edge(), tmp_path / "edge")
