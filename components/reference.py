"""The reference profile: what the training rows looked like, one histogram an input, for drift to be measured against.

    {"rows": 188971, "columns": {
        "carrier": {"type": "string", "counts": {"UA": 33000, ...}, "other": 0, "missing": 0},
        "temp": {"type": "double", "edges": [10.9, ..., 100.0], "counts": [9480, ...], "missing": 1400}}}

`counts[i]` of a number are the rows from `edges[i]` up to `edges[i + 1]`, the last edge included. Texts beyond the
`TOP` most frequent are `other`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.model_inputs import is_array

if TYPE_CHECKING:
    import pyarrow as pa

BINS = 20
"""Bins of a number, at the training rows' quantiles."""
TOP = 50
"""Texts that are counted one by one."""


def reference_profile(train: pa.Table, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The profile of `train`, ready for JSON.

    Args:
        train: the training rows.
        inputs: input column -> `string`, `double`, `bigint` or `double[N]`.
    """
    columns = {
        name: {"type": kind, **(_texts(train[name]) if kind == "string" else _numbers(_flat(train[name], kind)))}
        for name, kind in inputs.items()
    }
    return {"rows": train.num_rows, "columns": columns}


def _texts(column: pa.ChunkedArray) -> dict[str, Any]:
    present = column.drop_null()
    counted = [(found["values"], found["counts"]) for found in present.value_counts().to_pylist()]
    top = dict(sorted(counted, key=lambda item: (-item[1], item[0]))[:TOP])
    return {"counts": top, "other": len(present) - sum(top.values()), "missing": column.null_count}


def _flat(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    """An array's numbers are one histogram: a pixel alone says little."""
    import pyarrow.compute as pc

    return pc.list_flatten(column) if is_array(kind) else column


def _numbers(column: pa.ChunkedArray) -> dict[str, Any]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.cast(column.drop_null(), pa.float64()).to_numpy()
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return {"edges": [], "counts": [], "missing": len(column)}
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    if len(edges) == 1:  # a constant: one bin from it to itself
        edges = np.repeat(edges, 2)
    counts, _ = np.histogram(values, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "missing": len(column) - len(values)}
