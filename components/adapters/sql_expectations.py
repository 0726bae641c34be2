"""Expectations that hold in every row, found so in one pass of DuckDB over a table's files.

What holds needs no second look: Great Expectations' own result for it is made of counts. What does not hold, or is not
known here, is Great Expectations' to judge, on the columns that it names. So the verdict here is only ever `holds`, and
only where both would say it: what they might see differently (a pattern's `not a word`, a decimal, a moment as text) is
left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb

from components.adapters.duckdb_faults import quoted
from components.project import Expectation

WHOLE: Final = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
NUMBERS: Final = WHOLE | {"FLOAT", "DOUBLE"}
COMPARED: Final = NUMBERS | {"VARCHAR", "DATE", "TIMESTAMP"}
MEMORY: Final = "1GB"
"""More goes to the disk: whether millions of values are all different has to be kept somewhere."""
APART: Final = re.compile(r"\\[WDSbBAZ]|\(\?")
"""What RE2 and Python take differently, or RE2 not at all."""


@dataclass
class _Query:
    """One `select` of counts over the rows, to which each expectation adds what it has to know."""

    types: Mapping[str, str]
    parts: dict[str, int] = field(default_factory=dict)
    values: list[Any] = field(default_factory=list)

    def ask(self, sql: str, *values: Any) -> int:
        """The place in the answer of an aggregate; `?` stands for each of `values`."""
        if not values and sql in self.parts:
            return self.parts[sql]
        self.values += values
        self.parts[sql if not values else f"{sql} -- {len(self.parts)}"] = len(self.parts)
        return len(self.parts) - 1

    def there(self, column: str) -> str:
        """The condition that a value is not missing; pandas takes NaN for missing."""
        name = quoted(column)
        nan = f" and not isnan({name})" if self.types[column] in {"FLOAT", "DOUBLE"} else ""
        return f"({name} is not null{nan})"

    def run(self, connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> tuple[Any, ...]:
        """Every aggregate, in one pass."""
        asked = ",\n".join(f"{sql.partition(' -- ')[0]}" for sql in self.parts)
        query = f"select {asked} from read_parquet(?, union_by_name = true, hive_partitioning = false)"  # noqa: S608  # quoted
        (row,) = connection.execute(query, [*self.values, [str(file) for file in files]]).fetchall()
        return tuple(row)


Told = Callable[[tuple[Any, ...]], dict[str, Any] | None]
"""From the answer to Great Expectations' result; None where it does not hold."""


def holding(expectations: Sequence[Expectation], files: Sequence[Path], scratch: Path) -> dict[int, dict[str, Any]]:
    """The results of those that hold, by their place in `expectations`.

    Args:
        expectations: of one table.
        files: its Parquet files.
        scratch: a folder for what does not fit into memory.
    """
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(scratch)}) as connection:
        connection.execute("set preserve_insertion_order = false")
        listed = [str(file) for file in files]
        found = connection.execute(
            "describe select * from read_parquet(?, union_by_name = true, hive_partitioning = false)", [listed]
        ).fetchall()
        query = _Query({name: type_ for name, type_, *_ in found})
        query.ask("count(*)")
        told = {place: one for place, each in enumerate(expectations) if (one := _told(query, each))}
        if not told:
            return {}
        answer = query.run(connection, files)
    results = {place: one(answer) for place, one in told.items()}
    return {place: result for place, result in results.items() if result is not None and answer[0]}


def _told(query: _Query, expectation: Expectation) -> Told | None:
    """How one expectation is found to hold; None where that is not known here."""
    kwargs = {name: value for name, value in expectation.kwargs.items() if name != "mostly"}  # all is most
    kind = expectation.type.removeprefix("expect_")
    if kind in _OF_TABLES:
        return _OF_TABLES[kind](query, kwargs)
    column = kwargs.pop("column", None)
    if not isinstance(column, str) or column not in query.types:
        return None
    if kind in _OF_COLUMNS:
        return _OF_COLUMNS[kind](query, column, kwargs)
    return _each_row(query, kind, column, kwargs) if kind in _OF_ROWS else None


# --- of single rows ---------------------------------------------------------------------------------------------------


def _each_row(query: _Query, kind: str, column: str, kwargs: Mapping[str, Any]) -> Told | None:
    there = query.there(column)
    stray = _OF_ROWS[kind](quoted(column), query.types[column], there, kwargs)
    if stray is None:
        return None
    sql, values = stray
    strays = query.ask(f"count(*) filter ({sql})", *values)
    present = query.ask(f"count(*) filter ({there})")
    nulls = kind in {"column_values_to_not_be_null", "column_values_to_be_null"}
    return lambda row: _of_rows(row[0], None if nulls else row[present]) if not row[strays] else None


Stray = tuple[str, list[Any]] | None
"""The condition that a row breaks an expectation, and its parameters; None where it is not known here."""


def _missing(_: str, __: str, there: str, kwargs: Mapping[str, Any]) -> Stray:
    return (f"not {there}", []) if not kwargs else None


def _present(_: str, __: str, there: str, kwargs: Mapping[str, Any]) -> Stray:
    return (there, []) if not kwargs else None


def _outside_set(name: str, type_: str, there: str, kwargs: Mapping[str, Any]) -> Stray:
    return (f"{there} and {name} not in ({_marks(kwargs)})", kwargs["value_set"]) if _is_set(kwargs, type_) else None


def _inside_set(name: str, type_: str, there: str, kwargs: Mapping[str, Any]) -> Stray:
    return (f"{there} and {name} in ({_marks(kwargs)})", kwargs["value_set"]) if _is_set(kwargs, type_) else None


def _beyond(name: str, type_: str, there: str, kwargs: Mapping[str, Any]) -> Stray:
    return _outside(name, there, kwargs) if type_ in NUMBERS and _are_bounds(kwargs) else None


def _too_long(name: str, type_: str, there: str, kwargs: Mapping[str, Any]) -> Stray:
    return _outside(f"length({name})", there, kwargs) if type_ == "VARCHAR" and _are_bounds(kwargs) else None


def _unlike(name: str, type_: str, there: str, kwargs: Mapping[str, Any]) -> Stray:
    pattern = kwargs.get("regex")
    if kwargs.keys() != {"regex"} or type_ != "VARCHAR" or not isinstance(pattern, str) or not _is_pattern(pattern):
        return None
    return f"{there} and not regexp_matches({name}, ?)", [pattern]


_OF_ROWS: Final[dict[str, Callable[[str, str, str, Mapping[str, Any]], Stray]]] = {
    "column_value_lengths_to_be_between": _too_long,
    "column_values_to_be_between": _beyond,
    "column_values_to_be_in_set": _outside_set,
    "column_values_to_be_null": _present,
    "column_values_to_match_regex": _unlike,
    "column_values_to_not_be_in_set": _inside_set,
    "column_values_to_not_be_null": _missing,
}


def _of_rows(rows: int, present: int | None) -> dict[str, Any] | None:
    """Great Expectations' result of what holds in every row; `present` is None where missing values are not apart."""
    if present == 0:  # it says nothing then, and Great Expectations says so
        return None
    missing = {}
    if present is not None:
        missing = {
            "missing_count": rows - present,
            "missing_percent": (rows - present) / rows * 100,
            "unexpected_percent_total": 0.0,
            "unexpected_percent_nonmissing": 0.0,
        }
    lists: dict[str, Any] = {
        name: []
        for name in (
            "partial_unexpected_counts", "partial_unexpected_index_list", "unexpected_list", "unexpected_index_list"
        )
    }  # fmt: skip
    counts = {"element_count": rows, "unexpected_count": 0, "unexpected_percent": 0.0, "partial_unexpected_list": []}
    return {**counts, **missing, **lists}


def _is_set(kwargs: Mapping[str, Any], type_: str) -> bool:
    """Whether there is nothing but values that compare with the column as they do in pandas."""
    known = kwargs.get("value_set")
    if kwargs.keys() != {"value_set"} or not isinstance(known, list) or not known:
        return False
    if type_ == "VARCHAR":
        return all(isinstance(value, str) for value in known)
    return type_ in NUMBERS and all(map(_is_number, known))


def _marks(kwargs: Mapping[str, Any]) -> str:
    return ", ".join("?" * len(kwargs["value_set"]))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_bounds(kwargs: Mapping[str, Any]) -> bool:
    known = {"min_value", "max_value", "strict_min", "strict_max"}
    given = [kwargs.get("min_value"), kwargs.get("max_value")]
    return kwargs.keys() <= known and all(one is None or _is_number(one) for one in given) and given != [None, None]


def _outside(what: str, there: str, bounds: Mapping[str, Any]) -> Stray:
    low, high = bounds.get("min_value"), bounds.get("max_value")
    parts = [
        *([f"{what} {'<=' if bounds.get('strict_min') else '<'} ?"] if low is not None else []),
        *([f"{what} {'>=' if bounds.get('strict_max') else '>'} ?"] if high is not None else []),
    ]
    return f"{there} and ({' or '.join(parts)})", [value for value in (low, high) if value is not None]


def _is_pattern(pattern: str) -> bool:
    """Whether RE2 takes it, and as Python does."""
    if APART.search(pattern):
        return False
    try:
        duckdb.execute("select regexp_matches('', ?)", [pattern]).fetchall()
    except duckdb.Error:
        return False
    return True


# --- of many rows together --------------------------------------------------------------------------------------------


def _unique(query: _Query, column: str, kwargs: Mapping[str, Any]) -> Told | None:
    if kwargs or query.types[column] not in COMPARED:
        return None
    there = query.there(column)
    present = query.ask(f"count(*) filter ({there})")
    different = query.ask(f"count(distinct {quoted(column)}) filter ({there})")
    return lambda row: _of_rows(row[0], row[present]) if row[present] == row[different] else None


def _known(query: _Query, column: str, kwargs: Mapping[str, Any], *, all_of_them: bool) -> Told | None:
    if not _is_set(kwargs, query.types[column]):
        return None
    known, there, name = kwargs["value_set"], query.there(column), quoted(column)
    strays = query.ask(f"count(*) filter ({there} and {name} not in ({_marks(kwargs)}))", *known)
    different = query.ask(f"count(distinct {name}) filter ({there})")
    result: dict[str, Any] = {"observed_value": None, "unexpected_count": 0, "partial_unexpected_list": []}
    if all_of_them:
        result |= {"missing_count": 0, "partial_missing_list": []}
    wanted = len(set(known)) if all_of_them else 1
    return lambda row: result if not row[strays] and row[different] >= wanted else None


def _aggregate(query: _Query, column: str, kwargs: Mapping[str, Any], *, function: str) -> Told | None:
    if query.types[column] not in NUMBERS or not _are_bounds(kwargs):
        return None
    there = query.there(column)
    value = query.ask(f"{function}({quoted(column)}) filter ({there})")
    present = query.ask(f"count(*) filter ({there})")

    def told(row: tuple[Any, ...]) -> dict[str, Any] | None:
        if not row[present] or not _within(row[value], kwargs):
            return None
        return {"observed_value": row[value] if row[present] == row[0] else float(row[value])}  # as pandas has it

    return told


def _within(value: float, bounds: Mapping[str, Any]) -> bool:
    low, high = bounds.get("min_value"), bounds.get("max_value")
    above = low is None or (value > low if bounds.get("strict_min") else value >= low)
    below = high is None or (value < high if bounds.get("strict_max") else value <= high)
    return above and below


_OF_COLUMNS: Final[dict[str, Callable[[_Query, str, Mapping[str, Any]], Told | None]]] = {
    "column_distinct_values_to_be_in_set": partial(_known, all_of_them=False),
    "column_distinct_values_to_equal_set": partial(_known, all_of_them=True),
    "column_max_to_be_between": partial(_aggregate, function="max"),
    "column_mean_to_be_between": partial(_aggregate, function="avg"),
    "column_min_to_be_between": partial(_aggregate, function="min"),
    "column_values_to_be_unique": _unique,
}


# --- of the table -----------------------------------------------------------------------------------------------------


def _compound(query: _Query, kwargs: Mapping[str, Any]) -> Told | None:
    columns = kwargs.get("column_list")
    if kwargs.keys() != {"column_list"} or not isinstance(columns, list) or len(columns) < 2:
        return None
    if any(query.types.get(column) not in COMPARED for column in columns):
        return None
    there = f"({' or '.join(query.there(column) for column in columns)})"
    present = query.ask(f"count(*) filter ({there})")
    different = query.ask(f"count(distinct ({', '.join(map(quoted, columns))})) filter ({there})")
    return lambda row: _of_rows(row[0], row[present]) if row[present] == row[different] else None


def _count_between(_: _Query, kwargs: Mapping[str, Any]) -> Told | None:
    if not _are_bounds(kwargs):
        return None
    return lambda row: {"observed_value": row[0]} if _within(row[0], kwargs) else None


def _count_equal(_: _Query, kwargs: Mapping[str, Any]) -> Told | None:
    if kwargs.keys() != {"value"} or not _is_number(kwargs["value"]):
        return None
    return lambda row: {"observed_value": row[0]} if row[0] == kwargs["value"] else None


def _columns_match(query: _Query, kwargs: Mapping[str, Any]) -> Told | None:
    named, exact = kwargs.get("column_set"), kwargs.get("exact_match", True)
    if not kwargs.keys() <= {"column_set", "exact_match"} or not isinstance(named, list):
        return None
    there = set(query.types)
    holds, more = set(named) == there if exact else set(named) <= there, sorted(there - set(named))
    result: dict[str, Any] = {"observed_value": sorted(there)}
    if more:
        result["details"] = {"mismatched": {"unexpected": more}}
    return (lambda _: result) if holds else None


_OF_TABLES: Final[dict[str, Callable[[_Query, Mapping[str, Any]], Told | None]]] = {
    "compound_columns_to_be_unique": _compound,
    "table_columns_to_match_set": _columns_match,
    "table_row_count_to_be_between": _count_between,
    "table_row_count_to_equal": _count_equal,
}
