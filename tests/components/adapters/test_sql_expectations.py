"""What one pass says of a table is what Great Expectations says of it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.adapters.great_expectations import Verdict, check, check_files, suites
from components.adapters.sql_expectations import holding
from components.project import Expectation

NAN = float("nan")
ROWS = pa.table({
    "whole": pa.array([3, 1, 2, 5, 4], pa.int32()),
    "gaps": pa.array([3, None, 2, 5, 4], pa.int64()),
    "part": pa.array([0.5, NAN, None, 2.5, 1.0], pa.float64()),
    "text": ["EWR", "JFK", None, "LGA", "EWR"],
    "moment": [date(2026, 1, day) for day in (1, 2, 3, 4, 4)],
    "empty": pa.nulls(5, pa.float64()),
    "price": pa.array([1, 2, 3, 4, 5], pa.decimal128(9, 2)),
})  # fmt: skip


def expect(kind: str, **kwargs: Any) -> Expectation:
    return Expectation(type=f"expect_{kind}", kwargs=kwargs)


HOLD = [
    expect("column_values_to_not_be_null", column="whole"),
    expect("column_values_to_not_be_null", column="moment", mostly=0.5),
    expect("column_values_to_be_null", column="empty"),
    expect("column_values_to_be_unique", column="whole"),
    expect("column_values_to_be_unique", column="gaps"),
    expect("column_values_to_be_between", column="whole", min_value=1, max_value=5),
    expect("column_values_to_be_between", column="gaps", min_value=1, strict_min=True),
    expect("column_values_to_be_between", column="part", max_value=2.5),
    expect("column_values_to_be_in_set", column="text", value_set=["EWR", "JFK", "LGA"]),
    expect("column_values_to_be_in_set", column="gaps", value_set=[2, 3, 4, 5.0]),
    expect("column_values_to_not_be_in_set", column="text", value_set=["BOS"]),
    expect("column_values_to_match_regex", column="text", regex="^[A-Z]{3}$"),
    expect("column_value_lengths_to_be_between", column="text", min_value=3, max_value=3),
    expect("column_distinct_values_to_be_in_set", column="text", value_set=["EWR", "JFK", "LGA", "BOS"]),
    expect("column_distinct_values_to_equal_set", column="text", value_set=["EWR", "JFK", "LGA"]),
    expect("column_min_to_be_between", column="whole", min_value=1, max_value=1),
    expect("column_max_to_be_between", column="gaps", min_value=5),
    expect("column_mean_to_be_between", column="part", min_value=1, max_value=2),
    expect("compound_columns_to_be_unique", column_list=["moment", "text"]),
    expect("table_row_count_to_be_between", min_value=5, max_value=5),
    expect("table_row_count_to_equal", value=5),
    expect("table_columns_to_match_set", column_set=["whole", "text"], exact_match=False),
]
"""Each holds, and is known here."""
OTHERS = [
    expect("column_values_to_not_be_null", column="part", mostly=0.5),
    expect("column_values_to_be_unique", column="text"),
    expect("column_values_to_be_between", column="whole", min_value=1, max_value=5, strict_max=True),
    expect("column_values_to_be_in_set", column="text", value_set=["EWR"]),
    expect("column_values_to_match_regex", column="text", regex=r"^\D+$"),
    expect("column_values_to_match_regex", column="text", regex="^(?!BOS)"),
    expect("column_distinct_values_to_equal_set", column="text", value_set=["EWR", "JFK", "LGA", "BOS"]),
    expect("column_values_to_be_between", column="price", min_value=1),
    expect("column_values_to_be_between", column="moment", min_value="2026-01-01"),
    expect("column_values_to_be_between", column="empty", min_value=1),
    expect("column_values_to_be_between", column="nowhere", min_value=1),
    expect("column_pair_values_a_to_be_greater_than_b", column_A="whole", column_B="gaps", or_equal=True),
    expect("column_values_to_not_be_null", column="text", row_condition="whole > 2", condition_parser="pandas"),
    expect("column_mean_to_be_between", column="whole", min_value=9),
    expect("compound_columns_to_be_unique", column_list=["moment", "price"]),
    expect("table_row_count_to_equal", value=6),
]
"""Each does not hold, or is Great Expectations' own to judge."""


def files_of(table: pa.Table, folder: Path) -> list[Path]:
    """The table in two files, as a partitioned one has."""
    paths = [folder / "a", folder / "b"]
    pq.write_table(table.slice(0, 2), paths[0])
    pq.write_table(table.slice(2), paths[1])
    return paths


def both(listed: list[Expectation], table: pa.Table, folder: Path) -> tuple[Verdict, Verdict]:
    """The verdict of one pass, and that of Great Expectations alone."""
    ours = check_files("t", suites("p", {"t": listed})["t"], listed, files_of(table, folder), folder)
    return ours, check("t", suites("p", {"t": listed})["t"], listed, table)


def told(verdict: Verdict) -> dict[str, dict[str, Any]]:
    """What Great Expectations' own result says of each expectation; its batch has a name here."""
    found = {}
    for one in verdict.result.to_json_dict()["results"]:
        config = one["expectation_config"]
        config["kwargs"].pop("batch_id", None)
        found[f"{config['type']} {sorted(config['kwargs'].items(), key=str)}"] = {**one, "expectation_config": None}
    return found


@pytest.mark.parametrize("listed", [HOLD, OTHERS, HOLD + OTHERS], ids=["hold", "others", "all"])
def test_the_same_verdict(listed: list[Expectation], tmp_path: Path) -> None:
    """Outcomes, counts, the report in Great Expectations' format, and the suite's statistics."""
    ours, theirs = both(listed, ROWS, tmp_path)
    assert ours.outcomes == theirs.outcomes
    assert told(ours) == told(theirs)
    assert ours.result.success == theirs.result.success
    assert ours.result.statistics == theirs.result.statistics


def test_what_one_pass_knows(tmp_path: Path) -> None:
    """What holds needs no second look; all else has one."""
    assert sorted(holding(HOLD, files_of(ROWS, tmp_path), tmp_path)) == list(range(len(HOLD)))
    assert holding(OTHERS, files_of(ROWS, tmp_path), tmp_path) == {}


def test_a_table_without_rows(tmp_path: Path) -> None:
    """It is Great Expectations' to say what holds of nothing."""
    assert holding(HOLD, files_of(ROWS.slice(0, 0), tmp_path), tmp_path) == {}


numbers = st.none() | st.integers(-3, 3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(numbers, min_size=3, max_size=8), st.integers(-3, 3), st.integers(-3, 3), st.tuples(*[st.booleans()] * 2)
)
def test_any_numbers(
    tmp_path_factory: pytest.TempPathFactory, values: list[int | None], low: int, high: int, strict: tuple[bool, bool]
) -> None:
    """Whatever the values and the bounds: the same outcome."""
    left, right = strict
    listed = [
        expect(
            "column_values_to_be_between", column="x", min_value=low, max_value=high, strict_min=left, strict_max=right
        ),
        expect("column_values_to_be_unique", column="x"),
        expect("column_values_to_not_be_null", column="x"),
        expect("column_values_to_be_in_set", column="x", value_set=[low, high]),
        expect("column_max_to_be_between", column="x", max_value=high, strict_max=right),
    ]
    ours, theirs = both(listed, pa.table({"x": pa.array(values, pa.int64())}), tmp_path_factory.mktemp("t"))
    assert ours.outcomes == theirs.outcomes
