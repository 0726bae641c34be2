"""What Triton is told about a bundle's models: `config.pbtxt`, written through Triton's own protobuf classes.

Names and types of tensors are read from the ONNX files, and each graph is fed by name from the one before it, so that
nothing can be swapped on the way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from components.adapters.triton_part import ABOUT
from components.adapters.triton_settings import Sample, put, put_warmup, put_whole
from components.answers import LABEL, NUMBERS
from components.errors import GateError
from components.model_inputs import width
from components.python_part import SUFFIX, files_in
from components.serve_settings import UNSET, Triton

MAX_ROWS: Final = 16_384
"""Rows in one request, and in what the server gathers from several: enough for all golden requests at once."""

ANSWER: Final = frozenset({LABEL, *NUMBERS.values()})
"""What the last graph may yield (see `components.answers`)."""

BACKENDS: Final = {"auto": "python", "full": "onnxruntime"}
"""Bundle target -> the backend that runs its graphs."""

_TYPES: Final = {
    "BOOL": "TYPE_BOOL",
    "DOUBLE": "TYPE_FP64",
    "FLOAT": "TYPE_FP32",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "STRING": "TYPE_STRING",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output: Triton's name of its type, and its columns (-1: the graph does not say)."""

    name: str
    type: str
    width: int


@dataclass(frozen=True, slots=True)
class Graph:
    """What an ONNX file takes and yields; every tensor is `[rows, width]`."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_graph(path: Path) -> Graph:
    """The inputs and outputs of an ONNX file, or of a part of the project's own.

    Raises:
        GateError: it is not ONNX, or a tensor is not `[rows, width]` of a type that Triton knows.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if path.suffix == SUFFIX:
        about = json.loads(files_in(path)[ABOUT])
        kinds = onnx.TensorProto.DataType.Name
        taken = tuple(Tensor(name, _TYPES[kinds(kind)], width) for name, (kind, width) in about["inputs"].items())
        return Graph(taken, (Tensor(about["output"], "TYPE_FP32", about["width"]),))
    try:
        graph = onnx.load(path).graph
    except DecodeError as error:
        raise GateError(f"{path.name} is not ONNX: {error}", next_step="run the trial again") from error
    fixed = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_tensor(path, node) for node in graph.input if node.name not in fixed)
    return Graph(inputs, tuple(_tensor(path, node) for node in graph.output))


def as_run(graph: Graph, path: Path) -> Graph:
    """A graph with the widths that its file leaves open and ONNX Runtime works out.

    Triton's ONNX Runtime backend asks ONNX Runtime, and refuses a configuration that leaves open what that knows.
    """
    from components.adapters.onnx_graphs import session

    opened = session(path)
    widths = {node.name: node.shape[1] for node in (*opened.get_inputs(), *opened.get_outputs())}

    def known(tensor: Tensor) -> Tensor:
        width = widths[tensor.name]
        return replace(tensor, width=width) if tensor.width == -1 and isinstance(width, int) else tensor

    return Graph(tuple(map(known, graph.inputs)), tuple(map(known, graph.outputs)))


def _tensor(path: Path, node: Any) -> Tensor:
    import onnx

    name = onnx.TensorProto.DataType.Name(node.type.tensor_type.elem_type)
    dims = node.type.tensor_type.shape.dim
    if name not in _TYPES or len(dims) != 2 or dims[0].dim_value:
        shape = [dim.dim_value or dim.dim_param or "?" for dim in dims]
        raise GateError(
            f"{path.name}: tensor {node.name!r} is {name} {shape}",
            accepted=f"[rows, width] of {', '.join(sorted(_TYPES))}",
        )
    return Tensor(node.name, _TYPES[name], dims[1].dim_value or -1)


def input_tensors(features: Mapping[str, str]) -> tuple[Tensor, ...]:
    """What a model of these features takes."""
    return tuple(
        Tensor(name, "TYPE_STRING" if kind == "string" else "TYPE_FP32", width(kind)) for name, kind in features.items()
    )


def answer_tensors(task: str, classes: Sequence[Any]) -> tuple[Tensor, ...]:
    """What a model of a task answers with, the numbers first."""
    numbers = Tensor(NUMBERS[task], "TYPE_FP32", len(classes) if task == "multiclass" else 1)
    if task == "regression":
        return (numbers,)
    return (numbers, Tensor(LABEL, "TYPE_STRING" if isinstance(classes[0], str) else "TYPE_INT64", 1))


def check_chain(
    graphs: Mapping[str, Graph], features: Mapping[str, str], task: str = "binary", classes: Sequence[Any] = (0, 1)
) -> None:
    """Make sure that `pre`, `model` and `post` fit the features, each other, and the answer that clients expect.

    Raises:
        GateError: a name, a type or a width does not fit; says which and between what.
    """
    raw = input_tensors(features)
    _fits("the features", raw, "pre.onnx", graphs["pre"].inputs)
    _fits("pre.onnx", graphs["pre"].inputs, "the model", raw)
    _fits("pre.onnx", graphs["pre"].outputs, "model.onnx", graphs["model"].inputs)
    _fits("model.onnx", graphs["model"].outputs, "post.onnx", graphs["post"].inputs)
    _fits("post.onnx", graphs["post"].outputs, "the answer", answer_tensors(task, classes))


def _fits(giver: str, given: Sequence[Tensor], taker: str, taken: Sequence[Tensor]) -> None:
    known = {tensor.name: tensor for tensor in given}
    for wanted in taken:
        found = known.get(wanted.name)
        if found is None:
            raise GateError(f"{taker} takes {wanted.name!r}, which {giver} lacks", accepted=", ".join(sorted(known)))
        if found.type != wanted.type:
            raise GateError(
                f"{taker} takes {wanted.name!r} as {wanted.type}, but from {giver} it is {found.type}",
                next_step="look at how the notebook converts the model",
            )
        if -1 not in {found.width, wanted.width} and found.width != wanted.width:
            raise GateError(
                f"{taker} takes {wanted.name!r} with {wanted.width} columns, but from {giver} it has {found.width}"
            )


def part_config(
    name: str,
    graph: Graph,
    outputs: Sequence[str],
    target: str,
    settings: Triton = UNSET,
    samples: Sequence[Sample] = (),
) -> str:
    """`config.pbtxt` of the model that runs one graph.

    Args:
        name: the model's.
        graph: what its `model.onnx` takes and yields.
        outputs: those of its outputs that anybody reads.
        target: `auto` or `full`.
        settings: the project's, as far as they are for this part (`components.serve_settings.of_part`).
        samples: the rows that it is warmed up with: input -> `[1, width]`.
    """
    from tritonclient.grpc import model_config_pb2 as proto

    config = proto.ModelConfig(
        name=name,
        backend=BACKENDS[target],
        max_batch_size=MAX_ROWS,
        input=[_input(tensor) for tensor in graph.inputs],
        output=[_output(tensor) for tensor in graph.outputs if tensor.name in outputs],
    )
    put(config, settings)
    if settings.model_warmup:
        put_warmup(config, settings.model_warmup, samples)
    if target == "full":
        config.default_model_filename = "model.onnx"
        config.parameters["intra_op_thread_count"].string_value = "1"
        config.parameters["inter_op_thread_count"].string_value = "1"
    else:
        config.parameters["intra_op_threads"].string_value = "1"  # read by components/adapters/triton_model.py
    return _text(config)


def ensemble_config(name: str, parts: Mapping[str, str], graphs: Mapping[str, Graph], settings: Triton = UNSET) -> str:
    """`config.pbtxt` of the ensemble that feeds raw inputs through the parts.

    Args:
        name: the ensemble's.
        parts: `pre`, `model`, `post`, in this order, or `fused` alone -> the name of the model that runs it.
        graphs: the same -> what it takes and yields.
        settings: the project's.
    """
    from tritonclient.grpc import model_config_pb2 as proto

    steps, before = [], ""
    first, last = next(iter(parts)), list(parts)[-1]
    for part, model in parts.items():
        taken = {tensor.name: f"{before}{tensor.name}" for tensor in graphs[part].inputs}
        before = "" if part == last else f"{part}."
        given = {output: f"{before}{output}" for output in read_outputs(part, graphs)}
        steps.append(proto.ModelEnsembling.Step(model_name=model, model_version=-1, input_map=taken, output_map=given))
    config = proto.ModelConfig(
        name=name,
        platform="ensemble",
        max_batch_size=MAX_ROWS,
        input=[_input(tensor) for tensor in graphs[first].inputs],
        output=[_output(tensor) for tensor in graphs[last].outputs if tensor.name in ANSWER],
        ensemble_scheduling=proto.ModelEnsembling(step=steps),
    )
    put_whole(config, settings)
    return _text(config)


def renamed(config: str, name: str, *, cached: bool = True) -> str:
    """The same `config.pbtxt` for a model of another name; not `cached`: without the server's memory of answers."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as proto

    message = text_format.Parse(config, proto.ModelConfig())
    message.name = name
    if not cached:
        message.ClearField("response_cache")
    return _text(message)


def marked(config: str, mark: str) -> str:
    """The same configuration as JSON, with a parameter that makes it another where the mark is another."""
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2 as proto

    message = text_format.Parse(config, proto.ModelConfig())
    message.parameters["files"].string_value = mark
    return str(json_format.MessageToJson(message, preserving_proto_field_name=True))


def read_outputs(part: str, graphs: Mapping[str, Graph]) -> list[str]:
    """Those outputs of a part that the next one, or the client, reads."""
    following = {"pre": "model", "model": "post"}
    wanted = {tensor.name for tensor in graphs[following[part]].inputs} if part in following else ANSWER
    return [tensor.name for tensor in graphs[part].outputs if tensor.name in wanted]


def _input(tensor: Tensor) -> Any:
    from tritonclient.grpc import model_config_pb2 as proto

    return proto.ModelInput(name=tensor.name, data_type=proto.DataType.Value(tensor.type), dims=[tensor.width])


def _output(tensor: Tensor) -> Any:
    from tritonclient.grpc import model_config_pb2 as proto

    return proto.ModelOutput(name=tensor.name, data_type=proto.DataType.Value(tensor.type), dims=[tensor.width])


def _text(config: Any) -> str:
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))
