"""A graph for small devices: smaller weights, what it is made of, and where it comes from, written into the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy.typing as npt

LEAST: Final = 256
"""Numbers in a table of weights that is worth a node more."""


def float16(graph: bytes) -> bytes:
    """`graph` with its large tables of weights as 16-bit floats, which are made 32-bit ones when it is loaded.

    The sums stay in 32 bits: processors without 16-bit floats, and WebAssembly is one, would turn each one to and fro.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(graph)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        name, weights = tensor.name, numpy_helper.to_array(tensor)
        if weights.size < LEAST or not (np.abs(weights) <= np.finfo(np.float16).max).all():
            continue
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}/float16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=tensor.name, to=TensorProto.FLOAT))
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *kept])
    return _whole(model)


def int8(graph: bytes) -> bytes:
    """`graph` with its tables of weights as 8-bit whole numbers, by ONNX Runtime's dynamic quantisation.

    They are unsigned: of signed ones, processors without VNNI clip the sums, and would answer otherwise than others do.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load_from_string(graph)
    made_ready = model.metadata_props.add()  # else it recommends to, in the log: there is nothing to make ready here
    made_ready.key, made_ready.value = "onnx.quant.pre_process", "onnxruntime.quant"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(model, path, weight_type=QuantType.QUInt8)
        small = onnx.load(path)
    kept = [entry for entry in small.metadata_props if not entry.key.startswith("onnx.")]
    del small.metadata_props[:]
    small.metadata_props.extend(kept)
    small.producer_name, small.producer_version = "trilha", ""
    return _whole(small)


SMALLER: Final[Mapping[str, Callable[[bytes], bytes]]] = {"float16": float16, "int8": int8}
"""Name -> how the weights become smaller."""


def stamped(graph: bytes, facts: Mapping[str, str]) -> bytes:
    """`graph` with facts about itself, which every ONNX Runtime shows."""
    import onnx
    from onnx import helper

    model = onnx.load_from_string(graph)
    helper.set_model_props(model, dict(facts))
    return _whole(model)


def operators(graph: bytes) -> tuple[dict[str, int], dict[str, int]]:
    """Operator, with its domain -> how often; domain -> the version of its operators."""
    import onnx

    model = onnx.load_from_string(graph)
    counted = Counter(f"{node.domain or 'ai.onnx'}.{node.op_type}" for node in model.graph.node)
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    return dict(sorted(counted.items())), versions


def answer_one_by_one(graph: bytes, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """A graph's answers, each row asked by itself, as a device asks.

    Dynamic quantisation scales by what comes in together, so that a row among others may be answered otherwise.
    """
    import numpy as np

    from components.adapters.onnx_graphs import session

    own = session(graph)
    names, wanted = [node.name for node in own.get_outputs()], [node.name for node in own.get_inputs()]
    rows = len(next(iter(inputs.values())))
    found = [own.run(names, {name: inputs[name][row : row + 1] for name in wanted}) for row in range(rows)]
    return {name: np.concatenate(column) for name, column in zip(names, zip(*found, strict=True), strict=True)}


def _whole(model: Any) -> bytes:
    import onnx

    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
