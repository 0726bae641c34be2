"""The project `retail`: what its two queries say of a household and a product is known by then, and the same in both."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

FOLDER = Path(__file__).parents[2] / "config" / "projects" / "retail"
BEGIN, DAY = date(2017, 1, 1), 196
"""One of the days that are learned from."""


def transactions(until: int) -> pa.Table:
    """Made-up purchases of twelve households over half a year, up to a day."""
    draw = np.random.default_rng(3)
    rows = 6_000
    day = draw.integers(80, 260, rows)
    household, product = draw.integers(1, 13, rows), draw.zipf(1.6, rows) % 200
    kept = day < until
    return pa.table(
        {
            "household_id": household[kept],
            "product_id": product[kept],
            "basket_id": (household * 1_000 + day)[kept],
            "sales_value": draw.uniform(0.5, 9, rows).round(2)[kept],
            "retail_disc": np.where(draw.uniform(size=rows) < 0.2, 0.5, 0.0)[kept],
            "transaction_timestamp": [
                datetime.combine(BEGIN + timedelta(days=int(one)), time(12)) for one in day[kept]
            ],
        }
    )


def rows_of(query: str, until: int) -> dict[str, dict[str, Any]]:
    """What a query of the project yields, by its key."""
    connection = duckdb.connect()
    connection.register("transactions", transactions(until))
    connection.register("products", pa.table({"product_id": range(150), "department": ["GROCERY"] * 150}))
    found = connection.execute((FOLDER / query).read_text()).to_arrow_table().to_pylist()
    by_key = {row["id"]: row for row in found}
    assert len(by_key) == len(found)
    return by_key


@pytest.fixture(scope="module")
def learned() -> dict[str, dict[str, Any]]:
    """What is learned from, of one day, with all that came after it."""
    return {key: row for key, row in rows_of("features.sql", 260).items() if row["date"] == BEGIN + timedelta(days=DAY)}


def test_nothing_of_the_future_is_known(learned: dict[str, dict[str, Any]]) -> None:
    """A night that knows no later day than the one before says of each candidate what the examples of that day say."""
    tonight = rows_of("candidates.sql", DAY)
    assert tonight.keys() == learned.keys()
    columns = next(iter(tonight.values())).keys()
    assert all(row == {name: learned[key][name] for name in columns} for key, row in tonight.items())
    assert len({row["household_id"] for row in tonight.values()}) == 12


def test_what_was_bought(learned: dict[str, dict[str, Any]]) -> None:
    """`buys` is what the household bought in the two weeks from that day, and `wanted` counts it, candidates or not."""
    table = transactions(260).to_pylist()
    begin = BEGIN + timedelta(days=DAY)
    for household in range(1, 13):
        bought = {
            row["product_id"]
            for row in table
            if row["household_id"] == household
            and begin <= row["transaction_timestamp"].date() < begin + timedelta(days=14)
        }
        candidates = [row for row in learned.values() if row["household_id"] == household]
        assert {row["product_id"] for row in candidates if row["buys"]} == bought & {
            row["product_id"] for row in candidates
        }
        assert {row["wanted"] for row in candidates} == {len(bought)}
