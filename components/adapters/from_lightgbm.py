"""LightGBM to ONNX, by onnxmltools, from cuts that are 32-bit floats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.adapters.converters import dense, joined
from components.adapters.onnx_build import OPSET, finished

if TYPE_CHECKING:
    import numpy.typing as npt
    from lightgbm import Booster
    from onnx import ModelProto, ValueInfoProto


class LightGBMConverter:
    """`LGBMClassifier`, `LGBMRegressor`, and a `Booster` as a file of LightGBM's holds it."""

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        booster = getattr(part, "booster_", part)
        types = [(given[0].name, FloatTensorType([None, booster.num_feature()]))]
        graph = convert_lightgbm(_with_float32_cuts(booster), initial_types=types, target_opset=OPSET[""], zipmap=False)
        outputs = [info.name for info in graph.graph.output]
        return finished(
            graph, "model", output="probabilities" if "probabilities" in outputs else outputs[0], name=output
        )

    def answer(self, part: Any, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        import numpy as np

        inputs = joined(given)
        if hasattr(part, "predict_proba"):
            return part.predict_proba(inputs)
        values = dense(part.predict(inputs))
        if not hasattr(part, "booster_") and part.dump_model(num_iteration=1)["objective"].startswith("binary"):
            return np.hstack([1 - values, values])
        return values


def _with_float32_cuts(booster: Booster) -> Booster:
    """The same function of 32-bit inputs, made of cuts that are 32-bit floats.

    LightGBM cuts between two values in 64 bits. The converter rounds the cut to the nearest 32-bit float, which may be
    the upper value, and its rows change sides. Rounded down, the cut parts the same rows: x <= cut, for each float32 x.
    """
    import lightgbm

    text = booster.model_to_string()
    text = re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE)  # byte counts, which no longer hold
    text = re.sub(r"^threshold=(.*)$", lambda found: f"threshold={_rounded_down(found[1])}", text, flags=re.MULTILINE)
    return lightgbm.Booster(model_str=text)


def _rounded_down(numbers: str) -> str:
    import numpy as np

    exact = np.array(numbers.split(), dtype=np.float64)
    near = exact.astype(np.float32)
    down = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
    return " ".join(repr(float(number)) for number in down)
