from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2 as proto

from components.adapters.triton_config import (
    Graph,
    Tensor,
    as_run,
    check_chain,
    ensemble_config,
    part_config,
    read_graph,
    renamed,
)
from components.errors import GateError
from tests.triton import FEATURES, Fitted

PARTS = {"pre": "m-pre", "model": "m-model", "post": "m-post"}


@pytest.fixture
def graphs(fitted: Fitted) -> dict[str, Graph]:
    return {part: read_graph(fitted.graphs / f"{part}.onnx") for part in PARTS}


def parsed(text: str) -> Any:
    return text_format.Parse(text, proto.ModelConfig())


def test_names_and_types_come_from_the_graph(graphs: dict[str, Graph]) -> None:
    """A part's configuration lists the graph's own tensors, text as strings and numbers as 32-bit floats."""
    config = parsed(part_config("m-pre", graphs["pre"], ["features"], "auto"))
    types = {tensor.name: proto.DataType.Name(tensor.data_type) for tensor in config.input}
    assert types == {name: "TYPE_STRING" if kind == "string" else "TYPE_FP32" for name, kind in FEATURES.items()}
    assert [tensor.name for tensor in config.output] == ["features"]


@pytest.mark.parametrize(("target", "backend"), [("auto", "python"), ("full", "onnxruntime")])
def test_target_is_the_backend(graphs: dict[str, Graph], target: str, backend: str) -> None:
    """The bundle's target decides which backend runs its graphs, on one thread either way."""
    config = parsed(part_config("m-model", graphs["model"], ["scores"], target))
    assert config.backend == backend
    assert "1" in {parameter.string_value for parameter in config.parameters.values()}


def test_widths_that_onnx_runtime_works_out(tmp_path: Path) -> None:
    """What a file leaves open is filled in where ONNX Runtime knows it, and nothing else is."""
    ends = {"x": ["rows", None], "y": ["rows", None], "z": ["rows", None], "w": [3, 2]}
    x, y, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ends[name]) for name in "xyz")
    w = helper.make_tensor("w", TensorProto.FLOAT, ends["w"], [0.0] * 6)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Identity", ["x"], ["z"])]
    graph = helper.make_graph(nodes, "open", [x], [y, z], [w])
    path = tmp_path / "open.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 15)]), path)
    read = read_graph(path)
    assert [one.width for one in (*read.inputs, *read.outputs)] == [-1, -1, -1]
    known = as_run(read, path)
    assert [one.width for one in (*known.inputs, *known.outputs)] == [-1, 2, -1]


def test_every_tensor_is_mapped_to_itself(graphs: dict[str, Graph]) -> None:
    """The ensemble feeds each input to the graph's input of the same name."""
    steps = parsed(ensemble_config("m", PARTS, graphs)).ensemble_scheduling.step
    assert dict(steps[0].input_map) == {name: name for name in FEATURES}
    assert dict(steps[1].input_map) == {"features": steps[0].output_map["features"]}
    assert dict(steps[2].input_map) == {"scores": steps[1].output_map["scores"]}
    assert dict(steps[2].output_map) == {"probability": "probability", "label": "label"}


def test_renamed_changes_the_name_only(graphs: dict[str, Graph]) -> None:
    """The stable ensemble names the same parts."""
    text = ensemble_config("m", PARTS, graphs)
    config, stable = parsed(text), parsed(renamed(text, "stable"))
    assert stable.name == "stable"
    stable.name = "m"
    assert stable == config


def test_fitting_graphs_pass(graphs: dict[str, Graph]) -> None:
    """Graphs that one notebook wrote fit each other and the features."""
    check_chain(graphs, FEATURES)


@pytest.mark.parametrize(
    ("part", "graph", "message"),
    [
        ("pre", Graph((Tensor("carrier", "TYPE_STRING", 1),), ()), "takes 'origin', which pre.onnx lacks"),
        ("pre", Graph((Tensor("carrier", "TYPE_FP32", 1),), ()), "'carrier' as TYPE_FP32"),
        ("pre", Graph((Tensor("carrier", "TYPE_STRING", 2),), ()), "'carrier' with 2 columns"),
        ("pre", Graph((Tensor("nobody", "TYPE_FP32", 1),), ()), "'nobody', which the features lacks"),
        ("model", Graph((Tensor("features", "TYPE_FP64", -1),), ()), "'features' as TYPE_FP64"),
        ("post", Graph((Tensor("scores", "TYPE_FP32", 2),), ()), "'probability', which post.onnx lacks"),
    ],
)
def test_what_does_not_fit_is_refused(graphs: dict[str, Graph], part: str, graph: Graph, message: str) -> None:
    """A name, a type or a width that does not fit stops the export and is named."""
    with pytest.raises(GateError, match=message):
        check_chain({**graphs, part: graph}, FEATURES)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file that is not ONNX is named as such."""
    path = tmp_path / "pre.onnx"
    path.write_bytes(b"\xff not a graph")
    with pytest.raises(GateError, match=r"pre\.onnx is not ONNX"):
        read_graph(path)


def test_tensors_of_other_shapes_are_refused(tmp_path: Path) -> None:
    """A tensor that is not `[rows, width]` cannot be batched, and is refused by name."""
    flat = helper.make_tensor_value_info("flat", TensorProto.FLOAT, [None])
    graph = helper.make_graph([helper.make_node("Identity", ["flat"], ["out"])], "g", [flat], [flat])
    onnx.save(helper.make_model(graph), tmp_path / "g.onnx")
    with pytest.raises(GateError, match=r"tensor 'flat' is FLOAT"):
        read_graph(tmp_path / "g.onnx")
