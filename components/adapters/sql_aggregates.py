"""Aggregates that a query names and joins, each to be made first, as a table.

DuckDB keeps one side of a join in memory and reads the other past it: the smaller one, as far as it knows. Of an
aggregate over a file it guesses that nearly each row is a group of its own, so that the table of all rows is the one it
keeps, and spills. Of a table it knows how many rows there are.
"""

from __future__ import annotations

from components.adapters.sql_rules import DIALECT

PREFIX = "trilha_aggregate_"
"""How the tables are called that take an aggregate's place."""


def aggregates_apart(query: str) -> tuple[dict[str, str], str]:
    """Table -> the query for its rows, in the order in which they are made; and the query that reads those tables.

    Args:
        query: one query in DuckDB's dialect.
    """
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(query, read=DIALECT)
    named = tree.args.get("with_")
    if named is None or named.args.get("recursive") or tree.find(exp.Join) is None:
        return {}, query
    made: dict[str, str] = {}
    before: list[str] = []
    for cte in named.expressions:
        if isinstance(cte.this, exp.Select) and cte.this.args.get("group"):
            table, name = f"{PREFIX}{len(made)}", cte.args["alias"].this.sql(dialect=DIALECT)
            made[table] = f"WITH {', '.join([*before, cte.sql(dialect=DIALECT)])} SELECT * FROM {name}"  # noqa: S608  # parts of a query that was checked
            cte.set("this", exp.select("*").from_(table))
        before.append(cte.sql(dialect=DIALECT))
    return made, tree.sql(dialect=DIALECT) if made else query
