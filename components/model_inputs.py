"""The one rule for what a model sees, the same when it learns, when it is checked and when it serves.

A `string` column is text, and a missing one is the empty string. A `double` or a `bigint` is a 32-bit float, and a
missing one is NaN. A `double[N]` is an array of N such floats (an image, say), and a missing one is N times NaN.
Served, that is a BYTES and an FP32 tensor of shape `[rows, 1]`, and an FP32 tensor of shape `[rows, N]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.answers import answer_names, matrix

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

TYPES = ("string", "double", "bigint", "double[N]")
"""The types of `Prepared.features`."""

BETWEEN = frozenset({"features", "scores"})
"""Names of the tensors between the three graphs, which no input may have; nor may it have one of the answer's."""


def reserved(task: str) -> frozenset[str]:
    """Names that no input of a task may have."""
    return BETWEEN | set(answer_names(task))


def width(kind: str) -> int:
    """The columns of a feature's tensor."""
    return int(kind[len("double[") : -1]) if kind.endswith("]") else 1


def is_array(kind: str) -> bool:
    """Whether a feature of this type is an array of numbers."""
    return kind.endswith("]")


def to_frame(table: pa.Table, features: Mapping[str, str]) -> pd.DataFrame:
    """`table` as a frame whose feature columns follow the rule; other columns stay as they are.

    An array is a NumPy array in a column of objects.
    """
    import pandas as pd

    others = table.drop_columns(list(features)).to_pandas(date_as_object=False)
    columns = {name: _column(table[name], kind) for name, kind in features.items()}
    columns = {name: _objects(array) if array.ndim == 2 else array for name, array in columns.items()}
    frame: pd.DataFrame = pd.concat([others, pd.DataFrame(columns, index=others.index)], axis=1)[table.column_names]
    return frame


def to_tensors(table: pa.Table, features: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """The feature columns of `table` as arrays `[rows, width]`: `object` with `str`, or `float32`."""
    return {name: _column(table[name], kind).reshape(-1, width(kind)) for name, kind in features.items()}


def to_coded(table: pa.Table, features: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """What `to_tensors` yields, but a text as its distinct ones, `NAME.words`, and each row's place, `NAME.places`."""
    import numpy as np

    made: dict[str, npt.NDArray[Any]] = {}
    for name, kind in features.items():
        if kind == "string":
            coded = _coded(table[name])
            made[f"{name}.words"] = coded.dictionary.to_numpy(zero_copy_only=False).reshape(-1, 1)
            made[f"{name}.places"] = coded.indices.to_numpy().astype(np.int64)
        else:
            made[name] = _column(table[name], kind).reshape(-1, width(kind))
    return made


def _coded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Texts as each distinct one once; a missing one is empty."""
    import pyarrow.compute as pc

    coded = pc.fill_null(column, "").combine_chunks()
    return coded.dictionary_encode()


def frame_to_tensors(frame: pd.DataFrame, features: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """What `to_tensors` yields, from a frame that `to_frame` made."""
    return {name: _tensor(frame[name].to_numpy()) for name in features}


def tensors_to_inputs(tensors: Mapping[str, npt.NDArray[Any]]) -> pd.DataFrame | npt.NDArray[Any]:
    """What a model of scikit-learn's kind is fitted on: a frame of columns, or the matrix of the one array."""
    import pandas as pd

    if len(tensors) == 1:
        (array,) = tensors.values()
        if array.shape[1] > 1:
            return array
    return pd.DataFrame(
        {name: array[:, 0] if array.shape[1] == 1 else _objects(array) for name, array in tensors.items()}
    )


def _tensor(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    import numpy as np

    if column.dtype == np.object_ and len(column) and isinstance(column[0], np.ndarray):
        return np.stack(list(column))
    return column.reshape(-1, 1)


def _objects(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`[rows, width]` as one object a row."""
    import numpy as np

    column = np.empty(len(rows), dtype=np.object_)
    column[:] = list(rows)
    return column


def column_tensor(values: Sequence[Any], kind: str) -> npt.NDArray[Any]:
    """What `to_tensors` yields for one column, from plain values, None for a missing one: Arrow is slow to import."""
    import numpy as np

    if kind == "string":
        return np.array([["" if value is None else value] for value in values], dtype=np.object_).reshape(-1, 1)
    if is_array(kind):
        rows = [[None] * width(kind) if value is None else value for value in values]
        values = [number for row in rows for number in row]
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return numbers.astype(np.float32).reshape(-1, width(kind))


def _column(column: pa.ChunkedArray, kind: str) -> npt.NDArray[Any]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values: npt.NDArray[Any]
    if kind == "string":
        coded = _coded(column)  # makes each distinct text once
        values = coded.dictionary.to_numpy(zero_copy_only=False)[coded.indices.to_numpy()]
    elif is_array(kind):
        values = matrix(column).astype(np.float32)
    else:  # by way of float64, since Arrow refuses to round a bigint that float32 cannot hold
        values = pc.cast(column, pa.float64()).to_numpy().astype(np.float32)
    return values
