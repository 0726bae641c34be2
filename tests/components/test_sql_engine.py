"""The SQL engine by itself: what it lets a query read, whatever the rules on its text missed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.adapters import sql_rules
from components.errors import ConfigError
from components.sql_engine import query


@pytest.fixture
def parcels(tmp_path: Path) -> Path:
    path = tmp_path / "it's a part.parquet"
    pq.write_table(pa.table({"id": [1, 2], "city": ["north", "west"]}), path)
    return path


def rows_of(parcels: Path, sql: str) -> pa.Table:
    tables, scratch = {"parcels": [parcels]}, parcels.parent / "spilled"
    with query("duckdb://", tables, sql, order="id", source="features.sql", scratch=scratch) as rows:
        return pa.Table.from_batches(list(rows), rows.schema)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select * from read_csv('{0}')", "operations are disabled"),
        ("select * from '{0}'", "operations are disabled"),
        ("select * from parcels where city = (select content from read_text('{0}'))", "operations are disabled"),
        ("select * from query('select * from read_blob(''{0}'')')", "operations are disabled"),
        ("select * from connection", "does not exist"),
    ],
)
def test_a_query_that_the_rules_let_through(
    tmp_path: Path, parcels: Path, monkeypatch: pytest.MonkeyPatch, sql: str, says: str
) -> None:
    """DuckDB itself reads the tables' files and no other, nor what lies in the memory of this process."""
    (tmp_path / "other.csv").write_text("id,city\n1,secret\n")
    monkeypatch.setattr(sql_rules, "checked", lambda sql, tables, source: sql)
    with pytest.raises(ConfigError) as caught:
        rows_of(parcels, sql.format(tmp_path / "other.csv"))
    assert says in caught.value.details
    assert "secret" not in caught.value.details


def test_the_tables_are_read_all_the_same(parcels: Path) -> None:
    """A file's name may hold a quote; the settings cannot be undone."""
    rows = rows_of(parcels, "select * from parcels")
    assert rows.to_pylist() == [{"id": 1, "city": "north"}, {"id": 2, "city": "west"}]


def test_what_fails_on_the_way(parcels: Path) -> None:
    """A value that the query cannot take is found when its row is read: the same error, in the query's words."""
    with pytest.raises(ConfigError, match="^features.sql: .*Could not convert string 'north'"):
        rows_of(parcels, "select id, city::bigint as city from parcels")


def test_rows_beyond_memory(tmp_path: Path) -> None:
    """They are sorted on the disk: a query over 400 MB answers within the 150 MB that the profile allows it."""
    numbers = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"n": range(2_000_000)}), numbers)
    sql = "select hash(n) as id, repeat(chr(65 + (n % 26)::int), 200) as text from numbers"
    sizes, last = [], -1
    url = "duckdb://?memory_limit=150MB"
    with query(
        url, {"numbers": [numbers]}, sql, order="id", source="features.sql", scratch=tmp_path / "spilled"
    ) as rows:
        for batch in rows:
            assert batch["id"][0].as_py() > last
            last = batch["id"][-1].as_py()
            sizes.append(batch.num_rows)
    assert sum(sizes) == 2_000_000
    assert len(sizes) > 10
