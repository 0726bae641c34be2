"""A servable straight from a file: a model, a vocabulary, an embedding table or a lookup, as a model for Triton.

There is no project, no data and no release behind it, so nothing is known of its answers but what its framework says:
both answer the same made-up rows here, and a file whose graph answers otherwise is refused.
"""

from __future__ import annotations

import inspect
import shutil
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from components.bundle import CONFIG, NO_CACHE, VERSION
from components.errors import ConfigError, GateError
from components.records import Place, Record
from components.servables import Embedding, Lookup, Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from components.adapters.onnx_build import Model

ROWS: Final = 256
"""Made-up rows that both answer."""
TOLERANCE: Final = 1e-5
"""Largest difference between the graph's answer and the framework's own; of a value beyond 1, a share."""


class Standalone(Record):
    """A model that Triton can load, and how it was checked."""

    model: str
    folder: Place
    inputs: dict[str, str]
    """Tensor -> Triton's type and the columns: `TYPE_FP32 [rows, 4]`."""
    outputs: dict[str, str]
    difference: float
    """Largest difference from the framework's own answers on made-up rows."""


def standalone(path: Path, name: str, into: Path, target: str = "auto") -> Standalone:
    """Write the model repository entry `into/name` for the servable in a file, or in a SavedModel's folder.

    Args:
        path: of a format that `components.adapters.model_files` knows.
        name: of the model, and of its folder.
        into: a model repository.
        target: `auto`, ONNX Runtime inside the Python backend; `full`, Triton's ONNX Runtime backend.

    Raises:
        ConfigError: the file is not accepted, or `into/name` is there already.
        GateError: its graph does not answer what its framework answers.
    """
    from components.adapters.converters import graph_of
    from components.adapters.model_files import load
    from components.adapters.triton_config import as_run, part_config, read_graph
    from components.adapters.triton_model import TritonPythonModel

    part = load(path)
    graph = _own(path) if isinstance(part, Path) else graph_of(part, *_place(part))
    difference = 0.0 if isinstance(part, Path) else _checked(part, graph, path)
    folder = into / name
    if folder.exists():
        raise ConfigError(f"{folder} is there already", accepted="a name that no model has")
    whole = folder.with_name(f".{name}.part")
    shutil.rmtree(whole, ignore_errors=True)
    (whole / VERSION).mkdir(parents=True)
    try:
        (whole / VERSION / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
        read = read_graph(whole / VERSION / "model.onnx")
        read = as_run(read, whole / VERSION / "model.onnx") if target == "full" else read
        (whole / CONFIG).write_text(part_config(name, read, [one.name for one in read.outputs], target))
        if target == "auto":
            shutil.copyfile(inspect.getfile(TritonPythonModel), whole / VERSION / "model.py")
            (whole / NO_CACHE).touch()
        whole.rename(folder)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    inputs, outputs = (
        {one.name: f"{one.type} [rows, {one.width}]" for one in ends} for ends in (read.inputs, read.outputs)
    )
    return Standalone(model=name, folder=str(folder), inputs=inputs, outputs=outputs, difference=difference)


def _own(path: Path) -> Model:
    """An ONNX file as it is; of one with a label beside its probabilities, as converters write them, the latter."""
    from components.adapters.from_onnx import FileConverter, load

    model = load(path)
    flat = any(len(info.type.tensor_type.shape.dim) != 2 for info in model.graph.output)
    if flat and "probabilities" in {info.name for info in model.graph.output}:
        return FileConverter().graph(path, list(model.graph.input), "probabilities")
    return model


def _place(part: Any) -> tuple[list[Any], str]:
    """What a part that stands alone takes, and the name of what it yields."""
    from components.adapters.from_tensorflow import taken
    from components.adapters.onnx_build import FLOAT, INT64, STRING, tensor

    if isinstance(part, Vocabulary):
        return [tensor("text", STRING, 1)], "ids"
    if isinstance(part, Embedding):
        return [tensor("ids", INT64, None)], "vectors"
    if isinstance(part, Lookup):
        return [tensor("key", STRING, 1)], "values"
    if hasattr(part, "signatures"):  # a SavedModel
        return taken(part), "scores"
    return [tensor("features", FLOAT, None)], "scores"


def _checked(part: Any, graph: Model, path: Path) -> float:
    """The largest difference on made-up rows.

    Raises:
        GateError: it is too large.
    """
    import numpy as np

    from components.adapters.converters import answer_of, dense
    from components.adapters.onnx_graphs import session

    opened = session(graph.SerializeToString())
    draw = np.random.default_rng(0)
    rows = {
        given.name: _made_up(
            part, given.shape[1] if isinstance(given.shape[1], int) else _width(part), draw, given.type
        )
        for given in opened.get_inputs()
    }
    found = opened.run(None, rows)[0]
    own = dense(answer_of(part, rows))
    gaps = np.abs(found.reshape(own.shape) - own) / np.maximum(1, np.abs(own))
    if not (gaps <= TOLERANCE).all():
        raise GateError(
            f"{path.name}: as ONNX it is off its framework's own answers by up to {gaps.max():.3g} on made-up rows",
            accepted=f"up to {TOLERANCE:g}",
            next_step="export it as ONNX where it was made, and compare there",
        )
    return float(gaps.max())


def _width(part: Any) -> int:
    """The columns that a part takes, where its graph does not say."""
    if isinstance(part, Embedding):
        return 6
    shape = getattr(part, "input_shape", None)
    return prod(shape[1:]) if shape else int(part.n_features_in_)


def _made_up(part: Any, width: int, draw: np.random.Generator, kind: str) -> npt.NDArray[Any]:
    """Rows to ask: texts of known and unknown words, ids inside and outside the table, numbers small and large.

    Of the whole numbers that a model takes nothing is known: 0 and 1 are ids of any table.
    """
    import numpy as np

    if isinstance(part, Vocabulary):
        words = draw.choice([*part.words, "unheard-of", "UPPER"], (ROWS, 2 * part.length))
        texts = [" ".join(row[: draw.integers(0, len(row))]) for row in words]
        return np.array(texts, dtype=np.object_).reshape(-1, 1)
    if isinstance(part, Embedding):
        return np.asarray(draw.integers(-1, len(part.table) + 1, (ROWS, width)))
    if isinstance(part, Lookup):
        keys = [*part.keys, "unheard-of", ""]
        return np.array([keys[place] for place in draw.integers(0, len(keys), ROWS)], dtype=np.object_).reshape(-1, 1)
    if kind == "tensor(int64)":
        return np.asarray(draw.integers(0, 2, (ROWS, width)))
    return np.asarray(draw.normal(size=(ROWS, width)) * draw.choice([1, 10, 1000], (ROWS, 1)), dtype=np.float32)
