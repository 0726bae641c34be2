"""LightGBM to ONNX, by onnxmltools, from cuts that are 32-bit floats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.adapters.converters import dense, joined
from components.adapters.onnx_build import OPSET, finished

if TYPE_CHECKING:
    import numpy.typing as npt
    from lightgbm import Booster, LGBMModel
    from onnx import ModelProto, ValueInfoProto


class LightGBMConverter:
    """`LGBMClassifier` and `LGBMRegressor`."""

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        types = [(given[0].name, FloatTensorType([None, part.n_features_in_]))]
        graph = convert_lightgbm(_with_float32_cuts(part), initial_types=types, target_opset=OPSET[""], zipmap=False)
        made = "probabilities" if hasattr(part, "predict_proba") else graph.graph.output[0].name
        return finished(graph, "model", output=made, name=output)

    def answer(self, part: Any, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        inputs = joined(given)
        return part.predict_proba(inputs) if hasattr(part, "predict_proba") else dense(part.predict(inputs))


def _with_float32_cuts(model: LGBMModel) -> Booster:
    """The same function of 32-bit inputs, made of cuts that are 32-bit floats.

    LightGBM cuts between two values in 64 bits. The converter rounds the cut to the nearest 32-bit float, which may be
    the upper value, and its rows change sides. Rounded down, the cut parts the same rows: x <= cut, for each float32 x.
    """
    import lightgbm

    text = model.booster_.model_to_string()
    text = re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE)  # byte counts, which no longer hold
    text = re.sub(r"^threshold=(.*)$", lambda found: f"threshold={_rounded_down(found[1])}", text, flags=re.MULTILINE)
    return lightgbm.Booster(model_str=text)


def _rounded_down(numbers: str) -> str:
    import numpy as np

    exact = np.array(numbers.split(), dtype=np.float64)
    near = exact.astype(np.float32)
    down = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
    return " ".join(repr(float(number)) for number in down)
