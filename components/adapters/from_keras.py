"""Keras to ONNX, by Keras' own exporter, on TensorFlow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.adapters.converters import dense, joined
from components.adapters.from_onnx import FileConverter
from components.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, ValueInfoProto


class KerasConverter:
    """A model from one tensor to one `[rows, classes]`; a classifier ends in a softmax.

    It is given `[rows, width]`, whatever the shape of a row is to it: a picture's pixels come side by side.
    """

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        import numpy as np

        flat = _flat(part)
        flat(np.zeros((1, flat.input_shape[-1]), dtype=np.float32))  # one that was never called is not exported
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            flat.export(path, format="onnx", verbose=False)
            return FileConverter().graph(path, given, output)

    def answer(self, part: Any, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        return _flat(part).predict(dense(joined(given)).astype("float32"), verbose=0)


def _flat(part: Any) -> Any:
    """The model, with its row's numbers side by side."""
    import keras

    shape = part.input_shape
    if not isinstance(shape, tuple) or None in shape[1:]:
        raise ConfigError(f"a model of Keras that takes {shape}", accepted="one tensor whose rows say their size")
    if len(shape) == 2:
        return part
    return keras.Sequential([keras.layers.Input((prod(shape[1:]),)), keras.layers.Reshape(shape[1:]), part])
