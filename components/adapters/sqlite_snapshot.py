"""One moment of a SQLite database. Its columns have no types that hold; they get one by what is said, or there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pyarrow as pa

from components import config
from components.adapters.duckdb_faults import quoted
from components.adapters.sql_snapshot import Newest, Place, Shape, Snapshot
from components.errors import GateError, TrilhaError

ROWS = 20_000
"""In a batch."""
DECLARED = (
    ("BOOL", pa.int64(), "BOOLEAN"),
    ("INT", pa.int64(), ""),
    ("CHAR", pa.string(), ""),
    ("CLOB", pa.string(), ""),
    ("TEXT", pa.string(), ""),
    ("REAL", pa.float64(), ""),
    ("FLOA", pa.float64(), ""),
    ("DOUB", pa.float64(), ""),
    ("TIMESTAMP", pa.string(), "TIMESTAMP"),
    ("DATETIME", pa.string(), "TIMESTAMP"),
    ("DATE", pa.string(), "DATE"),
)
"""What a declared type has in it, in SQLite's own way to read them -> how it comes, and what DuckDB makes of it."""
STORED = {
    frozenset[str](): pa.string(),
    frozenset({"integer"}): pa.int64(),
    frozenset({"real"}): pa.float64(),
    frozenset({"integer", "real"}): pa.float64(),
    frozenset({"text"}): pa.string(),
    frozenset({"blob"}): pa.binary(),
}
"""What values are stored as -> how they come."""


@contextmanager
def sqlite(place: Place, url: str) -> Iterator[Snapshot]:
    """A snapshot of the file at `url`: `sqlite:///below/the/repository.db`, `sqlite:////from/the/root.db`.

    Raises:
        ConfigError, NotFoundError, UnavailableError: in plain words.
    """
    path = config.root() / urlsplit(url).path.removeprefix("/")
    if not path.is_file():
        raise place.gone(f"no file {path}")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            yield _SQLite(place, connection)
    except sqlite3.Error as error:
        raise _explained(place, path, error) from error


class _SQLite:
    """A `Snapshot`. A watermark's text is its JSON, which tells numbers from texts."""

    def __init__(self, place: Place, connection: sqlite3.Connection) -> None:
        self._place = place
        self._connection = connection

    def newest(self) -> Newest | None:
        found, rows = self._ask(self._place.newest("newest"))
        if isinstance(found, bytes):
            raise self._place.refused(f"{self._place.sql.watermark!r} holds bytes")
        return None if found is None else Newest(json.dumps(found, ensure_ascii=False), rows)

    def rose(self, before: str, after: str) -> bool:
        return bool(self._ask("SELECT ? <= ?", json.loads(before), json.loads(after))[0])

    def lacking(self) -> bool:
        lacking = f"SELECT 1 FROM {self._place.relation} WHERE {self._place.watermark} IS NULL"  # noqa: S608  # quoted
        return bool(self._ask(f"SELECT EXISTS ({lacking})")[0])

    def shape(self, declared: Mapping[str, str]) -> Shape:
        self._connection.execute(f"CREATE TEMP VIEW arriving_shape AS SELECT * FROM {self._place.relation}")  # noqa: S608
        columns = self._connection.execute("PRAGMA table_info(arriving_shape)").fetchall()
        fields, types = [], {}
        for _, name, type_, *_ in columns:
            said = next((one for one in DECLARED if one[0] in type_.upper()), None)
            if said is None or name in declared:
                fields.append(pa.field(name, self._stored(name)))
            else:
                fields.append(pa.field(name, said[1]))
                if said[2]:
                    types[name] = said[2]
        return Shape(pa.schema(fields), {**types, **declared})

    def between(self, shape: Shape, low: str | None, high: str) -> Iterator[pa.RecordBatch]:
        since = "" if low is None else f"{self._place.watermark} >= ? AND "
        limits = [json.loads(limit) for limit in (low, high) if limit is not None]
        yield from self._rows(shape, f"{since}{self._place.watermark} < ?", limits)

    def at(self, shape: Shape, watermark: str) -> Iterator[pa.RecordBatch]:
        yield from self._rows(shape, f"{self._place.watermark} = ?", [json.loads(watermark)])

    def _rows(self, shape: Shape, where: str, limits: list[Any]) -> Iterator[pa.RecordBatch]:
        order = ", ".join([self._place.watermark, *map(quoted, shape.schema.names)])
        rows = f"SELECT * FROM {self._place.relation} WHERE {where} ORDER BY {order}"  # noqa: S608  # quoted
        found = self._connection.execute(rows, limits)
        while batch := found.fetchmany(ROWS):
            values = zip(*batch, strict=True)
            yield pa.RecordBatch.from_arrays(
                [self._array(field, column) for field, column in zip(shape.schema, values, strict=True)],
                schema=shape.schema,
            )

    def _array(self, field: pa.Field, values: tuple[Any, ...]) -> pa.Array:
        try:
            return pa.array(values, type=field.type)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            strange = next((value for value in values if not _fits(value, field.type)), values[0])
            raise GateError(
                f"{self._column(field.name)}: {strange!r} is no {field.type}",
                accepted="one type a column, the declared one",
                next_step="correct the value, or declare the column (`columns` in project.yaml)",
            ) from error

    def _stored(self, name: str) -> pa.DataType:
        """By what is there, as nothing else says what the column holds."""
        kinds = f"SELECT DISTINCT typeof({quoted(name)}) FROM {self._place.relation}"  # noqa: S608  # quoted
        found = frozenset(kind for (kind,) in self._connection.execute(kinds)) - {"null"}
        if found not in STORED:
            raise GateError(
                f"{self._column(name)} holds {' and '.join(sorted(found))}",
                accepted="one type a column",
                next_step="select it as one, by CAST in a `query`",
            )
        return STORED[found]

    def _column(self, name: str) -> str:
        return f"table {self._place.table!r}: {self._place.where}, column {name!r}"

    def _ask(self, query: str, *values: Any) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._connection.execute(query, values).fetchone()
        return found


def _fits(value: Any, type_: pa.DataType) -> bool:
    try:
        pa.array([value], type=type_)
    except (pa.ArrowException, TypeError, OverflowError):
        return False
    return True


def _explained(place: Place, path: Path, error: sqlite3.Error) -> TrilhaError:
    words = str(error)
    if words.startswith("no such table"):
        return place.gone(words)
    if isinstance(error, sqlite3.OperationalError) and "locked" not in words and "unable to open" not in words:
        return place.refused(words)
    if isinstance(error, sqlite3.OperationalError):
        return place.away(f"{path}: {words}")
    return place.denied(f"{path}: {words}")
