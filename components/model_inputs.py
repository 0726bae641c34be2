"""The one rule for what a model sees, the same when it learns, when it is checked and when it serves.

A `string` column is text, and a missing one is the empty string. A `double` or a `bigint` is a 32-bit float, and a
missing one is NaN. Served, that is a BYTES and an FP32 tensor of shape `[rows, 1]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

TYPES = ("string", "double", "bigint")
"""The types of `Prepared.features`."""

RESERVED = frozenset({"features", "scores", "probability", "label"})
"""Names of the tensors between and behind the three graphs, which no input may have."""


def to_frame(table: pa.Table, features: Mapping[str, str]) -> pd.DataFrame:
    """`table` as a frame whose feature columns follow the rule; other columns stay as they are."""
    import pandas as pd

    others = table.drop_columns(list(features)).to_pandas(date_as_object=False)
    inputs = pd.DataFrame({name: _column(table[name], kind) for name, kind in features.items()}, index=others.index)
    frame: pd.DataFrame = pd.concat([others, inputs], axis=1)[table.column_names]
    return frame


def to_tensors(table: pa.Table, features: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """The feature columns of `table` as arrays `[rows, 1]`: `object` with `str`, or `float32`."""
    return {name: _column(table[name], kind).reshape(-1, 1) for name, kind in features.items()}


def frame_to_tensors(frame: pd.DataFrame, features: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """What `to_tensors` yields, from a frame that `to_frame` made."""
    return {name: frame[name].to_numpy().reshape(-1, 1) for name in features}


def column_tensor(values: Sequence[Any], kind: str) -> npt.NDArray[Any]:
    """What `to_tensors` yields for one column, from plain values, None for a missing one: Arrow is slow to import."""
    import numpy as np

    if kind == "string":
        return np.array([["" if value is None else value] for value in values], dtype=np.object_).reshape(-1, 1)
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return numbers.astype(np.float32).reshape(-1, 1)


def _column(column: pa.ChunkedArray, kind: str) -> npt.NDArray[Any]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values: npt.NDArray[Any]
    if kind == "string":
        coded = pc.fill_null(column, "").combine_chunks().dictionary_encode()  # makes each distinct text once
        values = coded.dictionary.to_numpy(zero_copy_only=False)[coded.indices.to_numpy()]
    else:  # by way of float64, since Arrow refuses to round a bigint that float32 cannot hold
        values = pc.cast(column, pa.float64()).to_numpy().astype(np.float32)
    return values
