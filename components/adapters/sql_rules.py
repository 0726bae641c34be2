"""What `features.sql` may be: one query whose rows follow from the project's tables, and from nothing else.

A file that it read beside them, or a clock, would be outside the commit, outside the step's key and outside the trail.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.errors import ConfigError

if TYPE_CHECKING:
    from sqlglot import Token, exp

DIALECT = "duckdb"

TABLE_FUNCTIONS = ("generate_series", "range", "unnest")
"""They make rows out of their arguments; all others look at files, at the engine, or at text as if it were SQL."""

_OF_DUCKDB = (
    "currval current_connection_id current_database current_date current_query current_query_id current_schema "
    "current_schemas current_transaction_id gen_random_uuid get_current_time get_current_timestamp in_search_path "
    "nextval now random setseed sleep_ms stats today transaction_timestamp txid_current uuid uuidv4 uuidv7 write_log"
)
"""What it calls VOLATILE or CONSISTENT_WITHIN_QUERY itself, but for `error`."""
_OF_A_MACHINE = "current_localtime current_localtimestamp current_setting getenv getvariable version"
_OF_SPARK = (
    "current_timestamp input_file_name java_method localtimestamp monotonically_increasing_id rand randn reflect "
    "spark_partition_id unix_timestamp"
)
"""DuckDB does not have them, and its dialect hands them on as they are."""
UNSTABLE = frozenset(f"{_OF_DUCKDB} {_OF_A_MACHINE} {_OF_SPARK}".split())
"""Functions whose result does not follow from their arguments."""

CLOCKS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
"""Those that are called without brackets."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """One thing that is not accepted, and its line."""

    line: int
    problem: str
    accepted: str
    next_step: str


def checked(sql: str, tables: Collection[str], *, source: str) -> str:
    """`sql` in one layout and without comments, so that two texts of one query are the same text.

    Args:
        sql: in DuckDB's dialect.
        tables: what it may read.
        source: what an error calls it.

    Raises:
        ConfigError: it is not one query over `tables` alone, or its rows depend on more than those; names the line.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import ParseError, SqlglotError

    accepted = f"one query over the tables {', '.join(sorted(tables))}"
    try:
        tokens = sqlglot.tokenize(sql, read=DIALECT)
        parsed = [tree for tree in sqlglot.parse(sql, read=DIALECT) if tree and not isinstance(tree, exp.Semicolon)]
    except SqlglotError as error:
        words = re.sub(r"\x1b\[\d+m", "", str(error)).strip()  # it underlines for terminals
        line = f":{error.errors[0]['line']}" if isinstance(error, ParseError) and error.errors else ""
        raise ConfigError(
            f"{source}{line}: {words.splitlines()[0]}", accepted=accepted, next_step=f"correct {source}", details=words
        ) from error
    if len(parsed) != 1:
        raise ConfigError(f"{source}: not exactly one statement", accepted=accepted, next_step=f"correct {source}")
    faults = sorted(_faults(parsed[0], tokens, tables, accepted), key=lambda fault: fault.line)
    if faults:
        raise ConfigError(
            f"{source}:{faults[0].line}: {faults[0].problem}",
            accepted=faults[0].accepted,
            next_step=faults[0].next_step,
            details="\n".join(f"line {fault.line}: {fault.problem}" for fault in faults),
        )
    return parsed[0].sql(dialect=DIALECT, comments=False, pretty=True)


def _faults(tree: exp.Expr, tokens: list[Token], tables: Collection[str], accepted: str) -> Iterator[_Fault]:
    from sqlglot import exp

    if not isinstance(tree, exp.Query) or tree.find(exp.DDL, exp.DML, exp.Command):
        word = tokens[0].text.upper()
        yield _Fault(tokens[0].line, f"{word} is not a query", accepted, "write the one `select` that yields the rows")
        return
    yield from _foreign_tables(tree, tables)
    yield from _unstable(tree, tokens)


def _foreign_tables(tree: exp.Expr, tables: Collection[str]) -> Iterator[_Fault]:
    """What stands where a table does, and is none of the project's."""
    from sqlglot import exp

    add = "add it under `sources` in project.yaml and read that table"
    known = {name.lower() for name in tables} | {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for node in tree.find_all(exp.Table, exp.Lateral):
        what = node.this
        line = what.meta.get("line", 1)
        if isinstance(what, exp.Func):
            name = what.sql(dialect=DIALECT).partition("(")[0].lower()
            if name not in TABLE_FUNCTIONS:
                accepted = f"{', '.join(sorted(tables))}, and the functions {', '.join(TABLE_FUNCTIONS)}"
                yield _Fault(line, f"{name}(...) reads what is in no commit of the data store", accepted, add)
        elif isinstance(node, exp.Table) and (node.db or node.name.lower() not in known):
            name = ".".join(part.name for part in node.parts)
            close = difflib.get_close_matches(name, sorted(tables), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            step = f"correct the name, or {add}"
            yield _Fault(line, f"there is no table {name!r}{hint}", ", ".join(sorted(tables)), step)


def _unstable(tree: exp.Expr, tokens: list[Token]) -> Iterator[_Fault]:
    """What yields other rows the next time."""
    from sqlglot import TokenType, exp

    accepted = "what follows from the rows alone, so that the same commit gives the same examples"
    column = "take it from a column; what no source has, add under `sources` in project.yaml"
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        name = token.text.lower()
        called = after is not None and after.token_type == TokenType.L_PAREN
        is_name = token.token_type in {TokenType.IDENTIFIER, TokenType.STRING}
        is_name = is_name or (before is not None and before.token_type in {TokenType.DOT, TokenType.ALIAS})
        if (called and name in UNSTABLE) or (not is_name and name in CLOCKS):
            yield _Fault(token.line, f"{name} is another value each time", accepted, column)
    for call in tree.find_all(exp.Anonymous):
        if call.name.lower() == "age" and len(call.expressions) == 1:
            yield _Fault(
                call.meta.get("line", 1), "age(...) of one time counts from today", "age(later, earlier)", column
            )
    for sample in tree.find_all(exp.TableSample):
        line = next((token.line for token in tokens if token.text.upper() in {"SAMPLE", "TABLESAMPLE"}), 1)
        yield _Fault(line, f"a sample is drawn anew each time: {sample.sql(dialect=DIALECT).strip()}", accepted, column)
