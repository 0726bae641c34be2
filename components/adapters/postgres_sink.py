"""Nights of predictions in PostgreSQL: a relation for each, and a view with the table's name, which one commit moves.

trilha_nights                   name -> the night that the view is
TABLE                           the view
TABLE__NIGHT                    a night; the one before stays, for those who still read it
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg2
from psycopg2 import errors, sql

from components.errors import ConfigError, GateError, UnavailableError

if TYPE_CHECKING:
    import pyarrow as pa

CONNECT: Final = 10
"""Seconds for the server to answer."""
PATIENCE: Final = "5s"
"""That tidying up waits for readers of an old night; it is tried again with the next one."""
LONGEST: Final = 48
"""Characters of a table's name: a name has 63, and a night takes some."""

NIGHT: Final = 12
"""Characters of a night's name that its relation has."""

NIGHTS: Final = (
    "CREATE TABLE IF NOT EXISTS trilha_nights (name text PRIMARY KEY, night text NOT NULL, relation text NOT NULL,"
    " before text)"
)


class PostgresSink:
    """A `Sink`.

    Args:
        url: `postgresql://USER:PASSWORD@HOST/DATABASE`.
    """

    def __init__(self, url: str) -> None:
        from components.sinks import without_password

        self._url = url
        self.where = without_password(url)

    def holds(self, table: str, night: str) -> bool:
        with self._connected() as cursor:
            return _night(cursor, table) == night

    def write(self, table: str, night: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        if len(table) > LONGEST:
            raise ConfigError(f"table {table!r}", accepted=f"a name of {LONGEST} characters at most")
        relation = f"{table}__{night[:NIGHT]}"
        with self._connected() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"trilha {table}"])
            if _night(cursor, table) == night:  # somebody was first
                return
            cursor.execute(NIGHTS)
            cursor.execute("SELECT relation FROM trilha_nights WHERE name = %s", [table])
            before = (cursor.fetchone() or (None,))[0]
            self._load(cursor, relation, schema, batches)
            self._swap(cursor, table, relation, schema)
            cursor.execute(
                "INSERT INTO trilha_nights VALUES (%s, %s, %s, %s) ON CONFLICT (name) DO UPDATE SET"
                " night = EXCLUDED.night, relation = EXCLUDED.relation, before = EXCLUDED.before",
                [table, night, relation, before],
            )
        self._tidy(table, {relation, before})

    def _load(self, cursor: Any, relation: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """A relation with all rows; an old night of this very name is in nobody's view."""
        name, key = sql.Identifier(relation), sql.Identifier(schema.names[0])
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(_type(field))) for field in schema
        )
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
        cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(name, columns))
        rows = _Csv(batches)
        try:
            cursor.copy_expert(sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(name), rows)
        except psycopg2.Error:
            if rows.failure is not None:  # which reached Postgres as bare text
                raise rows.failure from None
            raise
        cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(name, key))

    def _swap(self, cursor: Any, table: str, relation: str, schema: pa.Schema) -> None:
        """Let the view be that relation; its rights stay as long as its columns do."""
        view = sql.SQL("VIEW {} AS SELECT * FROM {}").format(sql.Identifier(table), sql.Identifier(relation))
        cursor.execute(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a"
            " WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 ORDER BY a.attnum",
            [f'"{table}"'],
        )
        there = cursor.fetchall()
        if there and there != [(field.name, _type(field)) for field in schema]:
            cursor.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(table)))
        cursor.execute(sql.SQL("CREATE OR REPLACE {}").format(view))

    def _tidy(self, table: str, keep: set[str | None]) -> None:
        """Drop the nights that nobody reads."""
        with self._connected() as cursor:
            pattern = table.replace("_", r"\_") + r"\_\_" + "_" * NIGHT
            cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE %s", [pattern])
            old = [name for (name,) in cursor.fetchall() if name not in keep]
            cursor.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(PATIENCE)))
            for name in old:
                cursor.execute("SAVEPOINT tidy")
                try:
                    cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
                except errors.LockNotAvailable:
                    cursor.execute("ROLLBACK TO SAVEPOINT tidy")

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A cursor in a transaction that is committed at the end; the server's errors as ours."""
        try:
            connection = psycopg2.connect(self._url, connect_timeout=CONNECT)
        except psycopg2.OperationalError as error:
            raise UnavailableError(
                f"{self.where}: {_words(error)}", next_step="check the address, the database and the password"
            ) from None  # which may be in it
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        except errors.UniqueViolation as error:
            raise GateError(
                f"{self.where}: {_words(error)}", accepted="one row a key", next_step="look at the query's joins"
            ) from error
        except (errors.WrongObjectType, errors.DuplicateTable, errors.InsufficientPrivilege) as error:
            raise ConfigError(
                f"{self.where}: {_words(error)}",
                accepted="a name that nothing else has, and a user who may create tables and views",
                next_step="give the sink another `table`, or its user the right",
            ) from error
        except psycopg2.Error as error:
            raise UnavailableError(f"{self.where}: {_words(error)}", next_step="see that it runs") from error
        finally:
            connection.close()


def _night(cursor: Any, table: str) -> str | None:
    """The night that a table is."""
    cursor.execute("SELECT to_regclass('trilha_nights'), to_regclass(%s)", [f'"{table}"'])
    if None in cursor.fetchone():
        return None
    cursor.execute("SELECT night FROM trilha_nights WHERE name = %s", [table])
    found = cursor.fetchone()
    return str(found[0]) if found else None


def _type(field: pa.Field) -> str:
    """The type of a column, as Postgres calls it."""
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = field.type
    if kinds.is_list(kind) or kinds.is_fixed_size_list(kind) or kinds.is_large_list(kind):
        return f"{_type(kind.value_field)}[]"
    known = {
        pa.string(): "text", pa.large_string(): "text", pa.bool_(): "boolean", pa.int8(): "smallint",
        pa.int16(): "smallint", pa.int32(): "integer", pa.int64(): "bigint", pa.float32(): "real",
        pa.float64(): "double precision", pa.date32(): "date",
    }  # fmt: skip
    if kinds.is_timestamp(kind):
        return "timestamp with time zone" if kind.tz else "timestamp without time zone"
    if kind not in known:
        raise ConfigError(
            f"column {field.name!r} is {kind}",
            accepted=", ".join(map(str, known)),
            next_step="cast it in the query, or leave it out",
        )
    return known[kind]


def _words(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class _Csv(io.RawIOBase):
    """Batches as the CSV that Postgres reads: nothing for a missing value, quotes around every text."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = iter(batches)
        self._left = memoryview(b"")
        self.failure: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._left:
                batch = next(self._batches, None)
                if batch is None:
                    return b""
                self._left = memoryview(_csv(batch))
        except BaseException as error:
            self.failure = error
            raise
        some = bytes(self._left[:size] if size >= 0 else self._left)
        self._left = self._left[len(some) :]
        return some


def _csv(batch: pa.RecordBatch) -> bytes:
    import pyarrow as pa
    import pyarrow.csv

    columns = [_array(column) if pa.types.is_nested(column.type) else column for column in batch.columns]
    target = io.BytesIO()
    pyarrow.csv.write_csv(
        pa.RecordBatch.from_arrays(columns, names=batch.schema.names),
        target,
        pyarrow.csv.WriteOptions(include_header=False),
    )
    return target.getvalue()


def _array(column: Any) -> Any:
    """Lists as Postgres writes them."""
    import pyarrow as pa

    rows = (None if row is None else "{" + ",".join(map(str, row)) + "}" for row in column.to_pylist())
    return pa.array(rows, pa.string())
