"""Golden requests: rows of the test split that a bundle has to answer as the notebook did.

They are drawn the same way every time, and the odd ones first: rows with a missing value, of a rare category, at the
ends of a number's range. That is where a conversion goes wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.answers import answer_names, matrix
from components.errors import GateError
from components.records import Prepared, Scalar

if TYPE_CHECKING:
    import pyarrow as pa

RARE = 8
"""Of each text column, so many of the rarest categories."""

_KINDS = {"string": "string", "double": "double", "int64": "bigint"}
"""Arrow's type of a column -> the type of the feature."""


def golden_table(prepared: Prepared, test: Path, predictions: Path, count: int) -> pa.Table:
    """The golden rows' features, with the notebook's own answers.

    Args:
        prepared: names the features and the key.
        test: the test split.
        predictions: the notebook's answers on it, by `row`.
        count: how many, at most.

    Raises:
        GateError: a row has no answer, or one that is none: no probability, no finite number.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = pq.read_table(test, columns=[prepared.row, *prepared.features])
    chosen = rows.take(choose(rows.drop_columns([prepared.row]), count))
    names = answer_names(prepared.task)
    answers = pq.read_table(predictions, columns=["row", *names])
    keys = chosen[prepared.row].cast(answers["row"].type)
    places = pc.index_in(keys, value_set=answers["row"].combine_chunks())
    if places.null_count:
        row = keys.filter(pc.is_null(places))[0].as_py()
        raise GateError(
            f"the notebook has no answer for row {row!r} of the test split",
            accepted="an answer for every row",
            next_step="run the trial again",
        )
    answers = answers.take(places)
    _check_answers(chosen[prepared.row], answers[names[0]], prepared.task)
    table = chosen.select(list(prepared.features))
    for name in names:
        table = table.append_column(name, answers[name])
    return table.combine_chunks()


def example_of(golden: pa.Table, features: Iterable[str]) -> dict[str, Scalar | tuple[float | None, ...]]:
    """A golden request as a client would send it: of those that miss least, the one in the middle; missing is None."""
    rows = [{name: _plain(value) for name, value in row.items()} for row in golden.select(list(features)).to_pylist()]
    gaps = [list(row.values()).count(None) for row in rows]
    fullest = [row for row, missing in zip(rows, gaps, strict=True) if missing == min(gaps)]
    return fullest[len(fullest) // 2]


def _plain(value: Any) -> Any:
    """A value as JSON has it; an array of nothing but gaps is missing."""
    if isinstance(value, list):
        numbers = tuple(_plain(number) for number in value)
        return None if set(numbers) == {None} else numbers
    return None if value != value else value  # noqa: PLR0124  # NaN


def _check_answers(keys: Any, numbers: Any, task: str) -> None:
    import numpy as np

    values = matrix(numbers)
    fits = np.isfinite(values) if task == "regression" else (values >= 0) & (values <= 1)
    wrong = np.flatnonzero(~fits.all(axis=1))
    if len(wrong):
        shown = ", ".join(map(str, values[wrong[0]]))
        raise GateError(
            f"the notebook's own answer is {shown} for row {keys[int(wrong[0])].as_py()!r}; {len(wrong)} of "
            f"{len(values)} golden answers are no {'numbers' if task == 'regression' else 'probabilities'}",
            accepted="finite numbers" if task == "regression" else "numbers from 0 to 1",
            next_step="look at how the notebook makes its predictions",
        )


def choose(rows: pa.Table, count: int) -> list[int]:
    """Indices of at most `count` rows, in their order: up to half of them odd ones, the others evenly over all."""
    import numpy as np

    total = rows.num_rows
    odd = _odd(rows)[: count // 2]
    even = np.linspace(0, total - 1, min(count - len(odd), total)).round().astype(int).tolist()
    return sorted(list(dict.fromkeys([*odd, *even, *range(total)]))[:count])


def _odd(rows: pa.Table) -> list[int]:
    """Rows that are unlike most, one kind of oddness after the other over all columns."""
    import itertools

    columns = (_odd_in(rows[name].combine_chunks()) for name in rows.column_names)
    ranks = itertools.zip_longest(*columns)
    return list(dict.fromkeys(index for rank in ranks for index in rank if index is not None))


def _odd_in(column: pa.Array) -> list[int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_fixed_size_list(column.type):
        return _odd_arrays(column)
    missing = pc.is_null(column, nan_is_null=True)
    found = [pc.index(missing, True).as_py()]
    if pa.types.is_string(column.type):
        counts = sorted(
            column.drop_null().value_counts().to_pylist(), key=lambda item: (item["counts"], item["values"])
        )
        found += [pc.index(column, item["values"]).as_py() for item in counts[:RARE]]
    elif missing.true_count < len(column):
        ends = pc.min_max(column.filter(pc.invert(missing)))
        found += [pc.index(column, ends["min"]).as_py(), pc.index(column, ends["max"]).as_py()]
    return [index for index in found if index >= 0]


def _odd_arrays(column: pa.Array) -> list[int]:
    """The first array with a gap, the one with least in it and the one with most."""
    import numpy as np

    sums = matrix(column).sum(axis=1)
    gaps, whole = np.flatnonzero(np.isnan(sums)), np.flatnonzero(~np.isnan(sums))
    found: list[int] = gaps[:1].tolist()
    return found + ([int(whole[sums[whole].argmin()]), int(whole[sums[whole].argmax()])] if len(whole) else [])


def features_of(golden: pa.Table, task: str) -> Mapping[str, str]:
    """Feature -> type, as `Prepared.features` has them, from a table of golden rows."""
    import pyarrow as pa

    return {
        field.name: f"double[{field.type.list_size}]"
        if pa.types.is_fixed_size_list(field.type)
        else _KINDS[str(field.type)]
        for field in golden.schema
        if field.name not in answer_names(task)
    }
