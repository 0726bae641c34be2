"""Validate: hold one commit to the project's expectations; leaves a page, the result and the rows that broke them."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from components.errors import ConfigError, GateError
from components.ledger import effect_key
from components.project import Expectation
from components.records import Artifact, Commit, ExpectationResult, FileStamp, Validation
from components.tables import COMMIT, MAIN, Contents, contents, newest_partitions, partition_contents, sources_of
from components.validation_page import render
from components.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pyarrow as pa

    from components.adapters.great_expectations import Outcome, Verdict
    from components.ports import DataStore
    from components.workspace import Workspace

REPORT, DOCS, OFFENDING = "validation.json", "index.html", "offending.parquet"
SCHEMA = "schema_unchanged"
"""The one expectation that Trilha adds itself."""
EXPECTED_SCHEMA = f"the columns of {MAIN}, with their types"
STATES_COLUMNS = ("expect_table_columns_to_match_set", "expect_table_columns_to_match_ordered_list")


@dataclass(frozen=True, slots=True)
class _Rows:
    """One table as it is checked, and where its rows lie: path in the store, its file, rows up to and with that file.

    `sources` are the files of the outside world that it was read from.
    """

    files: tuple[Path, ...]
    paths: tuple[str, ...]
    ends: tuple[int, ...]
    sources: tuple[str, ...]

    def column(self, name: str) -> pa.ChunkedArray:
        """One column, of all rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pa.concat_tables([pq.read_table(file, columns=[name]) for file in self.files])[name]

    def take(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The rows (from 0, ascending), whole; a file without any of them is not read."""
        import pyarrow.parquet as pq

        found: list[dict[str, Any]] = []
        for begin, end, file in zip((0, *self.ends), self.ends, self.files, strict=False):
            inside = [row - begin for row in rows if begin <= row < end]
            if inside:
                found += pq.read_table(file).take(inside).to_pylist()
        return found

    def place(self, row: int) -> tuple[str, int]:
        """File and row (from 1) of the table's row `row` (from 0)."""
        index = bisect_right(self.ends, row)
        return self.paths[index], row + 1 - (self.ends[index - 1] if index else 0)

    @property
    def source(self) -> str | None:
        """What the rows were read from, in words."""
        more = f" and {len(self.sources) - 1} more" if len(self.sources) > 1 else ""
        return self.sources[0] + more if self.sources else None

    @property
    def keeps_order(self) -> bool:
        """Whether a row has the same number in the source: one file as one file."""
        return len(self.sources) == len(self.paths) == 1


def validate(
    project: str,
    profile: str,
    commit: Commit,
    expectations: dict[str, tuple[Expectation, ...]],
    partition: str | None = None,
) -> Validation:
    """Check the tables of `commit`; whatever the verdict, its page and its files are kept.

    Columns that `main` has may not go away or change their type unseen: see `_schema`.

    Args:
        project: the folder in the store.
        profile: names the data store.
        commit: the ingested data.
        expectations: by table.
        partition: its key, to check the rows of that one alone.

    Raises:
        ConfigError: an expectation that Great Expectations does not have, or on a table that is not there.
        GateError: a critical expectation does not hold; the page and the offending rows are in the details.
    """
    from components.adapters.great_expectations import check_files, suites

    workspace = open_workspace(profile)
    made = _made(workspace.store, commit.id, project, partition)
    unknown = sorted(expectations.keys() - made.tables)
    if unknown:
        raise ConfigError(
            f"expectations on table {unknown[0]!r}",
            accepted=", ".join(made.tables) or f"none: commit {commit.id[:12]} has no tables of {project!r}",
            next_step=f"correct config/projects/{project}/expectations.yaml",
        )
    prepared = suites(project, expectations)
    read = partial(_read, workspace.store, commit, project, partition=partition)
    results, offending = _schema(made, _before(workspace.store, project, partition), expectations, read)
    schema = list(results)
    verdicts: dict[str, Verdict] = {}
    for table, listed in expectations.items():
        rows = read(table)
        with workspace.artifacts.folder(f"{effect_key()}-spill") as spill:
            verdicts[table] = check_files(table, prepared[table], listed, rows.files, spill)
        for outcome in verdicts[table].outcomes:
            results.append(_result(table, outcome))
            if not outcome.success:
                offending += _offending(table, outcome, rows)
    files = _write(workspace, project, commit, schema, results, verdicts, offending)
    validation = Validation(
        tree=commit.tree,
        results=tuple(results),
        report=files[REPORT],
        docs=files[DOCS],
        offending=files.get(OFFENDING),
    )
    failed = [result for result in results if not result.success and result.severity == "critical"]
    if failed:
        raise _refusal(project, commit, failed, offending, [workspace.artifacts.local(file) for file in files.values()])
    return validation


def row_by_row(expectations: tuple[Expectation, ...]) -> tuple[Expectation, ...]:
    """The critical expectations that each row can be held to, whatever rows there are beside it.

    Counts, means, sets of distinct values and shares (`mostly`) are said of a whole table.
    """
    from components.adapters.great_expectations import is_of_rows

    return tuple(
        one
        for one in expectations
        if one.severity == "critical" and one.kwargs.get("mostly", 1) == 1 and is_of_rows(one.type)
    )


def refuse(workspace: Workspace, project: str, commit: Commit, table: str, path: str, verdict: Verdict) -> GateError:
    """Write down why the rows of one file of a commit are refused, as `validate` does; returns the error to raise.

    Args:
        workspace: its artifacts take the page, the result and the rows.
        project: the folder in the store.
        commit: holds the file.
        table: its table.
        path: the file.
        verdict: at least one critical expectation of it does not hold.
    """
    import pyarrow.parquet as pq

    held = workspace.store.local(commit.id, path)
    rows = _Rows((held,), (path,), (pq.read_metadata(held).num_rows,), ())
    results = [_result(table, outcome) for outcome in verdict.outcomes]
    broken = (outcome for outcome in verdict.outcomes if not outcome.success)
    offending = [row for outcome in broken for row in _offending(table, outcome, rows)]
    files = _write(workspace, project, commit, [], results, {table: verdict}, offending)
    failed = [result for result in results if not result.success]
    return _refusal(project, commit, failed, offending, [workspace.artifacts.local(file) for file in files.values()])


def _write(
    workspace: Workspace,
    project: str,
    commit: Commit,
    schema: list[ExpectationResult],
    results: list[ExpectationResult],
    verdicts: dict[str, Verdict],
    offending: list[dict[str, Any]],
) -> dict[str, Artifact]:
    """The files that are kept of a verdict, whatever it is."""
    with workspace.output() as out:
        _write_report(out.folder / REPORT, schema, verdicts)
        (out.folder / DOCS).write_text(render(project, commit.tree, results, list(verdicts.values())))
        if offending:
            _write_offending(out.folder / OFFENDING, offending)
        return out.publish()


def _schema(
    made: Contents,
    before: Contents | None,
    expectations: dict[str, tuple[Expectation, ...]],
    read: Callable[[str], _Rows],
) -> tuple[list[ExpectationResult], list[dict[str, Any]]]:
    """Compare each table's columns with those on `main`; a new column is welcome.

    A column may change its type where project.yaml declares the new one, and may go where the table's expectations
    state which columns it has: then somebody has said so.
    """
    results, offending = [], []
    for name, table in made.tables.items():
        old = before.tables[name].columns if before and name in before.tables else {}
        stated = any(expectation.type in STATES_COLUMNS for expectation in expectations.get(name, ()))
        for column, type_ in old.items():
            new = table.columns.get(column)
            if new is None and not stated:
                results.append(_schema_result(name, column, f"{type_} on {MAIN}, gone here"))
            elif new is not None and new != type_ and column not in table.declared:
                rows = read(name)
                outcome = _retyped(column, type_, new, rows)
                results.append(_result(name, outcome))
                offending += _offending(name, outcome, rows)
        if not any(result.table == name for result in results):
            results.append(_schema_result(name, None, ""))
    return results, offending


def _retyped(column: str, old: str, new: str, rows: _Rows) -> Outcome:
    """What became of a column that has another type here; its rows are those that made it so."""
    from components.adapters.duckdb_faults import misfits
    from components.adapters.great_expectations import MAX_ROWS, Outcome

    there = rows.column(column)
    found = misfits(there, old)
    values = f"{len(found):,} value{'s' if len(found) > 1 else ''}"
    such = f": {values} not {old}, such as {there[found[0]].as_py()!r}" if found else ""
    return Outcome(
        expectation=Expectation(type=SCHEMA),
        column=column,
        success=False,
        unexpected=len(found),
        expected=EXPECTED_SCHEMA,
        observed=f"{old} on {MAIN}, {new} here{such}",
        rows=tuple(found[:MAX_ROWS]),
    )


def _schema_result(table: str, column: str | None, observed: str) -> ExpectationResult:
    return ExpectationResult(
        table=table,
        expectation=SCHEMA,
        column=column,
        severity="critical",
        success=not observed,
        unexpected=0,
        expected=EXPECTED_SCHEMA,
        observed=observed,
    )


def _made(store: DataStore, commit: str, project: str, partition: str | None) -> Contents:
    """What is to be checked: all tables, or one partition of those that have it."""
    if partition is None:
        return contents(store, commit, project) or Contents(tables={})
    parts = partition_contents(store, commit, project, partition)
    return Contents(tables={table: of[partition] for table, of in parts.items()})


def _before(store: DataStore, project: str, partition: str | None) -> Contents | None:
    """What `main` holds, or one partition of it, whose columns are those of all."""
    if partition is None:
        return contents(store, MAIN, project)
    return Contents(tables=newest_partitions(store, MAIN, project))


def _read(store: DataStore, commit: Commit, project: str, table: str, partition: str | None) -> _Rows:
    import pyarrow.parquet as pq

    listed = store.ls(commit.id, f"{project}/{table}" + (f"/{partition}" if partition else ""))
    paths = tuple(entry.path for entry in listed if entry.path.endswith(".parquet"))
    local = tuple(store.local(commit.id, path) for path in paths)
    files: tuple[FileStamp, ...]
    if partition:
        files = partition_contents(store, commit.id, project, partition)[table][partition].stamps
    else:
        files = sources_of(store, commit.id, project).get(table, ())
    sources = tuple(file.url for file in files if not file.url.startswith(COMMIT))  # that file is the one in the store
    return _Rows(local, paths, tuple(accumulate(pq.read_metadata(file).num_rows for file in local)), sources)


def _result(table: str, outcome: Outcome) -> ExpectationResult:
    return ExpectationResult(
        table=table,
        expectation=outcome.expectation.type,
        column=outcome.column,
        severity=outcome.expectation.severity,
        success=outcome.success,
        unexpected=outcome.unexpected,
        expected=outcome.expected,
        observed=outcome.observed,
        notes=outcome.expectation.notes,
    )


def _offending(table: str, outcome: Outcome, rows: _Rows) -> list[dict[str, Any]]:
    """The rows that broke one expectation, with what they hold."""
    found = []
    places = sorted(outcome.rows)
    for row, value in zip(places, rows.take(places), strict=True):
        path, number = rows.place(row)
        found.append(
            {
                "table": table,
                "file": path,
                "row": number,
                "source": rows.source,
                "source_row": number if rows.keeps_order else None,
                "expectation": outcome.expectation.type,
                "column": outcome.column,
                "severity": outcome.expectation.severity,
                "values": json.dumps(value, default=str, ensure_ascii=False),
            }
        )
    return found


def _write_report(path: Path, schema: list[ExpectationResult], verdicts: dict[str, Verdict]) -> None:
    """Great Expectations' own result for each table, and ours on the schema."""
    report = {
        "schema": [result.model_dump() for result in schema],
        "tables": {table: verdict.result.to_json_dict() for table, verdict in verdicts.items()},
    }
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False))


def _write_offending(path: Path, offending: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(offending), path, compression="zstd")


def _refusal(
    project: str, commit: Commit, failed: list[ExpectationResult], offending: list[dict[str, Any]], files: list[Path]
) -> GateError:
    first = failed[0]
    at = next(
        (
            f"; first: {_where(row)}"
            for row in offending
            if (row["table"], row["expectation"], row["column"]) == (first.table, first.expectation, first.column)
        ),
        "",
    )
    return GateError(
        f"{len(failed)} critical expectation{'s' if len(failed) > 1 else ''} on {project} failed: {_line(first)}{at}",
        accepted="data that meets config/projects/" + project + "/expectations.yaml",
        next_step=f"open {next(path for path in files if path.name == DOCS)}; correct the source or the expectation; "
        f"{MAIN} is as it was, the data is on {commit.branch}",
        details="\n".join([*map(_line, failed), *map(str, files)]),
    )


def _where(row: dict[str, Any]) -> str:
    if row["source_row"] is not None:
        return f"row {row['source_row']} of {row['source']}"
    return f"row {row['row']} of {row['file']}" + (f", read from {row['source']}" if row["source"] else "")


def _line(result: ExpectationResult) -> str:
    column = f", column {result.column!r}" if result.column else ""
    expected = f" ({result.expected})" if result.expected else ""
    return f"table {result.table!r}{column}: {result.expectation}{expected}: {result.observed}"
