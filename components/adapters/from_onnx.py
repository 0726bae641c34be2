"""An ONNX file that is there already: its tensors get the names of the place that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.adapters.onnx_build import finished, renamed
from components.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, ValueInfoProto

MOST = 1 << 30
"""Bytes of one file: protobuf holds no more than twice that."""


class FileConverter:
    """The path of an ONNX file, whose weights are inside, and whose one output is wanted."""

    def graph(self, part: Path, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        model = load(part)
        taken = _inputs(model)
        names = [info.name for info in given]
        if len(taken) != len(names) or (len(names) > 1 and set(taken) != set(names)):
            raise ConfigError(f"{part.name} takes {', '.join(taken)}", accepted=", ".join(names))
        if len(names) == 1:
            model = renamed(model, "file/", {taken[0]: names[0]})
        found = _answer(model, part)
        return finished(model, output, output=found.name, name=output, kind=found.type.tensor_type.elem_type)

    def answer(self, part: Path, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        from components.adapters.onnx_graphs import session

        model, own = load(part), session(part)
        wanted = [node.name for node in own.get_inputs()]
        feed = given if len(wanted) > 1 else {wanted[0]: next(iter(given.values()))}
        return own.run([_answer(model, part).name], {name: _single(feed[name]) for name in wanted})[0]


def _single(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers as graphs of ours carry them."""
    import numpy as np

    return array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else array


def load(path: Path) -> ModelProto:
    """The model in a file, if it is whole and checks.

    Raises:
        ConfigError: it is not.
    """
    import onnx

    if not path.is_file():
        raise ConfigError(f"no file {path}", accepted="the path of an ONNX file")
    if path.stat().st_size > MOST:
        raise ConfigError(f"{path.name} has {path.stat().st_size:,} bytes", accepted=f"up to {MOST:,}")
    try:
        model = onnx.load(path, load_external_data=False)
        elsewhere = any(one.data_location == onnx.TensorProto.EXTERNAL for one in model.graph.initializer)
        if not elsewhere:
            onnx.checker.check_model(model)
    except Exception as error:  # protobuf's, and the checker's
        raise ConfigError(f"{path.name} is not ONNX: {str(error).strip().splitlines()[0]}") from error
    if elsewhere:
        raise ConfigError(f"{path.name} keeps its weights in other files", accepted="one file that holds all of it")
    return model


def _inputs(model: ModelProto) -> list[str]:
    fixed = {one.name for one in model.graph.initializer}
    return [info.name for info in model.graph.input if info.name not in fixed]


def _answer(model: ModelProto, path: Path) -> ValueInfoProto:
    """The output that counts: the only one, or `probabilities`, as converters call it beside their label."""
    outputs: dict[str, ValueInfoProto] = {info.name: info for info in model.graph.output}
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    if "probabilities" not in outputs:
        raise ConfigError(
            f"{path.name} yields {', '.join(outputs)}", accepted="one tensor, or several with one `probabilities`"
        )
    return outputs["probabilities"]
