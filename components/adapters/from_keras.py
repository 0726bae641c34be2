"""Keras to ONNX, by Keras' own exporter, on TensorFlow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.adapters.converters import dense, joined
from components.adapters.from_onnx import FileConverter

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, ValueInfoProto


class KerasConverter:
    """A model from one tensor `[rows, width]` to one `[rows, classes]`; a classifier ends in a softmax."""

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        import numpy as np

        part(np.zeros((1, part.input_shape[-1]), dtype=np.float32))  # one that was never called is not exported
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            part.export(path, format="onnx", verbose=False)
            return FileConverter().graph(path, given, output)

    def answer(self, part: Any, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        return part.predict(dense(joined(given)).astype("float32"), verbose=0)
