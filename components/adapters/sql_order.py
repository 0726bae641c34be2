"""Whether a query's rows depend on the order in which an engine comes to the rows that it reads.

The sum of floating-point numbers does: each order rounds otherwise. So does what takes the first of several rows. An
engine with one thread has one order; one with many threads may only be let loose on a query to which order is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.adapters.sql_rules import DIALECT

if TYPE_CHECKING:
    from sqlglot import exp


def order_matters(query: str, tables: Mapping[str, Sequence[Path]]) -> bool:
    """Whether it may: only what is known to be the same in any order is said to be.

    Args:
        query: one query in DuckDB's dialect.
        tables: name -> its Parquet files, which know the columns' types.
    """
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(query, read=DIALECT)
    if tree.find(exp.Window, exp.Limit, exp.Offset, exp.Anonymous, exp.AnonymousAggFunc):
        return True
    distinct = tree.find(exp.Distinct)
    if distinct is not None and distinct.args.get("on"):
        return True
    aggregates = [*tree.find_all(exp.AggFunc)]
    exact = (exp.Count, exp.CountIf, exp.Max, exp.Min, exp.LogicalAnd, exp.LogicalOr)
    if all(isinstance(found, exact) for found in aggregates):
        return False
    if any(not isinstance(found, (*exact, exp.Sum, exp.Avg)) for found in aggregates):
        return True
    return not _sums_whole_numbers(tree, tables)


def is_row_by_row(query: str) -> bool:
    """Whether it yields the rows of one table, each once or not at all, which any engine yields in the table's order.

    Args:
        query: one query in DuckDB's dialect.
    """
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(query, read=DIALECT)
    source = tree.args.get("from_")
    if not isinstance(tree, exp.Select) or source is None or not isinstance(source.this.this, exp.Identifier):
        return False
    if any(value for name, value in tree.args.items() if name not in {"expressions", "from_", "where"}):
        return False
    several = (exp.AggFunc, exp.Anonymous, exp.AnonymousAggFunc, exp.Columns, exp.UDTF, exp.Explode, exp.Window)
    return not tree.find(*several) and len([*tree.find_all(exp.Query)]) == 1


def _sums_whole_numbers(tree: exp.Expr, tables: Mapping[str, Sequence[Path]]) -> bool:
    """Whether every sum and average is one of whole numbers, which engines add up exactly."""
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.annotate_types import annotate_types
    from sqlglot.optimizer.qualify import qualify

    schema: dict[str, object] = {name: _columns(files[0]) for name, files in tables.items()}
    try:
        typed = annotate_types(qualify(tree, schema=schema, dialect=DIALECT), schema=schema, dialect=DIALECT)
    except SqlglotError:  # it uses what sqlglot cannot resolve, DuckDB's own `columns(*)`, say
        return False
    whole = exp.DataType.INTEGER_TYPES
    return all(found.this.type and found.this.type.this in whole for found in typed.find_all(exp.Sum, exp.Avg))


def _columns(file: Path) -> dict[str, str]:
    """The types of a Parquet file's columns as sqlglot needs them: whole numbers, and all else."""
    import pyarrow.parquet as pq
    import pyarrow.types as kinds

    return {
        field.name: "bigint" if kinds.is_integer(field.type) and not kinds.is_uint64(field.type) else "double"
        for field in pq.read_schema(file)
    }
