from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.adapters.sql_aggregates import PREFIX, aggregates_apart
from components.sql_engine import query

BUSY = "busy as (select city, count(*) as parcels, sum(id) as ids from parcels group by city)"
"""An aggregate that is joined to what it is of."""
QUERIES = (
    f"with {BUSY} select * from parcels join busy using (city)",
    f"""with {BUSY}, top as (select max(parcels) as most from busy group by true)
        select id, most, ids from parcels join busy using (city) cross join top""",
    """with west as (select * from parcels where city = 'west'),
       of(place, n) as (select city, count(*) from west group by city)
       select id, place, n from parcels left join of on city = place""",
    # a name that is a table's too is the aggregate from there on, and the table in it
    """with parcels as (select city, max(id) as id from parcels group by all)
       select * from parcels p join parcels using (city, id)""",
    """with "a b" as (with x as (select id, city from parcels) select city, count(id) as n from x group by 1 order by 2)
       select id, n from parcels join "a b" using (city)""",
)


@pytest.mark.parametrize("sql", QUERIES)
def test_same_rows(tmp_path: Path, sql: str) -> None:
    """Aggregates that are made first yield what DuckDB yields of the query as it is."""
    import duckdb

    path = tmp_path / "parcels.parquet"
    pq.write_table(
        pa.table({"id": range(90), "city": [("north", "west", "south")[n % 7 % 3] for n in range(90)]}), path
    )
    assert aggregates_apart(sql)[0]
    with duckdb.connect() as connection:
        connection.execute(f"create view parcels as from '{path}'")
        expected = connection.execute(sql).fetchall()
    with query("duckdb://", {"parcels": [path]}, sql, order="id", source="features.sql", scratch=tmp_path) as rows:
        found = [tuple(row.values()) for batch in rows for row in batch.to_pylist()]
    assert len(found) > 2
    assert sorted(found, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    "sql",
    [
        "select city, count(*) as n from parcels group by city",
        f"with {BUSY} select * from busy",
        "with west as (select * from parcels where city = 'west') select * from parcels join west using (id)",
        """with recursive n as (select 1 as i, count(*) from parcels group by city union all select i + 1, 1 from n)
           select * from parcels join n on id = i""",
    ],
)
def test_left_as_it_is(sql: str) -> None:
    """What joins no aggregate by its name is one query, in its own words."""
    assert aggregates_apart(sql) == ({}, sql)


def test_made_in_order() -> None:
    """An aggregate of an aggregate reads the table that the first became."""
    made, rest = aggregates_apart(QUERIES[1])
    assert list(made) == [f"{PREFIX}0", f"{PREFIX}1"]
    assert f"FROM {PREFIX}0" in made[f"{PREFIX}1"]
    assert "GROUP BY" not in rest
