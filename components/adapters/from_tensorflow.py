"""TensorFlow to ONNX, by tf2onnx: a SavedModel, by the signature that TensorFlow Serving answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from components.adapters.converters import dense, joined
from components.adapters.model_files import SAVED
from components.adapters.onnx_build import FLOAT, INT64, OPSET, finished, renamed, tensor
from components.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, ValueInfoProto

SIGNATURE: Final = "serving_default"
FORBIDDEN: Final = frozenset({
    "DebugIdentityV2", "EagerPyFunc", "MatchingFiles", "PrintV2", "PyFunc", "PyFuncStateless", "ReadFile",
    "RegisterDataset", "WriteAudioSummary", "WriteFile", "WriteSummary",
})  # fmt: skip
"""Operators that reach beyond the model: files of this machine, and Python."""


def load(folder: Path) -> Any:
    """The SavedModel in a folder.

    Raises:
        ConfigError: an operator in it reads or writes files, or runs Python; nothing of it has run.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    said = saved_model_pb2.SavedModel()
    said.ParseFromString((folder / SAVED).read_bytes())
    graphs = [one.graph_def for one in said.meta_graphs]
    nodes = [graph.node for graph in graphs] + [one.node_def for graph in graphs for one in graph.library.function]
    odd = sorted({node.op for some in nodes for node in some} & FORBIDDEN)
    if odd:
        raise ConfigError(
            f"{folder.name} has the operators {', '.join(odd)}", accepted="a model that touches its tensors alone"
        )
    return tf.saved_model.load(folder)


def taken(part: Any) -> list[ValueInfoProto]:
    """What a SavedModel takes: `features`, or several tensors under its own names."""
    specs = _signature(part)[1]
    names = ["features"] if len(specs) == 1 else list(specs)
    kinds = [INT64 if spec.dtype.is_integer else FLOAT for spec in specs.values()]
    return [tensor(name, kind, None) for name, kind in zip(names, kinds, strict=True)]


class TensorFlowConverter:
    """What `tf.saved_model.load` gives, from `[rows, width]`, whatever a row's shape is to it, to `[rows, classes]`.

    A classifier ends in a softmax. Of several outputs the one called `probabilities` counts.
    """

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        import tensorflow as tf
        import tf2onnx

        function, specs = _signature(part)
        infos = _by_name(specs, {info.name: info for info in given})
        asked = [
            tf.TensorSpec([None, _width(name, spec, infos[name])], _kind(infos[name]), name=f"given_{place}")
            for place, (name, spec) in enumerate(specs.items())
        ]

        def answer(*tensors: Any) -> Any:
            rows = {
                name: tf.reshape(tf.cast(one, spec.dtype), _row(spec, one.shape[1]))
                for (name, spec), one in zip(specs.items(), tensors, strict=True)
            }
            found = _answer(function(**rows))
            return {"found": tf.reshape(tf.cast(found, tf.float32), [tf.shape(found)[0], -1])}

        traced = tf.function(answer, input_signature=asked, autograph=False)
        made, _ = tf2onnx.convert.from_function(traced, input_signature=asked, opset=OPSET[""])
        names = {f"given_{place}": infos[name].name for place, name in enumerate(specs)}
        found = made.graph.output[0].name
        return finished(renamed(made, "saved/", names), "model", output=found, name=output)

    def answer(self, part: Any, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        import tensorflow as tf

        function, specs = _signature(part)
        rows = _by_name(specs, given if len(specs) > 1 else {"": joined(given)})
        flat = {name: dense(array) for name, array in rows.items()}
        asked = {
            name: tf.constant(flat[name].reshape(_row(spec, flat[name].shape[1])), spec.dtype)
            for name, spec in specs.items()
        }
        return dense(_answer(function(**asked)).numpy())


def _signature(part: Any) -> tuple[Any, dict[str, Any]]:
    """What answers, and the tensors that it takes, by name; each `[rows, ...]` of numbers."""
    known = getattr(part, "signatures", {})
    if SIGNATURE not in known:
        raise ConfigError(
            f"a model of TensorFlow's with the signatures {', '.join(known) or 'none'}",
            accepted=f"a SavedModel with {SIGNATURE}",
            next_step="tf.saved_model.save(module, folder, signatures=...), and give its folder",
        )
    specs = dict(sorted(known[SIGNATURE].structured_input_signature[1].items()))
    for name, spec in specs.items():
        numbers = spec.dtype.is_floating or spec.dtype.is_integer
        if not numbers or spec.shape.rank is None or spec.shape.rank < 2 or spec.shape[0] is not None:
            raise ConfigError(
                f"the SavedModel takes {name!r} as {spec.dtype.name} {spec.shape}",
                accepted="numbers, any number of rows: TensorSpec([None, width], tf.float32)",
            )
    return known[SIGNATURE], specs


def _by_name(specs: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given for each tensor; for the only one, the only one."""
    if len(specs) == len(given) == 1:
        return dict(zip(specs, given.values(), strict=True))
    if specs.keys() != given.keys():
        raise ConfigError(f"the SavedModel takes {', '.join(specs)}", accepted=", ".join(given))
    return {name: given[name] for name in specs}


def _width(name: str, spec: Any, info: ValueInfoProto) -> int:
    """The numbers of a row, which the signature says, or what is given."""
    given = info.type.tensor_type.shape.dim[1].dim_value
    own = prod(spec.shape[1:]) if spec.shape[1:].is_fully_defined() else None
    if own is None and (spec.shape.rank > 2 or not given):
        raise ConfigError(
            f"the SavedModel takes {name!r} as {spec.shape}", accepted="a shape whose rows say their size"
        )
    if own and given and own != given:
        raise ConfigError(
            f"the SavedModel takes {own} numbers a row as {name!r}", accepted=f"{given}, as they are given"
        )
    return int(own or given)


def _kind(info: ValueInfoProto) -> Any:
    import tensorflow as tf

    return tf.int64 if info.type.tensor_type.elem_type == INT64 else tf.float32


def _row(spec: Any, width: int) -> list[int]:
    """The shape that the model knows rows in."""
    return [-1, *(width if one is None else one for one in spec.shape[1:])]


def _answer(found: Mapping[str, Any]) -> Any:
    """The output that counts: the only one, or `probabilities`."""
    if len(found) == 1:
        return next(iter(found.values()))
    if "probabilities" not in found:
        raise ConfigError(
            f"the SavedModel yields {', '.join(sorted(found))}",
            accepted="one tensor, or several with one `probabilities`",
        )
    return found["probabilities"]
