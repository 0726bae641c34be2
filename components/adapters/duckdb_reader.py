"""CSV, JSON lines and Parquet to Parquet: DuckDB reads in parallel and in order, Arrow writes beside it.

DuckDB's own parallel writer cuts row groups where its threads happen to be, so that the bytes differ from run to run.
What its CSV reader would guess in silence (quotes, comments, types that differ between files) is fixed here or refused.
"""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from components.adapters.duckdb_errors import odd_line, translated
from components.adapters.duckdb_faults import SEPARATORS, misfit_in_files, odd_row, quoted
from components.adapters.parquet_files import ParquetFiles
from components.errors import ConfigError, GateError
from components.source_settings import Table
from components.staging import LocalFile

MEMORY = "700MB"
"""DuckDB spills to the scratch folder beyond this; the process as a whole stays below 1 GB."""
GROUP = 64_000_000
"""Bytes in a row group, about."""
MAX_THREADS = 8

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*(\([0-9, ]+\))?(\[\])*")


@dataclass(frozen=True, slots=True)
class Converted:
    """One table as Parquet: file name -> file, rows in all, and column -> DuckDB type; what was left out, in words."""

    files: dict[str, Path]
    rows: int
    columns: dict[str, str]
    left: str = ""


def to_parquet(table: str, source: Table, files: Sequence[LocalFile], folder: Path) -> Converted:
    """Write the rows of `files`, in their order, as Parquet below `folder`.

    Args:
        table: its name, for errors.
        source: declared types, the text for missing values, and the column to partition by.
        files: local files of one format.
        folder: empty; also takes what DuckDB spills.

    Raises:
        ConfigError: a declared type does not exist.
        GateError: a file cannot be read as what it says it is, columns are missing or differ between files, a value
            does not fit its column's type, or there are no rows; names file, line and column where there is one.
        UnavailableError: the disk is full.
    """
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(folder / "spill")}) as connection:
        set_up(connection)
        check_types(connection, table, source.columns)
        with translated(table, files, folder), _misfits(connection, table, source, files):
            columns = _columns(connection, table, source, files)
            query = _query(source, files, columns)
            group = _rows_a_group(connection, files[0], len(columns))
            if source.partition is not None:
                _check_column(table, source.partition, columns, "`partition`")
            reader = connection.execute(query).to_arrow_reader(group)
            with ParquetFiles(table, folder, reader.schema, group, source.partition) as target:
                pump(reader, target)
                written = target.finish()
            columns = describe(connection, query)
    if not target.rows:
        raise GateError(f"table {table!r}: no rows in {_named(files)}", accepted="at least one row below the header")
    return Converted(written, target.rows, columns)


def described(table: str, source: Table, files: dict[str, Path], folder: Path) -> Converted:
    """What Parquet files that stay as they are hold: file name -> file, rows in all, and column -> DuckDB type.

    Args:
        table: its name, for errors.
        source: its declared types are the ones that the files have to have.
        files: by name, Parquet.
        folder: takes what DuckDB spills.

    Raises:
        ConfigError: a declared type does not exist.
        GateError: a file is not Parquet, columns are missing or differ between files, a column has another type than
            the declared one, or there are no rows.
        UnavailableError: the disk is full.
    """
    local = [LocalFile(name, path, "parquet") for name, path in files.items()]
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(folder / "spill")}) as connection:
        set_up(connection)
        check_types(connection, table, source.columns)
        with translated(table, local, folder):
            _columns(connection, table, source, local)
            query = f"FROM {_reader(source, local, {})}"
            columns = describe(connection, query)
            rows = connection.execute(f"SELECT count(*) {query}").fetchall()[0][0]
        for column, type_ in source.columns.items():
            wanted = describe(connection, f"SELECT CAST(NULL AS {type_}) AS x")["x"]
            if columns[column] != wanted:
                raise GateError(
                    f"table {table!r}: column {column!r} is {columns[column]} in {_named(local)}",
                    accepted=f"{wanted}, as project.yaml declares it",
                    next_step="write the files with that type, or correct `columns` in project.yaml",
                )
    if not rows:
        raise GateError(f"table {table!r}: no rows in {_named(local)}", accepted="at least one row")
    return Converted(files, rows, columns)


def set_up(connection: duckdb.DuckDBPyConnection) -> None:
    """Nothing is fetched, and nothing depends on the machine's time zone."""
    connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
    connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true; SET enable_progress_bar = false")
    connection.execute(f"SET streaming_buffer_size = '{GROUP}B'; SET threads = {min(_cores(), MAX_THREADS)}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_types(connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> None:
    """Refuse a declared type that does not exist."""
    for column, type_ in columns.items():
        try:
            known = _TYPE.fullmatch(type_) and connection.execute(f"SELECT CAST(NULL AS {type_})")
        except duckdb.Error:
            known = None
        if not known:
            raise ConfigError(
                f"table {table!r}, column {column!r}: there is no type {type_!r}",
                accepted="a DuckDB type: BIGINT, DOUBLE, VARCHAR, BOOLEAN, DATE, TIMESTAMP, DECIMAL(18,3), ...",
                next_step="correct `columns` in project.yaml",
            )


# --- what the files hold ----------------------------------------------------------------------------------------------


def _columns(
    connection: duckdb.DuckDBPyConnection, table: str, source: Table, files: Sequence[LocalFile]
) -> dict[str, str]:
    """Column -> type of the first file; the other files have to have the same ones, whatever their order."""
    first, *others = (_of_file(connection, table, source, file) for file in files)
    for file, columns in zip(files[1:], others, strict=True):
        missing, more = sorted(first.keys() - columns), sorted(columns.keys() - first)
        if (missing or more) and file.format != "jsonl":  # JSON leaves out what has no value
            column, lacks, has = (missing[0], file, files[0]) if missing else (more[0], files[0], file)
            raise GateError(
                f"table {table!r}: {lacks.name} has no column {column!r}, which {has.name} has",
                accepted="the same columns in every file of a table",
                next_step="add the column to the file (its values may be empty), or take the file out",
            )
        for name in first.keys() & columns:
            kinds = {first[name], columns[name]}
            if len(kinds) > 1 and "VARCHAR" in kinds and name not in source.columns:
                raise GateError(
                    f"table {table!r}: column {name!r} is {first[name]} in {files[0].name} "
                    f"and {columns[name]} in {file.name}",
                    accepted="one type a column",
                    next_step=f"correct the file, or declare it: `columns: {{{name}: ...}}` in project.yaml",
                )
    found: dict[str, str] = dict(first)
    for columns in others:
        found = {**columns, **found}
    for column in source.columns:
        _check_column(table, column, found, "`columns`", _named(files))
    return found


def _check_column(table: str, column: str, columns: Mapping[str, str], key: str, where: str = "the data") -> None:
    if column not in columns:
        close = difflib.get_close_matches(column, columns, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise GateError(
            f"table {table!r}: no column {column!r} in {where}{hint}",
            accepted=", ".join(columns),
            next_step=f"get the file again if the column is gone, or correct {key} in project.yaml",
        )


def _of_file(connection: duckdb.DuckDBPyConnection, table: str, source: Table, file: LocalFile) -> dict[str, str]:
    if file.format == "csv":
        return _of_csv(connection, table, source, file)
    columns = describe(connection, f"FROM {_reader(source, [file], {})}")
    for name in (name for name, type_ in columns.items() if type_ == "JSON" and name not in source.columns):
        line = odd_line(file.path, name)
        if line:
            raise GateError(
                f"table {table!r}: {file.name}, line {line}, column {name!r}: another type than in the lines before",
                accepted="one type a column",
                next_step=f"correct that line, or declare it: `columns: {{{name}: VARCHAR}}` in project.yaml",
            )
    return columns


def _of_csv(connection: duckdb.DuckDBPyConnection, table: str, source: Table, file: LocalFile) -> dict[str, str]:
    """DuckDB renames a column whose name is taken, and may take a header that it cannot split for one name."""
    sniffer = f"sniff_csv({_text(file.path)}, {_csv_options(source)})"
    delimiter, columns = connection.execute(f"SELECT Delimiter, Columns FROM {sniffer}").fetchall()[0]  # noqa: S608
    with file.path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        header = next(csv.reader(text, delimiter=delimiter), [])
    seen: set[str] = set()
    for name in header if source.header else ():
        if name.casefold() in seen:
            raise GateError(
                f"table {table!r}: {file.name}, line 1: column {name!r} is there twice",
                accepted="each name once, upper or lower case making no difference",
            )
        seen.add(name.casefold())
    if len(columns) == 1 and re.search(f"[{SEPARATORS}]", header[0]):
        odd_row(connection, file.path, header[0])
        raise GateError(
            f"table {table!r}: {file.name}: the rows do not fit the header {header[0]!r}",
            accepted='as many values in each row as the header has names; values quoted with "',
            next_step="look for an unclosed quote or a stray separator near the top",
        )
    return {column["name"]: column["type"] for column in columns}


def describe(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """Column -> type of what a query yields."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {query}").fetchall()}


# --- SQL --------------------------------------------------------------------------------------------------------------


def _query(source: Table, files: Sequence[LocalFile], columns: Mapping[str, str]) -> str:
    """Every row of `files`. Parquet has types of its own, so a declared one is a cast there."""
    reader = _reader(source, files, columns)
    if files[0].format != "parquet" or not source.columns:
        return f"FROM {reader}"
    casts = ", ".join(f"CAST({quoted(name)} AS {type_}) AS {quoted(name)}" for name, type_ in source.columns.items())
    return f"SELECT * REPLACE ({casts}) FROM {reader}"  # noqa: S608  # every name and text is quoted below


def _reader(source: Table, files: Sequence[LocalFile], columns: Mapping[str, str]) -> str:
    """DuckDB's table function over `files`; `columns` are types that are known, for JSON."""
    paths = "[" + ", ".join(_text(file.path) for file in files) + "]"
    union = ", union_by_name = true" if len(files) > 1 else ""
    if files[0].format == "csv":
        types = f", types = {_struct(source.columns)}" if source.columns else ""
        return f"read_csv({paths}, {_csv_options(source)}{types}{union})"
    if files[0].format == "parquet":
        return f"read_parquet({paths}, hive_partitioning = false{union})"
    types = f", columns = {_struct({**columns, **source.columns})}" if columns else ", sample_size = -1"
    return f"read_json({paths}, format = 'newline_delimited', records = true, hive_partitioning = false{types}{union})"


def _csv_options(source: Table) -> str:
    """Quotes and comments are said, not guessed: a file without a quote in its first rows may well have one later."""
    nulls = ", ".join(map(_text, dict.fromkeys(["", source.null])))
    said = f"""header = {str(source.header).lower()}, quote = '"', escape = '"', comment = '', nullstr = [{nulls}]"""
    return f"{said}, hive_partitioning = false"


def _rows_a_group(connection: duckdb.DuckDBPyConnection, file: LocalFile, columns: int) -> int:
    """Rows in a row group of about `GROUP` bytes. DuckDB holds a few groups at a time, and counts them in rows: with
    hundreds of columns, or with long texts, its own number would fill the memory many times over.
    """
    if file.format == "parquet":
        about = connection.execute(
            "SELECT sum(total_uncompressed_size), any_value(num_rows) "
            "FROM parquet_metadata($path), parquet_file_metadata($path)",
            {"path": str(file.path)},
        ).fetchall()[0]
        size, rows = about[0] or 0, about[1] or 1
    else:
        with file.path.open("rb") as opened:
            start = opened.read(1 << 20)
        size, rows = len(start), start.count(b"\n") or 1
    fitting = GROUP // (size // rows + 8 * columns) // 2048 * 2048
    return int(min(max(fitting, 2048), 122_880))


def pump(reader: pa.RecordBatchReader, target: ParquetFiles) -> None:
    """Read in this thread, and encode in another; one batch waits between them."""
    waiting: Future[None] | None = None
    with ThreadPoolExecutor(1) as encoder:
        for batch in _batches(reader):
            if waiting is not None:
                waiting.result()
            waiting = encoder.submit(target.add, batch)
        if waiting is not None:
            waiting.result()


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches of a query. DuckDB's errors reach Arrow as bare text; they are made DuckDB's again."""
    try:
        yield from reader
    except OSError as error:
        raise duckdb.Error(str(error)) from error


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _struct(values: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{_text(name)}: {_text(value)}" for name, value in values.items()) + "}"


def _named(files: Sequence[LocalFile]) -> str:
    return files[0].name + (f" and {len(files) - 1} more" if len(files) > 1 else "")


@contextmanager
def _misfits(
    connection: duckdb.DuckDBPyConnection, table: str, source: Table, files: Sequence[LocalFile]
) -> Iterator[None]:
    """Look for the value that a cast failed on: DuckDB names neither its file, nor its row, nor its column."""
    try:
        yield
    except duckdb.Error as error:
        if files[0].format != "parquet" or not str(error).startswith("Conversion Error"):
            raise
        found = misfit_in_files(connection, [file.path for file in files], source.columns)
        if found is None:
            raise
        column, path, row, value = found
        name = next(file.name for file in files if file.path == path)
        raise GateError(
            f"table {table!r}: {name}, row {row}, column {column!r}: {value!r} is not {source.columns[column]}",
            accepted=f"{source.columns[column]}, or nothing where there is no value",
            next_step="correct the value, or `columns` in project.yaml",
            details=str(error),
        ) from error
