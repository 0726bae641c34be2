"""What a query may not do, and which texts are one query."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.adapters.sql_rules import UNSTABLE, checked
from components.errors import ConfigError

FLIGHTS = Path(__file__).parents[3] / "config" / "projects" / "flights" / "features.sql"


def refused(sql: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        checked(sql, ["parcels", "towns"], source="features.sql")
    return caught.value


@pytest.mark.parametrize(
    "sql",
    [
        "select * from parcels join towns using (city)",
        "from parcels select id, city",
        "with far as (select * from parcels where distance > 9) select * from FAR",
        "select id from parcels union all select id from towns",
        "select id, n from parcels, range(3) as r(n)",
        "select p.id, u.tag from parcels as p, unnest(p.tags) as u(tag)",
        "select id, age(delivered, sent) as days, sent as today, uuid, p.current_date from parcels as p",
        "select id, 'read_csv(now())' as text, \"current_date\" from parcels -- random()",
        "select id from parcels;",
    ],
)
def test_what_a_query_may_do(sql: str) -> None:
    """Joins, common table expressions, rows made of numbers; names and texts that look like functions are none."""
    once = checked(sql, ["parcels", "towns"], source="features.sql")
    assert checked(once, ["parcels", "towns"], source="features.sql") == once


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select * from\nread_csv('/etc/passwd')", "features.sql:2: read_csv(...) reads what is in no commit"),
        ("select * from\nread_csv_auto('x')", "features.sql:2: read_csv_auto(...)"),
        ("select * from READ_PARQUET('x')", "read_parquet(...)"),
        ("select * from read_json('x'), parcels", "read_json(...)"),
        ("select (select count(*) from glob('/*')) as n from parcels", "glob(...)"),
        ("select * from parcels,\nlateral read_text(city)", "features.sql:2: read_text(...)"),
        ("select * from query('select 1')", "query(...)"),
        ("select * from duckdb_settings()", "duckdb_settings(...)"),
        ("select *\nfrom '/etc/passwd'", "features.sql:2: there is no table '/etc/passwd'"),
        ("select * from information_schema.tables", "there is no table 'information_schema.tables'"),
        ("select * from other.parcels", "there is no table 'other.parcels'"),
        ("select * from parcel", "there is no table 'parcel' (did you mean 'parcels'?)"),
    ],
)
def test_what_is_no_table_of_the_project(sql: str, says: str) -> None:
    """Named with its line, the tables that there are, and where another one is added."""
    error = refused(sql)
    assert says in error.problem
    assert error.accepted.startswith("parcels, towns")
    assert "under `sources` in project.yaml" in error.next_step


@pytest.mark.parametrize(
    "statement",
    [
        "copy parcels to '/tmp/x'",
        "attach '/tmp/x.db' as x",
        "install httpfs",
        "load httpfs",
        "set threads = 4",
        "pragma database_list",
        "create table x as select 1",
        "create macro f(x) as random()",
        "insert into parcels select * from towns",
        "delete from parcels",
        "drop table parcels",
        "call pragma_version()",
    ],
)
def test_what_is_no_query(statement: str) -> None:
    """Whatever is not a `select` is named by its first word."""
    word = statement.split(maxsplit=1)[0].upper()
    assert refused(f"-- x\n{statement}").problem == f"features.sql:2: {word} is not a query"


@pytest.mark.parametrize(
    "value",
    [
        "random()",
        "RANDOM ( )",
        '"random"()',
        "now()",
        "today()",
        "uuid()",
        "current_date",
        "Current_Timestamp",
        "date_diff('day', sent, current_date)",
        "age(sent)",
        "nextval('x')",
        "current_setting('threads')",
        "java_method('java.lang.System', 'nanoTime')",
    ],
)
def test_what_is_another_value_each_time(value: str) -> None:
    """A step's output follows from its key: the error names the function and its line."""
    error = refused(f"select id,\n  {value} as x\nfrom parcels")
    assert error.problem.startswith("features.sql:2: ")
    assert error.problem.split(": ")[1].strip('"').split("(")[0].split(" ")[0] in value.lower()


@pytest.mark.parametrize("sample", ["using sample 10%", "tablesample reservoir(20 rows)"])
def test_a_sample(sample: str) -> None:
    """It is drawn anew each time."""
    assert refused(f"select *\nfrom parcels\n{sample}").problem.startswith("features.sql:3: a sample is drawn anew")


def test_every_fault_is_in_the_details() -> None:
    """The first one is the error; none is hidden behind it."""
    error = refused("select now() as a,\n  random() as b\nfrom read_csv('x')")
    assert error.problem.startswith("features.sql:1: now ")
    assert [line[:6] for line in error.details.splitlines()] == ["line 1", "line 2", "line 3"]


def test_all_that_duckdb_calls_volatile_is_refused() -> None:
    """Its own catalogue says so; `error` yields no value at all."""
    import duckdb

    found = duckdb.sql(
        "select distinct function_name from duckdb_functions() "
        "where function_type = 'scalar' and stability in ('VOLATILE', 'CONSISTENT_WITHIN_QUERY')"
    ).fetchall()
    assert {name for (name,) in found} - UNSTABLE == {"error"}


def test_comments_layout_and_case_do_not_make_another_query() -> None:
    """Words and numbers do."""

    def text(sql: str) -> str:
        return checked(sql, ["parcels"], source="features.sql")

    query = text("select id, city from parcels where distance > 9")
    assert text("-- far ones\nSELECT id,\n\n  city /* where to */\nFROM parcels\nwhere distance>9;\n-- end\n") == query
    assert text("select id, city from parcels where distance > 8") != query
    assert text("select id, 'a  b' as x from parcels") != text("select id, 'a b' as x from parcels")


def test_the_flights_query_yields_the_same_in_either_text() -> None:
    """Nothing but comments and layout is lost: both texts have one plan."""
    import sqlglot

    sql = FLIGHTS.read_text()
    once = checked(sql, ["flights", "weather", "planes"], source="features.sql")
    assert "--" not in once
    assert sqlglot.parse_one(once, read="duckdb") == sqlglot.parse_one(sql, read="duckdb")
