"""Great Expectations: suites from YAML, run on one table each, with the rows that broke them, and a Data Docs page."""

from __future__ import annotations

import difflib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import config
from components.errors import ConfigError, nearest
from components.project import Expectation
from components.strict_yaml import place

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 1000
"""Offending rows collected for one expectation; its count is of all."""
EXAMPLES, LONGEST = 3, 200
"""Values that an error shows, and characters of one text."""

Where = Callable[..., str]
"""From the parts of an expectation to what an error calls that place."""

_one_context = threading.Lock()
"""Great Expectations keeps one context a process in a global."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one expectation; `rows` are the first offending positions in the table, from 0."""

    expectation: Expectation
    column: str | None
    success: bool
    unexpected: int
    expected: str
    observed: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One table's outcomes in the order of its expectations, and Great Expectations' own result."""

    outcomes: tuple[Outcome, ...]
    result: Any


def suites(project: str, expectations: Mapping[str, Sequence[Expectation]]) -> dict[str, Any]:
    """Table -> Great Expectations' suite.

    Args:
        project: whose `expectations.yaml` the expectations are from; an error names its line.
        expectations: by table.

    Raises:
        ConfigError: a type or an argument that Great Expectations does not have.
    """
    with _one_context:
        _context()
        return {table: _suite(project, table, listed) for table, listed in expectations.items()}


def check_files(
    table: str, suite: Any, expectations: Sequence[Expectation], files: Sequence[Path], scratch: Path
) -> Verdict:
    """Hold a table in Parquet files to its suite: what holds in one pass, and a second look at the rest alone.

    Args:
        table: its name.
        suite: from `suites`.
        expectations: those of the suite, in its order.
        files: the table.
        scratch: a folder for what does not fit into memory.
    """
    import great_expectations as gx
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.adapters.sql_expectations import holding

    held = holding(expectations, files, scratch)
    rest = [order for order in range(len(expectations)) if order not in held]
    with _one_context:
        _context()
        second = gx.ExpectationSuite(name=table)
        second.expectations = [suite.expectations[order] for order in rest]
    schema, named = pq.read_schema(files[0]), _named([expectations[order] for order in rest])
    columns = schema.names if named is None else [name for name in schema.names if name in named] or schema.names[:1]
    parts = [pq.read_table(file, columns=columns) for file in files] if rest else [schema.empty_table()]
    rows = pa.concat_tables(parts)
    verdict = check(table, second, expectations, rows)
    found = dict(zip(rest, verdict.outcomes, strict=True))
    for order, result in held.items():
        told = _held(suite.expectations[order], result)
        verdict.result.results.append(told)
        found[order] = _outcome(expectations[order], told)
    _count(verdict.result)
    return Verdict(tuple(found[order] for order in range(len(expectations))), verdict.result)


def _named(expectations: Sequence[Expectation]) -> set[str] | None:
    """The columns that expectations are on; None where one may be on all of them."""
    names: set[str] = set()
    for one in expectations:
        kwargs = one.kwargs
        listed = kwargs.get("column_list")
        given = [kwargs.get(name) for name in ("column", "column_A", "column_B")]
        given += listed if isinstance(listed, list) else []
        on = {name for name in given if isinstance(name, str)}
        if not on or "row_condition" in kwargs:
            return None
        names |= on
    return names


def _held(expectation: Any, result: dict[str, Any]) -> Any:
    """Great Expectations' own result of an expectation that holds."""
    from great_expectations.core import ExpectationValidationResult

    config = expectation.configuration
    config.meta.pop("order")
    info = {"raised_exception": False, "exception_traceback": None, "exception_message": None}
    return ExpectationValidationResult(
        success=True, expectation_config=config, result=result, meta={}, exception_info=info
    )


def _count(result: Any) -> None:
    """The suite's statistics, of all its results."""
    every, good = len(result.results), sum(bool(one.success) for one in result.results)
    result.success = every == good
    result.statistics = {
        "evaluated_expectations": every,
        "successful_expectations": good,
        "unsuccessful_expectations": every - good,
        "success_percent": good / every * 100 if every else None,
    }


def check(table: str, suite: Any, expectations: Sequence[Expectation], rows: pa.Table) -> Verdict:
    """Run one table's suite on its rows."""
    frame = rows.to_pandas(date_as_object=False)
    with _one_context:
        asset = _context().data_sources.add_pandas("store").add_dataframe_asset(table)
        batch = asset.add_batch_definition_whole_dataframe("commit").get_batch({"dataframe": frame})
        result = batch.validate(
            suite, result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False}
        )
    outcomes: dict[int, Outcome] = {}
    for found in result.results:
        found.result = _plain(found.result)
        order = found.expectation_config.meta.pop("order")
        outcomes[order] = _outcome(expectations[order], found)
        if "unexpected_index_list" in found.result:
            del found.result["unexpected_index_list"][MAX_ROWS:]
    return Verdict(tuple(outcomes[order] for order in sorted(outcomes)), result)


def is_of_rows(type_: str) -> bool:
    """Whether an expectation says something of single rows; what Great Expectations does not have is not asked here."""
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )
    from great_expectations.expectations.registry import get_expectation_impl

    with _one_context:
        _context()
    found = get_expectation_impl(type_)
    return issubclass(found, ColumnMapExpectation | ColumnPairMapExpectation | MulticolumnMapExpectation)


def page(verdicts: Sequence[Verdict]) -> str:
    """The sections of the Data Docs pages of `verdicts`, as Great Expectations renders them: the inside of a page."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaSectionView

    sections = [
        section for verdict in verdicts for section in ValidationResultsPageRenderer().render(verdict.result).sections
    ]
    view = DefaultJinjaSectionView()
    return "\n".join(
        view.render({"section": section.to_json_dict(), "section_loop": {"index": index}})
        for index, section in enumerate(sections, 1)
    )


# --- inside -----------------------------------------------------------------------------------------------------------


def _context() -> Any:
    """A fresh context in memory that sends nothing anywhere and draws no progress bars."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types import base

    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)  # what it would say is in its results
    config = base.DataContextConfig(
        analytics_enabled=False,
        progress_bars=base.ProgressBarsConfig(globally=False),
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _suite(project: str, table: str, expectations: Sequence[Expectation]) -> Any:
    import great_expectations as gx

    path = config.root() / "config" / "projects" / project / "expectations.yaml"
    suite = gx.ExpectationSuite(name=table)
    for order, expectation in enumerate(expectations):
        where = partial(_where, path, table, order)
        suite.expectations.append(_expectation(where, expectation, order))
    return suite


def _where(path: Path, table: str, order: int, *part: str) -> str:
    """What an error calls a part of an expectation: its line too, where the file is on this machine."""
    name = f"tables.{table}[{order}]"
    return f"{place(path, 'tables', table, order, *part)}: {name}" if path.is_file() else f"{path}: {name}"


def _expectation(where: Where, expectation: Expectation, order: int) -> Any:
    from great_expectations.exceptions.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    given = ExpectationConfiguration(
        type=expectation.type,
        kwargs=dict(expectation.kwargs),
        severity=FailureSeverity(expectation.severity),
        notes=expectation.notes or None,
        meta={"order": order},
    )
    try:
        return given.to_domain_obj()
    except ExpectationNotFoundError as error:
        known = sorted(list_registered_expectation_implementations())
        raise ConfigError(
            f"{where('type')}: no expectation {expectation.type!r}{nearest(expectation.type, known)}",
            accepted=", ".join(difflib.get_close_matches(expectation.type, known, n=5, cutoff=0)),
            next_step="correct that line",
            details="\n".join(known),
        ) from error
    except (ValueError, TypeError) as error:  # pydantic's errors are ValueErrors
        faults = error.errors() if hasattr(error, "errors") else []
        raise _misfit(where, expectation, faults, str(error)) from error


def _misfit(where: Where, expectation: Expectation, faults: Sequence[Mapping[str, Any]], words: str) -> ConfigError:
    """What is wrong with the arguments of an expectation; a misspelt one goes first, it explains the missing one."""
    known = _arguments(expectation.type)
    accepted = ", ".join(known)
    found = sorted(faults, key=lambda fault: fault["type"] != "value_error.extra")
    name, kind = (str(found[0]["loc"][0]), found[0]["type"]) if found else ("", "")
    if kind == "value_error.extra":
        problem = f"no argument {name!r}{nearest(name, known)}"
    elif kind == "value_error.missing":
        problem = f"argument {name!r} is missing"
    elif name in expectation.kwargs:
        asked = [_ASKED.get(fault["type"], fault["msg"]) for fault in found if fault["loc"][0] == name]
        problem = f"{name} is {_short(expectation.kwargs[name])}"
        accepted = " or ".join(filter(None, dict.fromkeys(asked))).format(**found[0].get("ctx", {}))
    else:  # of several arguments together
        problem = found[0]["msg"] if found else words
    at = ("kwargs", name) if name in expectation.kwargs else ("kwargs",)
    problem = f"{where(*at)}: {expectation.type}: {problem}"
    return ConfigError(problem, accepted=accepted, next_step="correct that line", details=words)


_ASKED = {
    "type_error.bool": "true or false",
    "type_error.dict": "",  # a parameter that comes when it runs, which none does here
    "type_error.float": "a number",
    "type_error.integer": "a whole number",
    "type_error.list": "a list",
    "type_error.str": "text",
    "value_error.date": "a date",
    "value_error.datetime": "",
    "value_error.number.not_ge": "a number of {limit_value:g} or more",
    "value_error.number.not_le": "a number of {limit_value:g} or less",
}
"""Types of faults, in the words of the pydantic 1 that Great Expectations stands on -> what they ask for."""


def _arguments(type_: str) -> list[str]:
    """The arguments of an expectation that are its own."""
    from great_expectations.expectations.expectation import Expectation as Base
    from great_expectations.expectations.registry import get_expectation_impl

    return [name for name in get_expectation_impl(type_).__fields__ if name not in {*Base.__fields__, "batch_id"}]


def _plain(result: Any) -> dict[str, Any]:
    """`result` as plain JSON types: the renderer fails on NumPy 2's own numbers."""
    from great_expectations.util import convert_to_json_serializable

    plain: dict[str, Any] = json.loads(json.dumps(convert_to_json_serializable(result or {})))
    return plain


def _outcome(expectation: Expectation, found: Any) -> Outcome:
    column = expectation.kwargs.get("column")
    rows = found.result.get("unexpected_index_list") or []
    return Outcome(
        expectation=expectation,
        column=column if isinstance(column, str) else _columns(expectation),
        success=bool(found.success),
        unexpected=int(found.result.get("unexpected_count") or 0),
        expected=_expected(expectation),
        observed=_raised(found.exception_info) or _observed(found.result),
        rows=tuple(rows[:MAX_ROWS]),
    )


def _columns(expectation: Expectation) -> str | None:
    """The columns of an expectation on more than one."""
    kwargs = expectation.kwargs
    listed = kwargs.get("column_list") or [kwargs[name] for name in ("column_A", "column_B") if name in kwargs]
    return ", ".join(map(str, listed)) if isinstance(listed, list) and listed else None


def _expected(expectation: Expectation) -> str:
    """The arguments of an expectation, other than the columns that it is on."""
    columns = ("column", "column_list", "column_A", "column_B", "condition_parser")
    return ", ".join(f"{name} {_short(value)}" for name, value in expectation.kwargs.items() if name not in columns)


def _raised(info: Mapping[str, Any]) -> str:
    """What went wrong while it ran (the column is not there, say): one text, or one a metric."""
    raised = [info] if "raised_exception" in info else list(info.values())
    messages = [str(one["exception_message"]) for one in raised if one.get("raised_exception")]
    return messages[0].splitlines()[0] if messages and messages[0] else ""


def _observed(result: Mapping[str, Any]) -> str:
    """What was found, in words."""
    if "element_count" in result and "unexpected_count" in result:
        count, of = result["unexpected_count"], result["element_count"]
        values = [_short(value) for value in result.get("partial_unexpected_list", []) if value is not None]
        examples = ", ".join(list(dict.fromkeys(values))[:EXAMPLES])
        return f"{count:,} of {of:,} rows" + (f": {examples}" if examples else "")
    details = result.get("details")
    found = details.get("mismatched") if isinstance(details, dict) else None
    found = found or result.get("observed_value", result.get("partial_unexpected_list"))
    return "" if found is None else _short(found)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
