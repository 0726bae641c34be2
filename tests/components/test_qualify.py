"""What qualify stops. Each broken bundle is made from a good one, loaded by the real server and asked for real."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as proto

from components.adapters.onnx_graphs import write_graphs
from components.bundle import CONFIG, GOLDEN
from components.errors import GateError
from components.export import export
from components.ledger import running_as
from components.project import Serve
from components.qualify import qualify
from components.records import Bundle
from components.serving import take_down
from components.workspace import Workspace
from tests.triton import FEATURES, Fitted, candidate_in, fit

SERVE = Serve(golden=48, p99_ms=5000)
"""A budget that any machine keeps: tests about answers are not about speed."""


@pytest.fixture
def good(served: Workspace, fitted: Fitted) -> Bundle:
    with running_as("a" * 64):
        return export("flights", "test", *candidate_in(served, fitted), SERVE)


@pytest.fixture
def change(served: Workspace, good: Bundle) -> Callable[[str, Callable[[Path], object]], Bundle]:
    """Edit one file of the good bundle in place, behind its digest's back."""

    def edit(path: str, how: Callable[[Path], object]) -> Bundle:
        folder = served.home / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        for inside, file in {**good.files, GOLDEN: good.golden}.items():
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(served.artifacts.local(file), folder / inside)
        how(folder / path)
        files = served.artifacts.publish("b" * 64, folder)
        take_down(served.server, good.model)  # another test's good bundle has the same name
        return good.model_copy(update={"golden": files.pop(GOLDEN), "files": files})

    return edit


def loaded(workspace: Workspace, bundle: Bundle) -> bool:
    return any(model.startswith(bundle.model) for model in workspace.server.loaded())


def test_good_bundle_passes(served: Workspace, good: Bundle) -> None:
    """A bundle that was written well answers as the notebook did, is measured, and stays loaded."""
    report = qualify("test", good, SERVE)
    assert report.rows == 48
    assert 0 <= report.difference <= 1e-6
    assert 0 < report.p50_ms <= report.p99_ms
    assert loaded(served, good)


def test_qualified_again(good: Bundle) -> None:
    """What the record says of the bundle is the same the second time."""
    first, second = (qualify("test", good, SERVE) for _ in range(2))
    assert (first.digest, first.rows, first.difference) == (second.digest, second.rows, second.difference)


def test_swapped_columns(served: Workspace, good: Bundle, change: Any) -> None:
    """Two numbers that change places on the way in are stopped, and nothing of the bundle stays loaded."""

    def swap(path: Path) -> None:
        config = text_format.Parse(path.read_text(), proto.ModelConfig())
        fed = config.ensemble_scheduling.step[0].input_map
        fed["distance"], fed["wind"] = fed["wind"], fed["distance"]
        path.write_text(text_format.MessageToString(config))

    broken = change(f"{good.model}/{CONFIG}", swap)
    with pytest.raises(GateError, match=r"golden answers differ from the notebook's, by up to ") as caught:
        qualify("test", broken, SERVE)
    assert "the notebook said" in caught.value.details
    assert not loaded(served, broken)


def test_swapped_text_columns(good: Bundle, change: Any) -> None:
    """Two texts that change places are stopped too: their categories are unknown there."""

    def swap(path: Path) -> None:
        config = text_format.Parse(path.read_text(), proto.ModelConfig())
        fed = config.ensemble_scheduling.step[0].input_map
        fed["carrier"], fed["origin"] = fed["origin"], fed["carrier"]
        path.write_text(text_format.MessageToString(config))

    with pytest.raises(GateError, match="golden answers differ"):
        qualify("test", change(f"{good.model}/{CONFIG}", swap), SERVE)


def test_wrong_type_of_an_input(good: Bundle, change: Any) -> None:
    """A graph that wants 64-bit floats where the bundle promises 32-bit ones is stopped, and the input is named."""

    def widen(path: Path) -> None:
        graph = onnx.load(path)
        wide = next(node for node in graph.graph.input if node.name == "distance")
        wide.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        path.write_bytes(graph.SerializeToString())

    with pytest.raises(GateError, match="load|distance") as caught:
        qualify("test", change(f"{good.model}-pre/1/model.onnx", widen), SERVE)
    assert "double" in caught.value.details


def test_wrong_type_in_the_configuration(good: Bundle, change: Any) -> None:
    """An ensemble that asks clients for another type than its part takes does not load."""

    def retype(path: Path) -> None:
        config = text_format.Parse(path.read_text(), proto.ModelConfig())
        next(tensor for tensor in config.input if tensor.name == "hour").data_type = proto.TYPE_INT64
        path.write_text(text_format.MessageToString(config))

    with pytest.raises(GateError, match="hour"):
        qualify("test", change(f"{good.model}/{CONFIG}", retype), SERVE)


def test_stale_scaler(good: Bundle, change: Any, tmp_path: Path) -> None:
    """Pre-processing that was fitted on other data than the model is stopped."""
    stale = fit(tmp_path, seed=0, scale=1.001)
    broken = change(f"{good.model}-pre/1/model.onnx", lambda path: shutil.copy(stale.graphs / "pre.onnx", path))
    with pytest.raises(GateError, match="golden answers differ"):
        qualify("test", broken, SERVE)


def test_answers_nan(good: Bundle, change: Any, tmp_path: Path, fitted: Fitted) -> None:
    """A model that answers NaN, here for missing values that nothing fills in, is stopped; the rows are shown."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from components.model_inputs import to_frame

    text = [name for name, kind in FEATURES.items() if kind == "string"]
    hollow = ColumnTransformer([
        ("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
        ("numbers", StandardScaler(), [name for name in FEATURES if name not in text]),
    ]).fit(to_frame(pq.read_table(fitted.test), FEATURES))  # fmt: skip
    paths = (tmp_path / "pre.onnx", tmp_path / "model.onnx", tmp_path / "post.onnx")
    write_graphs(hollow, fitted.model, 0.5, FEATURES, paths)
    broken = change(f"{good.model}-pre/1/model.onnx", lambda path: shutil.copy(paths[0], path))
    with pytest.raises(GateError, match=r"the answer is NaN in [1-9]\d* of 48") as caught:
        qualify("test", broken, SERVE)
    assert "'wind': None" in caught.value.details


def test_notebook_answered_nan(good: Bundle, change: Any) -> None:
    """A golden answer that is NaN compares with nothing, so it is stopped and not passed over."""

    def spoil(path: Path) -> None:
        golden = pq.read_table(path)
        values = golden["probability"].to_numpy().copy()
        values[5] = np.nan
        place = golden.column_names.index("probability")
        pq.write_table(golden.set_column(place, "probability", pa.array(values)), path)

    with pytest.raises(GateError, match="the notebook's own answer is NaN in 1 of 48"):
        qualify("test", change(GOLDEN, spoil), SERVE)


def test_other_threshold(good: Bundle, change: Any, tmp_path: Path, fitted: Fitted) -> None:
    """Probabilities that agree are not enough: labels by another threshold are stopped."""
    paths = (tmp_path / "pre.onnx", tmp_path / "model.onnx", tmp_path / "post.onnx")
    write_graphs(fitted.pre, fitted.model, 0.9, FEATURES, paths)
    broken = change(f"{good.model}-post/1/model.onnx", lambda path: shutil.copy(paths[2], path))
    with pytest.raises(GateError, match=r"0 of 48 golden answers differ .* and [1-9]\d* labels"):
        qualify("test", broken, SERVE)


def test_graph_of_another_width(good: Bundle, change: Any) -> None:
    """A model that takes fewer features than pre-processing yields is stopped in the server's words."""

    def narrow(path: Path) -> None:
        taken = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [None, 2])
        given = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [None, 2])
        node = onnx.helper.make_node("Identity", ["features"], ["scores"])
        graph = onnx.helper.make_graph([node], "narrow", [taken], [given])
        onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 15)]), path)

    with pytest.raises(GateError, match="features") as caught:
        qualify("test", change(f"{good.model}-model/1/model.onnx", narrow), SERVE)
    assert "invalid dimensions" in caught.value.details


@pytest.mark.skipif(bool(shutil.which("tritonserver")), reason="the server on PATH may have every backend")
def test_target_that_the_server_lacks(served: Workspace, fitted: Fitted) -> None:
    """A bundle for a full Triton is refused by name on one that has no ONNX Runtime backend."""
    with running_as("c" * 64):
        full = export("flights", "test", *candidate_in(served, fitted), Serve(target="full", golden=8))
    with pytest.raises(GateError, match=r"cannot serve target 'full'.*accepted: auto; next: change serve\.target"):
        qualify("test", full, SERVE)
    assert not loaded(served, full)


def test_over_budget(served: Workspace, good: Bundle) -> None:
    """A p99 over the budget is stopped with its numbers, after more than one attempt."""
    take_down(served.server, good.model)
    with pytest.raises(
        GateError, match=r"p99 of one-row requests is \d+\.\d ms .*best of 3 .*accepted: up to 0\.001 ms"
    ):
        qualify("test", good, Serve(golden=8, p99_ms=0.001))
    assert not loaded(served, good)


def test_failing_later_takes_nothing_away(served: Workspace, good: Bundle) -> None:
    """A bundle that serves goes on serving when a stricter rule fails it."""
    qualify("test", good, SERVE)
    with pytest.raises(GateError):
        qualify("test", good, Serve(golden=8, p99_ms=0.001))
    assert loaded(served, good)
