from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.adapters.sql_order import is_row_by_row, order_matters


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, list[Path]]:
    path = tmp_path / "orders"
    pq.write_table(pa.table({"id": ["a"], "items": [1], "price": [1.0], "city": ["x"]}), path)
    return {"orders": [path]}


@pytest.mark.parametrize(
    "sql",
    [
        "select id, price * items as total, upper(city) as city from orders where price > 1",
        "select city, count(*) as n, min(price) as least, max(price) as most from orders group by all",
        "select city, sum(items) as items, avg(items) as mean from orders group by city",
        "with some as (select id, items from orders) select id, sum(items) as items from some group by id",
        "select distinct city from orders",
    ],
)
def test_order_is_nothing(tables: dict[str, list[Path]], sql: str) -> None:
    """Row by row, counted, the least and the most, sums of whole numbers: many threads give what one gives."""
    assert not order_matters(sql, tables)


@pytest.mark.parametrize(
    "sql",
    [
        "select city, sum(price) as total from orders group by city",
        "select city, sum(items / 3) as total from orders group by city",
        "select city, avg(price) as mean from orders group by city",
        "select city, any_value(id) as one from orders group by city",
        "select city, string_agg(id, ',') as ids from orders group by city",
        "select city, list(id) as ids from orders group by city",
        "select id, row_number() over (partition by city) as n from orders",
        "select distinct on (city) city, id from orders",
        "select id from orders limit 3",
        "select city, some_new_aggregate(price) as x from orders group by city",
        "select sum(columns(*)) from orders",
    ],
)
def test_order_may_matter(tables: dict[str, list[Path]], sql: str) -> None:
    """Sums of fractions, the first of several, lists, windows, and whatever is not known."""
    assert order_matters(sql, tables)


@pytest.mark.parametrize(
    ("sql", "is_one"),
    [
        ("select id, price * items as total from orders where price > 1 and upper(city) like 'X%'", True),
        ("select *, items + 1 as more from orders as o", True),
        ("select id, row_number() over (order by id) as place from orders", False),
        ("select city, sum(price) as total from orders group by city", False),
        ("select count(*) as n from orders", False),
        ("select distinct city from orders", False),
        ("select a.id from orders as a join orders as b on a.city = b.city", False),
        ("select a.id from orders as a, orders as b", False),
        ("select id from orders union all select city as id from orders", False),
        ("with some as (select id from orders) select id from some", False),
        ("select id from (select id from orders)", False),
        ("select id from orders where city in (select city from orders)", False),
        ("select id, unnest([1, 2]) as n from orders", False),
        ("select id from orders order by city", False),
        ("select id from orders limit 3", False),
        ("select n from range(3) as t(n)", False),
        ("select sum(columns(*)) from orders", False),
    ],
)
def test_row_by_row(sql: str, *, is_one: bool) -> None:
    """One table's rows, each once or not at all; what joins, gathers, repeats, sorts or cuts off is something else."""
    assert is_row_by_row(sql) is is_one
