"""Many rows through a bundle's graphs in this process: one graph, fed from Arrow without a Python object a row.

A text goes in by its place among the batch's distinct ones, and the graph itself puts the texts there: what would cost
two objects a row under Python's lock is done by ONNX Runtime, beside whatever else runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from components.errors import GateError

if TYPE_CHECKING:
    import numpy.typing as npt

    from components.adapters.onnx_build import Model

    Tensor = npt.NDArray[Any]

WORDS, PLACES = ".words", ".places"
"""Suffixes of the two tensors that take the place of a text input: `[distinct, 1]`, and `[rows]` of them."""
AT_ONCE: Final = 8_192
"""Rows in one run of the graph: what lies between its parts stays in the processor's cache."""


class OnnxScorer:
    """One graph, ready to be asked by several threads at once.

    Args:
        graph: the bundle's parts as one.
    """

    def __init__(self, graph: bytes) -> None:
        import onnx

        from components.adapters.onnx_graphs import session

        model = by_places(onnx.load_from_string(graph))
        self._session = session(model.SerializeToString())
        self._outputs = [one.name for one in self._session.get_outputs()]

    def __call__(self, coded: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The answers to rows that `components.model_inputs.to_coded` made.

        Raises:
            GateError: ONNX Runtime does not take them; its own words are in the error.
        """
        import numpy as np

        words = {name: array for name, array in coded.items() if name.endswith(WORDS)}
        rows = {name: array for name, array in coded.items() if name not in words}
        count = len(next(iter(rows.values())))
        answers = []
        try:
            for begin in range(0, count, AT_ONCE):
                some = {name: array[begin : begin + AT_ONCE] for name, array in rows.items()}
                answers.append(self._session.run(self._outputs, words | some))
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise GateError(f"ONNX Runtime: {error}", next_step="look at the release's graphs") from error
        return dict(zip(self._outputs, (np.concatenate(parts) for parts in zip(*answers, strict=True)), strict=True))


def by_places(model: Model) -> Model:
    """`model` with each text input as its distinct texts and each row's place among them."""
    from onnx import helper

    from components.adapters.onnx_build import INT64, STRING, tensor

    graph = model.graph
    for text in [one for one in graph.input if one.type.tensor_type.elem_type == STRING]:
        words, places = text.name + WORDS, text.name + PLACES
        graph.input.remove(text)
        place = tensor(places, INT64, None)
        del place.type.tensor_type.shape.dim[1:]
        graph.input.extend([tensor(words, STRING, 1), place])
        graph.node.insert(0, helper.make_node("Gather", [words, places], [text.name], axis=0))
    return model


def version() -> str:
    """Of ONNX Runtime."""
    import onnxruntime

    return str(onnxruntime.__version__)
