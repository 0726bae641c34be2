"""From a part of a model, as its framework has it, to an ONNX graph: who converts what, and what it takes to install.

A framework joins with a class that has the two methods of `Converter`, a function here that imports it, and a line in
`CONVERTERS`. No conversion is trusted: whoever saves a model compares the graph with `answer`, row by row.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from components.errors import ConfigError, TrilhaError
from components.python_part import is_part

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, ValueInfoProto

    Tensors = Mapping[str, npt.NDArray[Any]]


class Converter(Protocol):
    """What Trilha knows of a framework."""

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        """A fitted part as a graph.

        Args:
            part: the framework's own object.
            given: the tensors that the graph takes, `[rows, width]` each.
            output: the name of the one tensor that it yields.
        """

    def answer(self, part: Any, given: Tensors) -> Any:
        """What the framework itself makes of the tensors that the graph takes: an array of as many rows."""


class PythonConverter:
    """A class of the project's own, which becomes no graph."""

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        """Refuse: only whole places are run in Python."""
        raise ConfigError(
            f"{type(part).__name__} is a Python class, and becomes no graph of {', '.join(one.name for one in given)}",
            accepted="a place of its own, `pre` or `model`, and not in a list",
            next_step=f"let it yield {output} by itself",
        )

    def answer(self, part: Any, given: Tensors) -> Any:
        """What it answers."""
        return part({name: dense(array) for name, array in given.items()})


def _keras() -> Converter:
    from components.adapters.from_keras import KerasConverter

    return KerasConverter()


def _lightgbm() -> Converter:
    from components.adapters.from_lightgbm import LightGBMConverter

    return LightGBMConverter()


def _onnx() -> Converter:
    from components.adapters.from_onnx import FileConverter

    return FileConverter()


def _servable() -> Converter:
    from components.adapters.from_servable import ServableConverter

    return ServableConverter()


def _sklearn() -> Converter:
    from components.adapters.from_sklearn import SklearnConverter

    return SklearnConverter()


def _tensorflow() -> Converter:
    from components.adapters.from_tensorflow import TensorFlowConverter

    return TensorFlowConverter()


def _torch() -> Converter:
    from components.adapters.from_torch import TorchConverter

    return TorchConverter()


def _xgboost() -> Converter:
    from components.adapters.from_xgboost import XGBoostConverter

    return XGBoostConverter()


CONVERTERS: Final[dict[str, Callable[[], Converter]]] = {
    "components": _servable,
    "keras": _keras,
    "lightgbm": _lightgbm,
    "pathlib": _onnx,
    "sklearn": _sklearn,
    "tensorflow": _tensorflow,
    "torch": _torch,
    "xgboost": _xgboost,
}
"""Package that a part's class, or one that it descends from, comes from -> its converter, imported when needed."""

NEEDS: Final[dict[str, tuple[str, str]]] = {
    "keras": ("tf2onnx", "keras"),
    "tensorflow": ("tf2onnx", "keras"),
    "torch": ("onnxscript", "torch"),
}
"""Package -> what its conversion needs beside it, and the extra that brings both."""

ACCEPTED = (
    "a fitted object of keras, lightgbm, scikit-learn, torch or xgboost, a SavedModel of tensorflow, the path of a "
    "file that one of them or ONNX wrote, a servable of components.servables, a list of these, or a class of the "
    "project's own (components.python_part)"
)


def converter_of(part: Any) -> Converter:
    """The converter of a part, by the package that its class, or one that it descends from, comes from.

    Raises:
        ConfigError: nobody converts it, or a package that it takes is not installed.
    """
    for base in type(part).__mro__:
        package = base.__module__.split(".", 1)[0]
        if package in CONVERTERS:
            needed, extra = NEEDS.get(package, ("", ""))
            if needed and importlib.util.find_spec(needed) is None:
                raise ConfigError(
                    f"to convert a model of {package}, {needed} is not installed",
                    next_step=f"pip install 'trilha[{extra}]'",
                )
            return CONVERTERS[package]()
    if is_part(part):
        return PythonConverter()
    raise ConfigError(
        f"no conversion to ONNX for {type(part).__module__}.{type(part).__name__}",
        accepted=ACCEPTED,
        next_step="use another one in the notebook, or do that work in features.sql",
    )


def graph_of(part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
    """A part, or several in a list one after the other, as one graph.

    Raises:
        ConfigError: a part is not converted.
    """
    from components.adapters.onnx_build import chained

    parts = part if isinstance(part, list | tuple) else [part]
    graphs: list[ModelProto] = []
    for place, one in enumerate(parts):
        name = output if place == len(parts) - 1 else f"{output}_{place}"
        try:
            graphs.append(converter_of(one).graph(one, given, name))
        except TrilhaError:
            raise
        except Exception as error:  # the converters' errors have no common class
            raise ConfigError(
                f"no conversion to ONNX: {_first_line(error)}",
                accepted=ACCEPTED,
                next_step="use another one in the notebook, or do that work in features.sql",
            ) from error
        given = list(graphs[-1].graph.output)
    return chained(graphs, output)


def answer_of(part: Any, given: Tensors) -> Any:
    """What the framework, or several one after the other, makes of tensors."""
    parts = part if isinstance(part, list | tuple) else [part]
    found: Any = None
    for place, one in enumerate(parts):
        found = converter_of(one).answer(one, given)
        given = {f"step_{place}": found}
    return found


def dense(values: Any) -> npt.NDArray[Any]:
    """An array `[rows, width]`, from what frameworks yield: a sparse matrix, a frame, a column; of several the last."""
    import numpy as np

    if inspect.isgenerator(values):
        *_, values = values
    array = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return array.reshape(len(array), -1)


def joined(given: Tensors) -> Any:
    """The one thing that a model is asked with: the tensor as it is, or several of numbers side by side."""
    import numpy as np

    arrays = list(given.values())
    return arrays[0] if len(arrays) == 1 else np.concatenate([dense(array) for array in arrays], axis=1)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
