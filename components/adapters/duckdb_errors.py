"""What DuckDB says about a file that it cannot read, as one line that names file, line and column."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import duckdb
import pyarrow as pa

from components.disk import disk_full, is_full
from components.errors import ConfigError, GateError, TrilhaError, UnavailableError
from components.staging import LocalFile

_LINE = re.compile(r"CSV Error on Line: (\d+)")
_FILE = re.compile(r"^ *file = (.*)$", re.MULTILINE)
_VALUE = re.compile(r"converting column \"(.*)\"\. Could not convert string \"(.*)\" to '(.*)'")
_COUNT = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_ROW = re.compile(r"^Original Line: ?(.*)$", re.MULTILINE)
_SEPARATOR = re.compile(r"^ *delimiter = (.) ", re.MULTILINE)
_JSON = re.compile(r"JSON in file \"(.*)\", at byte \d+ in line (\d+): ([^\n]*)")
_JSON_VALUE = re.compile(r"error in file \"(.*)\", in line (\d+): ([^\n]*)")
LONGEST = 80


@contextmanager
def translated(table: str, files: Sequence[LocalFile], folder: Path) -> Iterator[None]:
    """Turn DuckDB's errors about `files` into ours; `folder` is where it writes.

    Raises:
        GateError: a file is not what it should be.
        UnavailableError: the disk or the memory does not suffice.
    """
    try:
        yield
    except OSError as error:  # Arrow's, when it writes
        known = out_of_room(table, error, folder)
        if known is not None:
            raise known from error
        raise
    except pa.ArrowNotImplementedError as error:  # Arrow's name for a declared type that Parquet does not have
        raise ConfigError(
            f"table {table!r}: {error}",
            accepted="types that Parquet has",
            next_step="correct `columns` in project.yaml",
        ) from error
    except duckdb.Error as error:
        known = out_of_room(table, error, folder)
        raise known or _explain(table, files, str(error)) from error


def out_of_room(table: str, error: Exception, folder: Path) -> UnavailableError | None:
    """The error for a disk, that of `folder`, or a memory that does not suffice, if that is what `error` is about."""
    text = str(error)
    if is_full(error):
        return disk_full(folder)
    if text.startswith("Out of Memory Error"):
        return UnavailableError(
            f"table {table!r}: not enough memory: {text.splitlines()[0]}",
            next_step="free some, or partition by a column with fewer values, then run again",
        )
    return None


def _explain(table: str, files: Sequence[LocalFile], text: str) -> TrilhaError:
    for file in files:
        text = text.replace(str(file.path), file.name)
    if "CSV Error on Line" in text:
        return _csv_error(table, text)
    fault = _JSON.search(text)
    if fault:
        line = _broken_line(files, fault[1]) or fault[2]
        return GateError(
            f"table {table!r}: {fault[1]}, line {line}: not JSON: {fault[3].strip()}",
            accepted="one JSON object a line",
            next_step="correct that line",
            details=text,
        )
    fault = _JSON_VALUE.search(text)
    if fault:
        column = _json_column(files, fault[1], int(fault[2]), fault[3])
        return GateError(
            f"table {table!r}: {fault[1]}, line {fault[2]}{column}: {fault[3]}",
            accepted="one type a column",
            next_step="correct that line, or `columns` in project.yaml",
            details=text,
        )
    return GateError(
        f"table {table!r}: {_culprit(files, text)} cannot be read as {files[0].format}: {text.splitlines()[0]}",
        accepted="CSV with a header, JSON lines, or Parquet, in UTF-8",
        next_step="get the file again, or correct `format` in project.yaml",
        details=text,
    )


def _csv_error(table: str, text: str) -> TrilhaError:
    file, line = _FILE.search(text), _LINE.search(text)
    where = f"table {table!r}: {file[1] if file else ''}, line {line[1] if line else '?'}"
    if "not utf-8" in text:
        return _not_utf8(where, text)
    fault = _VALUE.search(text)
    if fault:
        return GateError(
            f"{where}, column {fault[1]!r}: {_short(fault[2])!r} is not {fault[3]}",
            accepted=f"{fault[3]}, or nothing where there is no value",
            next_step="correct the value, or declare the column's type (`columns`) or the text for missing values "
            "(`null`) in project.yaml",
            details=text,
        )
    fault = _COUNT.search(text)
    if fault:
        return GateError(
            f"{where}: {_values(text) or fault[2]} values, where the header has {fault[1]} names",
            accepted='as many values as names; values that hold the separator quoted with "',
            next_step="correct that line",
            details=text,
        )
    problem = "a quote that is never closed" if "unterminated quote" in text else _short(_problem(text))
    return GateError(f"{where}: {problem}", accepted="CSV with a header", next_step="correct that line", details=text)


def _values(text: str) -> int:
    """How many values the row has that DuckDB complains about; it stops to count at the first that is too many."""
    row, separator = _ROW.search(text), _SEPARATOR.search(text)
    return len(next(csv.reader([row[1]], delimiter=separator[1]))) if row and separator else 0


def _problem(text: str) -> str:
    """The line of DuckDB's message that says what is wrong: the first after the original line."""
    lines = [line for line in text.splitlines()[1:] if line and not line.startswith("Original Line")]
    return lines[0] if lines else text


def _not_utf8(where: str, details: str) -> GateError:
    return GateError(
        f"{where}: not UTF-8",
        accepted="UTF-8",
        next_step="convert the file: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW (or the encoding that it has)",
        details=details,
    )


def _broken_line(files: Sequence[LocalFile], name: str) -> int | None:
    """The first line that is not JSON; DuckDB's own number is one too high where a line stops short."""
    path = next((file.path for file in files if file.name == name), None)
    if path is not None:
        with path.open(encoding="utf-8", errors="replace") as text:
            for number, line in enumerate(text, 1):
                try:
                    json.loads(line if line.strip() else "null")
                except ValueError:
                    return number
    return None


def _json_column(files: Sequence[LocalFile], name: str, line: int, problem: str) -> str:
    """`, column 'x'` for the column whose value DuckDB complains about; it does not say which."""
    path = next((file.path for file in files if file.name == name), None)
    quoted = re.search(r'"(.*)"', problem)
    if path is None or quoted is None:
        return ""
    with path.open(encoding="utf-8", errors="replace") as text:
        row = json.loads(next(islice(text, line - 1, None), "{}"))
    return next((f", column {column!r}" for column, value in row.items() if str(value) == quoted[1]), "")


def odd_line(path: Path, column: str) -> int | None:
    """The first line of a JSON lines file whose `column` has another type than the lines before it."""
    kinds: set[type] = set()
    with path.open(encoding="utf-8", errors="replace") as text:
        for number, line in enumerate(text, 1):
            value = json.loads(line).get(column) if line.strip() else None
            kind = float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
            if value is not None and kinds and kind not in kinds:
                return number
            if value is not None:
                kinds.add(kind)
    return None


def _culprit(files: Sequence[LocalFile], text: str) -> str:
    return next((file.name for file in files if file.name in text), files[0].name)


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else value[: LONGEST - 3] + "..."
