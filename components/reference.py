"""The reference profile: what the training rows looked like, one histogram an input, for drift to be measured against.

    {"rows": 188971, "columns": {
        "carrier": {"type": "string", "counts": {"UA": 33000, ...}, "other": 0, "missing": 0},
        "temp": {"type": "double", "edges": [10.9, ..., 100.0], "counts": [9480, ...], "missing": 1400}}}

`counts[i]` of a number are the rows from `edges[i]` up to `edges[i + 1]`, the last edge included. Texts beyond the
`TOP` most frequent are `other`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.model_inputs import is_array, width

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

BINS = 20
"""Bins of a number, at the training rows' quantiles."""
TOP = 50
"""Texts that are counted one by one."""
MOST = 10_000_000
"""Numbers that quantiles are taken of: of more, every second, every third, ..."""
PART = 1 << 17
"""Rows of a column that are looked at together: few enough to stay in the processor's cache."""
AT_A_TIME = 2
"""Columns that are read side by side: numbers of each are in memory, at most `MOST` twice."""
MANY = 1_000_000
"""Different texts that are counted at a time; beyond, those that were seen once so far become `other`."""


def reference_profile(train: Path, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The profile of the training rows, ready for JSON. `AT_A_TIME` columns are read at a time.

    Args:
        train: the training rows, Parquet.
        inputs: input column -> `string`, `double`, `bigint` or `double[N]`.
    """
    import pyarrow.parquet as pq

    rows = pq.read_metadata(train).num_rows

    def described(name: str, kind: str) -> dict[str, Any]:
        return {"type": kind, **(_texts(train, name) if kind == "string" else _numbers(train, name, kind, rows))}

    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="reference") as columns:
        found = list(columns.map(described, inputs, inputs.values()))
    return {"rows": rows, "columns": dict(zip(inputs, found, strict=True))}


def _columns(train: Path, name: str, *, texts: bool = False) -> Iterator[pa.Array]:
    """A column in parts; texts as numbers of their dictionary, each of which is made a text once."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(train, read_dictionary=[name] if texts else None) as file:
        for batch in file.iter_batches(batch_size=PART, columns=[name]):
            yield batch.column(0)


def _texts(train: Path, name: str) -> dict[str, Any]:
    counted: Counter[str] = Counter()
    present = missing = 0
    for column in _columns(train, name, texts=True):
        texts = column.drop_null()
        present, missing = present + len(texts), missing + column.null_count
        counts = texts.value_counts()
        for text, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
            counted[text] += count
        if len(counted) > MANY:
            counted = Counter({text: count for text, count in counted.items() if count > 1})
    top = dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:TOP])
    return {"counts": top, "other": present - sum(top.values()), "missing": missing}


def _values(train: Path, name: str, kind: str) -> Iterator[npt.NDArray[np.float64]]:
    """The numbers of a column that are there; an array's are one histogram, for a pixel alone says little."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in _columns(train, name):
        flat = pc.list_flatten(column) if is_array(kind) else column
        values = pc.cast(flat.drop_null(), pa.float64()).to_numpy()
        yield values[~np.isnan(values)]


def _numbers(train: Path, name: str, kind: str, rows: int) -> dict[str, Any]:
    import numpy as np

    each = width(kind)
    step = -(-rows * each // MOST)
    kept, ends = [], []
    for values in _values(train, name, kind):
        if len(values):
            kept.append(values[::step].copy())
            ends += [values.min(), values.max()]
    if not ends:
        return {"edges": [], "counts": [], "missing": rows * each}
    edges = np.quantile(np.concatenate(kept), np.linspace(0, 1, BINS + 1), overwrite_input=True)
    edges[0], edges[-1] = min(ends), max(ends)
    edges = np.unique(edges)
    if len(edges) == 1:  # a constant: one bin from it to itself
        edges = np.repeat(edges, 2)
    del kept
    below = np.zeros(len(edges), np.int64)  # of each edge; all numbers are below the end of the last bin, or on it
    for values in _values(train, name, kind):
        below += np.array([*(np.count_nonzero(values < edge) for edge in edges[:-1]), len(values)])
    counts = np.diff(below)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "missing": rows * each - int(counts.sum())}
