"""One moment of a PostgreSQL database, as Arrow batches through ADBC: COPY in binary, streamed.

COPY takes no parameters. The limits of what is read are bound to settings of the transaction, which its query asks for:
no value is ever written into a query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pyarrow as pa

from components.adapters.duckdb_faults import quoted
from components.adapters.sql_snapshot import Newest, Place, Shape, Snapshot
from components.disk import is_full
from components.errors import ConfigError, TrilhaError

PATIENCE = 10
"""Seconds to connect."""
UNORDERED = {"box", "circle", "json", "line", "lseg", "path", "point", "polygon", "xid", "xml"}
"""Types that nothing can be sorted by."""
AS_TEXT = (pa.types.is_interval, pa.types.is_duration)


@contextmanager
def postgres(place: Place, url: str) -> Iterator[Snapshot]:
    """A snapshot of the database at `url`.

    Raises:
        ConfigError, NotFoundError, UnavailableError: in plain words, and never with a password.
    """
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError as error:
        raise ConfigError(
            f"table {place.table!r}: Postgres is read by adbc-driver-postgresql, which is not installed",
            next_step="install the extra `sources`",
        ) from error
    secrets = _secrets(url)
    try:
        with dbapi.connect(_patient(url), autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            settings = {"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "iso_8601", "extra_float_digits": "1"}
            _set(cursor, settings)
            yield _Postgres(place, cursor)
            with suppress(dbapi.Error):
                cursor.execute("ROLLBACK")
    except (dbapi.Error, OSError) as error:  # OSError: of a batch on its way
        if is_full(error):
            raise
        raise _explained(place, error, secrets) from None  # its own words may have the password in them


class _Postgres:
    """A `Snapshot`; `cursor` is in a transaction."""

    def __init__(self, place: Place, cursor: Any) -> None:
        self._place = place
        self._cursor = cursor
        self._type = ""

    def newest(self) -> Newest | None:
        found, type_, rows = self._ask(self._place.newest("newest::text, pg_typeof(newest)::text"))
        self._type = type_
        return None if found is None else Newest(found, rows)

    def rose(self, before: str, after: str) -> bool:
        _set(self._cursor, {"trilha.low": before, "trilha.high": after})
        return bool(self._ask(f"SELECT {self._limit('low')} <= {self._limit('high')}")[0])

    def lacking(self) -> bool:
        lacking = f"SELECT 1 FROM {self._place.relation} WHERE {self._place.watermark} IS NULL"  # noqa: S608  # quoted
        return bool(self._ask(f"SELECT EXISTS ({lacking})")[0])

    def shape(self, declared: Mapping[str, str]) -> Shape:
        schema = self._schema(f"SELECT * FROM {self._place.relation}")  # noqa: S608  # quoted
        fields, types = [], {}
        for field in schema:
            plain, made = _plain(field)
            fields.append(pa.field(field.name, plain, metadata={"type": _name(field)}))
            if made:
                types[field.name] = made
        return Shape(pa.schema(fields), {**types, **declared})

    def between(self, shape: Shape, low: str | None, high: str) -> Iterator[pa.RecordBatch]:
        _set(self._cursor, {"trilha.low": low or "", "trilha.high": high})
        since = "" if low is None else f"{self._place.watermark} >= {self._limit('low')} AND "
        yield from self._rows(shape, f"{since}{self._place.watermark} < {self._limit('high')}")

    def at(self, shape: Shape, watermark: str) -> Iterator[pa.RecordBatch]:
        _set(self._cursor, {"trilha.high": watermark})
        yield from self._rows(shape, f"{self._place.watermark} = {self._limit('high')}")

    def _rows(self, shape: Shape, where: str) -> Iterator[pa.RecordBatch]:
        """By watermark, then by all that can be sorted by: an index on the watermark is enough to be quick."""
        columns = ", ".join(
            f"{quoted(field.name)}{'::text' if pa.types.is_string(field.type) else ''} AS {quoted(field.name)}"
            for field in shape.schema
        )
        sortable = [one.name for one in shape.schema if (one.metadata or {})[b"type"].decode() not in UNORDERED]
        order = ", ".join([self._place.watermark, *(f"arriving.{quoted(name)}" for name in sortable)])
        rows = f"SELECT * FROM {self._place.relation}"  # noqa: S608  # quoted
        query = f"SELECT {columns} FROM ({rows} WHERE {where}) AS arriving ORDER BY {order}"  # noqa: S608  # quoted
        self._cursor.execute(query)
        for batch in self._cursor.fetch_record_batch():
            yield pa.RecordBatch.from_arrays(batch.columns, schema=shape.schema)

    def _limit(self, name: str) -> str:
        """A limit as the watermark's type, whose name is the database's own."""
        if not self._type:
            of_it = f"SELECT pg_typeof(max({self._place.watermark}))::text FROM {self._place.relation}"  # noqa: S608
            self._type = str(self._ask(of_it)[0])
        return f"current_setting('trilha.{name}')::{self._type}"

    def _ask(self, query: str) -> tuple[Any, ...]:
        self._cursor.execute(query)
        found: tuple[Any, ...] = self._cursor.fetchone()
        return found

    def _schema(self, query: str) -> pa.Schema:
        self._cursor.execute(f"{query} LIMIT 0")
        with self._cursor.fetch_record_batch() as reader:
            return reader.schema


def _set(cursor: Any, settings: Mapping[str, str]) -> None:
    """Settings of this transaction, their values bound."""
    pairs = [text for pair in settings.items() for text in pair]
    calls = ", ".join(f"set_config(${2 * index + 1}, ${2 * index + 2}, true)" for index in range(len(settings)))
    cursor.execute(f"SELECT {calls}", pairs)
    cursor.fetchall()


def _name(field: pa.Field) -> str:
    """The database's own name of a column's type."""
    return str((field.metadata or {}).get(b"POSTGRESQL:type", b""), "utf-8")


def _plain(field: pa.Field) -> tuple[pa.DataType, str]:
    """The Arrow type that a column is asked for as, and the DuckDB type that it is then made, if another.

    A number of any length has no type in Arrow: it comes as text.
    """
    if _name(field) == "numeric":
        modifier = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")) - 4
        precision, scale = modifier >> 16, modifier & 0xFFFF
        exact = modifier > 0 and scale <= precision <= 38
        return pa.string(), f"DECIMAL({precision},{scale})" if exact else "DOUBLE"
    strange = "extension<" in str(field.type) or any(one(field.type) for one in AS_TEXT)  # also in a list
    return (pa.string(), "") if strange else (field.type, "")


# --- addresses and errors ---------------------------------------------------------------------------------------------


def _patient(url: str) -> str:
    """The URL with a limit to how long connecting takes."""
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    return parts._replace(
        query=urlencode({"connect_timeout": str(PATIENCE), "application_name": "trilha"} | given)
    ).geturl()


def _secrets(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
        found = [parts.password or "", unquote(parts.password or ""), dict(parse_qsl(parts.query)).get("password", "")]
    except ValueError:
        found = [url]
    return {secret for secret in found if secret}


def _explained(place: Place, error: Exception, secrets: set[str]) -> TrilhaError:
    """A database's error in one line, by its SQLSTATE."""
    state = getattr(error, "sqlstate", None) or ""
    words = " ".join(str(error).split("\n\nQuery was")[0].split("SQLSTATE")[0].split())
    for noise in ("[libpq] ", "Failed to connect: "):
        words = words.replace(noise, "")
    for secret in secrets:
        words = words.replace(secret, "***")
    words = words.partition("ERROR: ")[2].strip() or words.partition("FATAL: ")[2].strip() or words
    words = words.rstrip(". ")
    if state in {"42P01", "3F000", "3D000"} or (words.startswith("database") and words.endswith("does not exist")):
        return place.gone(words)
    if state.startswith("28") or state == "42501" or "authentication" in words or "pg_hba" in words:
        return place.denied(words)
    if state.startswith(("42", "22", "0A", "25")):
        return place.refused(words)
    if "invalid" in words and "connection" in words:
        return place.denied(words)
    return place.away(words)
