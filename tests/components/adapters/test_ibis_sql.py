"""The SQL engine by itself: what it lets a query read, whatever the rules on its text missed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.adapters import ibis_sql
from components.adapters.ibis_sql import run_sql
from components.errors import ConfigError


@pytest.fixture
def parcels(tmp_path: Path) -> Path:
    path = tmp_path / "it's a part.parquet"
    pq.write_table(pa.table({"id": [1, 2], "city": ["north", "west"]}), path)
    return path


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
    monkeypatch.setattr(ibis_sql, "checked", lambda sql, tables, source: sql)
    with pytest.raises(ConfigError) as caught:
        run_sql("duckdb://", {"parcels": [parcels]}, sql.format(tmp_path / "other.csv"), source="features.sql")
    assert says in caught.value.details
    assert "secret" not in caught.value.details


def test_the_tables_are_read_all_the_same(parcels: Path) -> None:
    """A file's name may hold a quote; the settings cannot be undone."""
    rows = run_sql("duckdb://", {"parcels": [parcels]}, "select * from parcels order by id", source="features.sql")
    assert rows.to_pylist() == [{"id": 1, "city": "north"}, {"id": 2, "city": "west"}]
