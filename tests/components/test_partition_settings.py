"""Partitions of a project: what they are called, what time they are of, and which part of a source is one."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

from components.errors import ConfigError
from components.partition_settings import By, Span, at, check, per_partition, span, spans
from components.source_settings import AnyTable, LogTable, Sql, SqlTable, Table

ALL = "data/{year}-{month}-{day}-{hour}.csv"


def query(text: str) -> SqlTable:
    return SqlTable(sql=Sql(connection="shop", query=text, watermark="at"))


@pytest.mark.parametrize(
    ("by", "text", "key", "start", "end"),
    [
        ("year", "2013", "2013", "2013-01-01T00:00:00", "2014-01-01T00:00:00"),
        ("month", "2013-12", "2013-12", "2013-12-01T00:00:00", "2014-01-01T00:00:00"),
        ("month", "2024-02-29", "2024-02", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        ("week", "2021-01-03", "2020-w53", "2020-12-28T00:00:00", "2021-01-04T00:00:00"),
        ("week", "2020-w53", "2020-w53", "2020-12-28T00:00:00", "2021-01-04T00:00:00"),
        ("day", "2013-01-31T23:59", "2013-01-31", "2013-01-31T00:00:00", "2013-02-01T00:00:00"),
        ("hour", "2013-01-31t23", "2013-01-31t23", "2013-01-31T23:00:00", "2013-02-01T00:00:00"),
    ],
)
def test_a_partition_by_its_key_or_a_time_in_it(by: By, text: str, key: str, start: str, end: str) -> None:
    """The key names its time, and is in the words of the store."""
    one = span(by, text)
    assert (one.key, one.start.isoformat(), one.end.isoformat()) == (key, start, end)
    assert span(by, one.key) == one


@pytest.mark.parametrize("text", ["2013-13", "january", "", "2013-01-01T00:00:00+01:00", "0013-01", "9999-12"])
def test_what_is_no_partition(text: str) -> None:
    """No such time, one with a zone, one that has no end."""
    with pytest.raises(ConfigError, match="is in no month"):
        span("month", text)


def test_partitions_side_by_side() -> None:
    """Each ends where the next one begins; the order is held, and how many."""
    found = spans("month", "2012-11", "2013-02")
    assert [one.key for one in found] == ["2012-11", "2012-12", "2013-01", "2013-02"]
    assert all(one.end == after.start for one, after in pairwise(found))
    with pytest.raises(ConfigError, match="2012-11 is before 2013-02"):
        spans("month", "2013-02", "2012-11")
    with pytest.raises(ConfigError, match="more than 5,000 times a hour"):
        spans("hour", "2000", "2013")


def test_the_part_of_a_source() -> None:
    """Placeholders of a path are filled in; of a query, only those that are no text, comment or cast."""
    files = at(Table(path=ALL), "hour", span("hour", "2013-01-31t05"))
    assert isinstance(files, Table)
    assert files.path == "data/2013-01-31-05.csv"
    weeks = at(LogTable(path="{year}/{week}.log", pattern="(?P<a>.)"), "week", span("week", "2021-01-03"))
    assert isinstance(weeks, LogTable)
    assert weeks.path == "2020/53.log"
    rows = at(
        query("SELECT ':start', a::date FROM t -- :end\nWHERE at >= :start AND at < :end"),
        "month",
        span("month", "2013-12"),
    )
    assert isinstance(rows, SqlTable)
    assert rows.sql.query == ("SELECT ':start', a::date FROM t -- :end\nWHERE at >= '2013-12-01' AND at < '2014-01-01'")
    assert not per_partition(rows)
    assert not per_partition(query("SELECT ':start'"))


@pytest.mark.parametrize(
    ("by", "source", "accepted"),
    [
        (None, Table(path="{year}.csv"), "`partition`"),
        ("month", Table(path="all.csv"), "{year}{month} in its `path`"),
        ("month", Table(path="{year}.csv"), "{year}{month} and no other"),
        ("month", Table(path="{year}-{month}-{day}.csv"), "{year}{month} and no other"),
        ("month", Table(path="{year}-{month}-{home}.csv"), "{year}{month} and no other"),
        ("month", query("SELECT * FROM t WHERE at >= :start"), "both :start and :end"),
    ],
)
def test_sources_that_do_not_fit(by: By | None, source: AnyTable, accepted: str) -> None:
    """A path that would be the same for two partitions, a name that is none, half an interval."""
    with pytest.raises(ValueError, match="^.*" + accepted.replace("{", r"\{").replace("}", r"\}")):
        check(by, {"t": source})


@pytest.mark.parametrize("by", ["hour", "day", "week", "month", "year"])
def test_nothing_but_dates_gets_into_a_query(by: By) -> None:
    """What is put in is digits between quotes; a key that is no time, and a bound that is none, never come so far."""
    source = query("SELECT * FROM t WHERE at >= :start AND at < :end")
    told = at(source, by, span(by, "2013-12-30"))
    assert isinstance(told, SqlTable)
    moment = r"'\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?'"
    assert re.fullmatch(rf"SELECT \* FROM t WHERE at >= {moment} AND at < {moment}", told.sql.query or "")
    for strange in ("2013-12'; DROP TABLE t; --", "2013-12-30' OR '1' = '1", "'", "\uff12\uff10\uff11\uff13-12", ""):
        with pytest.raises(ConfigError):
            span(by, strange)
    text: Any = "2013-12-01' OR '1' = '1"
    with pytest.raises(TypeError):
        at(source, by, Span("2013-12", text, text))
