"""A second look at data that is not right: for the line, the row or the value where DuckDB's first words have none."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATORS = ",;\t|"
"""What DuckDB takes for one between two values."""


def odd_row(connection: duckdb.DuckDBPyConnection, path: Path, header: str) -> None:
    """Read a CSV file by its header alone: DuckDB's guess at what the file is goes wrong where a row near the top is.

    Raises:
        duckdb.Error: a row does not fit the header; it names the line, as a failed guess does not.
    """
    separator = max(SEPARATORS, key=header.count)
    names = next(csv.reader([header], delimiter=separator))
    connection.execute(
        "SELECT min(COLUMNS(*)) FROM read_csv($path, delim = $separator, columns = $columns, auto_detect = false, "
        """header = true, quote = '"', escape = '"', comment = '')""",
        {"path": str(path), "separator": separator, "columns": dict.fromkeys(names, "VARCHAR")},
    ).fetchall()


def misfit_in_files(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], columns: dict[str, str]
) -> tuple[str, Path, int, str] | None:
    """The first value in Parquet files that a declared type cannot hold: column, file, row from 1, and the value."""
    for column, type_ in columns.items():
        found = connection.execute(
            f"SELECT filename, file_row_number + 1, CAST({quoted(column)} AS VARCHAR) "  # noqa: S608  # quoted, checked
            "FROM read_parquet($files, hive_partitioning = false, union_by_name = true, filename = true, "
            f"file_row_number = true) WHERE {_is_misfit(quoted(column), type_)} LIMIT 1",
            {"files": [str(file) for file in files]},
        ).fetchone()
        if found:
            return column, Path(found[0]), found[1], found[2]
    return None


def misfits(column: pa.ChunkedArray, type_: str) -> list[int]:
    """The positions, from 0, of the values that do not fit a DuckDB type; none where it cannot hold any such value."""
    import pyarrow as pa

    with duckdb.connect() as connection:
        connection.register("rows", pa.table({"value": column, "position": pa.array(range(len(column)))}))
        query = f"SELECT position FROM rows WHERE {_is_misfit('value', type_)} ORDER BY position"  # noqa: S608  # DuckDB's own
        try:
            return [position for (position,) in connection.execute(query).fetchall()]
        except duckdb.Error:  # no value of the one type is ever one of the other
            return []


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _is_misfit(name: str, type_: str) -> str:
    return f"{name} IS NOT NULL AND TRY_CAST({name} AS {type_}) IS NULL"
