"""Vocabularies, embedding tables and lookups to ONNX: graphs made of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.adapters.converters import dense, joined
from components.adapters.onnx_build import OPSET, made, renamed, tensor
from components.errors import ConfigError
from components.servables import FIRST, NOTHING, UNKNOWN, Embedding, Lookup, Vocabulary

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, ValueInfoProto

GIVEN, FOUND = "given", "found"
"""What a graph takes and yields before it gets the names of its place."""
SPLITS = {"": 20, "ai.onnx.ml": 3}
"""What can take a text apart: ONNX Runtime 1.17 and later, Triton 24.02 and later."""


class ServableConverter:
    """`Vocabulary`, `Embedding` and `Lookup`."""

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        from onnx import TensorProto

        wanted = TensorProto.INT64 if isinstance(part, Embedding) else TensorProto.STRING
        if len(given) != 1 or given[0].type.tensor_type.elem_type != wanted:
            raise ConfigError(
                f"{type(part).__name__} is given {', '.join(info.name for info in given)}",
                accepted="ids, one tensor" if isinstance(part, Embedding) else "text, one tensor",
            )
        length = given[0].type.tensor_type.shape.dim[1].dim_value or None
        if isinstance(part, Vocabulary):
            made_of = _vocabulary(part)
        elif isinstance(part, Embedding):
            made_of = _embedding(part, length)
        elif isinstance(part, Lookup):
            made_of = _lookup(part)
        else:
            raise ConfigError(
                f"no conversion to ONNX for {type(part).__name__}", accepted="Vocabulary, Embedding, Lookup"
            )
        return renamed(made_of, "servable/", {GIVEN: given[0].name, FOUND: output})

    def answer(self, part: Any, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        return part(dense(joined(given)))


def _vocabulary(part: Vocabulary) -> ModelProto:
    """Split at blanks, look each word up, and pad or cut to the length."""
    from onnx import TensorProto, helper

    words = ["", *part.words]
    nodes = [
        helper.make_node("Reshape", [GIVEN, "flat"], ["texts"]),
        helper.make_node("StringNormalizer", ["texts"], ["lower"], case_change_action="LOWER", locale="C"),
        helper.make_node("StringSplit", ["lower"], ["words", "count"]),
        helper.make_node(
            "LabelEncoder",
            ["words"],
            ["known"],
            domain="ai.onnx.ml",
            keys_strings=words,
            values_int64s=[NOTHING, *range(FIRST, FIRST + len(part.words))],
            default_int64=UNKNOWN,
        ),
        helper.make_node("Shape", [GIVEN], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["rows", "length"], ["padding_shape"], axis=0),
        helper.make_node(
            "ConstantOfShape", ["padding_shape"], ["padding"], value=helper.make_tensor("", TensorProto.INT64, [1], [0])
        ),
        helper.make_node("Concat", ["known", "padding"], ["padded"], axis=1),
        helper.make_node("Slice", ["padded", "zero", "length", "one"], [FOUND]),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [value])
        for name, value in {"flat": -1, "length": part.length, "zero": 0, "one": 1}.items()
    ]
    given, ids = tensor(GIVEN, TensorProto.STRING, 1), tensor(FOUND, TensorProto.INT64, part.length)
    return made("vocabulary", nodes, [given], [ids], constants, SPLITS)


def _embedding(part: Embedding, length: int | None) -> ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    rows, width = part.table.shape
    given = tensor(GIVEN, TensorProto.INT64, length)
    numbers = {"rows": rows, "nothing": NOTHING, "unknown": UNKNOWN, "zero": 0}
    constants = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in numbers.items()]
    constants.append(numpy_helper.from_array(part.table.astype("float32"), "table"))
    nodes = [
        helper.make_node("Less", [GIVEN, "rows"], ["below"]),
        helper.make_node("GreaterOrEqual", [GIVEN, "zero"], ["above"]),
        helper.make_node("And", ["below", "above"], ["inside"]),
        helper.make_node("Where", ["inside", GIVEN, "unknown"], ["ids"]),
        helper.make_node("Gather", ["table", "ids"], ["vectors"], axis=0),
    ]
    if part.pool is None:
        nodes.append(helper.make_node("Flatten", ["vectors"], [FOUND], axis=1))
        total = None if length is None else length * width
        return made("embedding", nodes, [given], [tensor(FOUND, TensorProto.FLOAT, total)], constants)
    constants += [
        helper.make_tensor("last", TensorProto.INT64, [1], [2]),
        helper.make_tensor("across", TensorProto.INT64, [1], [1]),
        helper.make_tensor("least", TensorProto.FLOAT, [1], [1.0]),
    ]
    nodes += [
        helper.make_node("Equal", [GIVEN, "nothing"], ["empty"]),
        helper.make_node("Not", ["empty"], ["there"]),
        helper.make_node("Cast", ["there"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["weight"]),
        helper.make_node("Mul", ["vectors", "weight"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "across"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "across"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "least"], ["divisor"]),
        helper.make_node("Div", ["sum", "divisor"], [FOUND]),
    ]
    return made("embedding", nodes, [given], [tensor(FOUND, TensorProto.FLOAT, width)], constants)


def _lookup(part: Lookup) -> ModelProto:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rows = np.vstack([part.values, part.default]).astype(np.float32)
    nodes = [
        helper.make_node(
            "LabelEncoder",
            [GIVEN],
            ["place"],
            domain="ai.onnx.ml",
            keys_strings=list(part.keys),
            values_int64s=list(range(len(part.keys))),
            default_int64=len(part.keys),
        ),
        helper.make_node("Reshape", ["place", "flat"], ["places"]),
        helper.make_node("Gather", ["rows", "places"], [FOUND], axis=0),
    ]
    constants = [helper.make_tensor("flat", TensorProto.INT64, [1], [-1]), numpy_helper.from_array(rows, "rows")]
    given, found = tensor(GIVEN, TensorProto.STRING, 1), tensor(FOUND, TensorProto.FLOAT, rows.shape[1])
    return made("lookup", nodes, [given], [found], constants, OPSET)
