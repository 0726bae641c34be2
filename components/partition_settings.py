"""Partitions of a project: `partition: month` in project.yaml, and what it makes of the sources that come so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from components.errors import ConfigError
from components.source_settings import AnyTable, LogTable, SqlTable, Table

By = Literal["hour", "day", "week", "month", "year"]
"""How long a partition is. Weeks are ISO 8601's; times have no zone: the source's own are meant."""

MOST = 5_000
"""Partitions of one call."""

PLACEHOLDER = re.compile(r"\{([A-Za-z_]*)\}")
NEEDED: Mapping[By, tuple[str, ...]] = {
    "hour": ("year", "month", "day", "hour"),
    "day": ("year", "month", "day"),
    "week": ("year", "week"),
    "month": ("year", "month"),
    "year": ("year",),
}
"""The placeholders of a `path` that tell one partition from another."""
NAMES = frozenset(name for names in NEEDED.values() for name in names)
BOUNDS = ("start", "end")
"""What a query says `:start` and `:end` for: from the one on, and before the other."""
EXAMPLES: Mapping[By, str] = {
    "hour": "2013-01-31t05",
    "day": "2013-01-31",
    "week": "2013-w05",
    "month": "2013-01",
    "year": "2013",
}
_FORMS: Mapping[By, str] = {
    "hour": "{at:%Y-%m-%dt%H}",
    "day": "{at:%Y-%m-%d}",
    "week": "{at:%G}-w{at:%V}",
    "month": "{at:%Y-%m}",
    "year": "{at:%Y}",
}


@dataclass(frozen=True, slots=True)
class Span:
    """One partition: what it is called, and its time from `start` on and before `end`."""

    key: str
    start: datetime
    end: datetime


def span(by: By, text: str) -> Span:
    """The partition called so, or the one that a date or a time is in.

    Raises:
        ConfigError: it is neither.
    """
    for rest in ("", "-01", "-01-01"):
        try:
            return _around(by, datetime.fromisoformat(text.upper() + rest))
        except (ValueError, OverflowError):
            continue
    raise ConfigError(f"{text!r} is in no {by}", accepted=f"{EXAMPLES[by]}, or a date or a time in ISO 8601")


def spans(by: By, first: str, last: str) -> list[Span]:
    """The partitions from the one to the other, both included.

    Raises:
        ConfigError: they are none, in the wrong order, or too many for one call.
    """
    found, until = [span(by, first)], span(by, last)
    if until.start < found[0].start:
        raise ConfigError(f"{last} is before {first}", accepted="--from before --to, or the same")
    while found[-1].key != until.key:
        if len(found) == MOST:
            raise ConfigError(f"{first} to {last} is more than {MOST:,} times a {by}", next_step="several calls")
        found.append(_around(by, found[-1].end))
    return found


def _around(by: By, moment: datetime) -> Span:
    if moment.tzinfo is not None or moment.year < 1000:  # years have four digits
        raise ValueError
    start = moment.replace(minute=0, second=0, microsecond=0)
    if by != "hour":
        start = start.replace(hour=0)
    if by == "week":
        start -= timedelta(days=start.weekday())
    elif by == "month":
        start = start.replace(day=1)
    elif by == "year":
        start = start.replace(month=1, day=1)
    ends = {
        "hour": lambda: start + timedelta(hours=1),
        "day": lambda: start + timedelta(days=1),
        "week": lambda: start + timedelta(days=7),
        "month": lambda: (start + timedelta(days=32)).replace(day=1),
        "year": lambda: start.replace(year=start.year + 1),
    }
    return Span(_FORMS[by].format(at=start), start, ends[by]())


# --- sources ----------------------------------------------------------------------------------------------------------


def per_partition(source: AnyTable) -> bool:
    """Whether a source says which part of it is one partition."""
    if isinstance(source, Table | LogTable):
        return not NAMES.isdisjoint(PLACEHOLDER.findall(source.path))
    return isinstance(source, SqlTable) and source.sql.query is not None and bool(_bounds(source.sql.query))


def at(source: AnyTable, by: By, one: Span) -> AnyTable:
    """The part of a source that is one partition, as a source of its own."""
    if isinstance(source, SqlTable):
        assert source.sql.query is not None
        form = "%Y-%m-%d %H:%M:%S" if by == "hour" else "%Y-%m-%d"
        query = source.sql.query
        for begin, end, name in reversed(_bounds(query)):  # the last one first, so that places stay
            query = f"{query[:begin]}{_literal(getattr(one, name), form)}{query[end:]}"
        return source.model_copy(update={"sql": source.sql.model_copy(update={"query": query})})
    assert isinstance(source, Table | LogTable)
    year = one.start.isocalendar().year if by == "week" else one.start.year
    values = {"year": f"{year}", "month": f"{one.start:%m}", "day": f"{one.start:%d}", "hour": f"{one.start:%H}"}
    values["week"] = f"{one.start:%V}"
    return source.model_copy(update={"path": PLACEHOLDER.sub(lambda found: values[found[1]], source.path)})


def _literal(moment: datetime, form: str) -> str:
    """A moment as SQL: digits, and what `form` has between them; whatever is no `datetime` is a TypeError.

    It is not bound as a parameter. Postgres' COPY, which rows come through, takes none; and a literal takes the type of
    the column that it is compared with, be it a date, a time with a zone or without, or text, where a parameter has one
    type of its own.
    """
    return f"'{datetime.strftime(moment, form)}'"


def _bounds(query: str) -> list[tuple[int, int, str]]:
    """Where a query says `:start` and `:end`: not in a text, a comment or a cast."""
    if not any(f":{name}" in query for name in BOUNDS):
        return []
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        tokens = sqlglot.tokenize(query, read="postgres")
    except SqlglotError:  # its adapter says so
        return []
    return [
        (colon.start, name.end + 1, name.text)
        for colon, name in pairwise(tokens)
        if colon.text == ":" and name.text in BOUNDS and name.start == colon.end + 1
    ]


def check(by: By | None, sources: Mapping[str, AnyTable]) -> None:
    """Hold sources to how the project is partitioned; a ValueError says what is accepted."""
    found = {name: source for name, source in sources.items() if per_partition(source)}
    if by is None and found:
        raise ValueError(f"`partition` (of {', '.join(NEEDED)}), since table {min(found)!r} comes by partitions")
    if by is None:
        return
    wanted = "".join(f"{{{name}}}" for name in NEEDED[by])
    if not found:
        raise ValueError(f"a table with {wanted} in its `path`, or with :start and :end in its `query`")
    for name, source in found.items():
        if isinstance(source, SqlTable):
            if {bound for _, _, bound in _bounds(source.sql.query or "")} != set(BOUNDS):
                raise ValueError(f"both :start and :end in the `query` of table {name!r}")
        elif set(PLACEHOLDER.findall(source.path)) != set(NEEDED[by]):  # type: ignore[union-attr]  # those that have one
            raise ValueError(f"{wanted} and no other in the `path` of table {name!r}; `*` is what else varies")
