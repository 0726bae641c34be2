"""PyTorch to ONNX, by PyTorch's own exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.adapters.converters import dense, joined
from components.adapters.onnx_build import finished
from components.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, ValueInfoProto

OPSET = 18
"""The oldest that PyTorch's exporter writes without translating back."""
ROWS = 3
"""Of the example that is traced: no number of rows, of classes or of columns that a module could take for its own."""


class TorchConverter:
    """A module from one tensor `[rows, width]` to one `[rows, classes]`; a classifier ends in a softmax."""

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        import torch

        info, *others = given
        width = info.type.tensor_type.shape.dim[1].dim_value or _width(part)
        if others or not width:
            raise ConfigError(
                f"a module of PyTorch is given {', '.join(one.name for one in given)}",
                accepted="one tensor, of a width that its first layer says",
                next_step="give it a `pre` that puts the numbers side by side, or no `pre` at all",
            )
        whole = info.type.tensor_type.elem_type == 7  # int64: ids, from a vocabulary
        example = torch.zeros((ROWS, width), dtype=torch.int64 if whole else torch.float32)
        quiet = logging.getLogger("torch.onnx")
        before, quiet.level = quiet.level, logging.ERROR
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.onnx.export(
                    _still(part),
                    (example,),
                    dynamo=True,
                    input_names=[info.name],
                    output_names=[output],
                    dynamic_shapes=[{0: torch.export.Dim("rows")}],
                    opset_version=OPSET,
                    verbose=False,
                )
        finally:
            quiet.level = before
        return finished(program.model_proto, "model", output=output, name=output)

    def answer(self, part: Any, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        import numpy as np
        import torch

        array = dense(joined(given))
        rows = array if np.issubdtype(array.dtype, np.integer) else array.astype(np.float32)
        with torch.inference_mode():
            return _still(part)(torch.from_numpy(np.ascontiguousarray(rows))).numpy()


def _still(part: Any) -> Any:
    """The module as it answers; one that comes from a file of `torch.export` knows no other way."""
    from contextlib import suppress

    with suppress(NotImplementedError):  # what `eval` of such a file's module raises: it stays as it was exported
        part.eval()
    return part


def _width(part: Any) -> int | None:
    """The width that the first layer takes."""
    return next((one.in_features for one in part.modules() if hasattr(one, "in_features")), None)
