"""scikit-learn to ONNX, by skl2onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.adapters.converters import dense
from components.adapters.onnx_build import OPSET, finished
from components.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, ValueInfoProto


class SklearnConverter:
    """Transformers, classifiers and regressors, and pipelines of them."""

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        from onnx import TensorProto
        from skl2onnx import convert_sklearn
        from skl2onnx.common import data_types

        kinds: dict[int, Any] = {
            TensorProto.FLOAT: data_types.FloatTensorType,
            TensorProto.INT64: data_types.Int64TensorType,
            TensorProto.STRING: data_types.StringTensorType,
        }
        types = []
        for info in given:
            width = info.type.tensor_type.shape.dim[1].dim_value or part.n_features_in_
            types.append((info.name, kinds[info.type.tensor_type.elem_type]([None, width])))
        classifier = hasattr(part, "predict_proba")
        graph = convert_sklearn(
            part,
            initial_types=types,
            target_opset=OPSET,
            **({"options": {"zipmap": False}} if classifier else {}),
        )
        made = "probabilities" if classifier else graph.graph.output[0].name
        return finished(graph, "model" if output == "scores" else "pre", output=made, name=output)

    def answer(self, part: Any, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        inputs = _inputs(part, given)
        if hasattr(part, "predict_proba"):
            return part.predict_proba(inputs)
        return part.transform(inputs) if hasattr(part, "transform") else dense(part.predict(inputs))


def _inputs(part: Any, given: Mapping[str, Any]) -> Any:
    """A frame by name where the part was fitted on one, else the one matrix."""
    names = list(getattr(part, "feature_names_in_", ()))
    if names and set(names) <= set(given):
        import pandas as pd

        return pd.DataFrame({name: given[name].ravel() for name in given})
    if len(given) > 1:
        raise ConfigError(
            f"{type(part).__name__} was not fitted on the columns {', '.join(given)} by name",
            accepted="a part fitted on t.inputs(t.train)",
        )
    return next(iter(given.values()))
