from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from components.reference import BINS, TOP, reference_profile


def profile_of(values: pa.Array, kind: str) -> dict[str, object]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "train.parquet")
        pq.write_table(pa.table({"x": values}), path)
        return dict(reference_profile(path, {"x": kind})["columns"]["x"])


@settings(deadline=None)
@given(st.lists(st.none() | st.floats(-1e6, 1e6) | st.just(float("nan"))))
def test_numbers(values: list[float | None]) -> None:
    """Every number lies in one bin, and what is no number is missing."""
    profile = profile_of(pa.array(values, pa.float64()), "double")
    missing = sum(value is None or math.isnan(value) for value in values)
    assert profile["missing"] == missing
    assert sum(profile["counts"]) == len(values) - missing
    assert len(profile["edges"]) == (len(profile["counts"]) + 1 if profile["counts"] else 0) <= BINS + 1


def test_bins_hold_equal_shares() -> None:
    """Bins lie at the quantiles: each holds about as many rows."""
    profile = profile_of(pa.array([float(number**2) for number in range(2_000)]), "double")
    assert len(profile["counts"]) == BINS
    assert max(profile["counts"]) - min(profile["counts"]) <= 1


def test_constant() -> None:
    """A constant has one bin."""
    assert profile_of(pa.array([3, 3, None]), "bigint") == {
        "type": "bigint", "edges": [3.0, 3.0], "counts": [2], "missing": 1,
    }  # fmt: skip


def test_texts() -> None:
    """The most frequent texts are counted one by one, the rest together; equals are in alphabetical order."""
    texts = ["b", "a", "c", "c", None, *(f"rare {number:03}" for number in range(TOP))]
    profile = profile_of(pa.array(texts), "string")
    assert list(profile["counts"])[:3] == ["c", "a", "b"]
    assert len(profile["counts"]) == TOP
    assert (profile["other"], profile["missing"]) == (3, 1)
