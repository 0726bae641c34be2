"""A table in a database, by watermark: what came since the last reading is read, and lies beside what is held.

Rows with the newest watermark lie in a file of their own, the last one. Others may come that share it; so the next
reading begins at it, writes that file anew and touches no other. Nothing is missed, and nothing is there twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components import config
from components.adapters.arrow_stream import columns_of, stream_to_parquet
from components.adapters.duckdb_reader import Converted
from components.adapters.sql_snapshot import Place, Shape, Snapshot
from components.connections import url_of
from components.data_ports import Arrived, Held
from components.errors import ConfigError, ConflictError, GateError
from components.records import FileStamp, digest
from components.source_settings import SqlTable
from components.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

AT = " rows at "
"""Between how many rows have the newest watermark, and the watermark, in a stamp."""


DIALECTS = {"postgres": "postgres", "postgresql": "postgres", "sqlite": "sqlite"}
"""Scheme of a connection's URL -> the dialect of its database."""


class SqlSource:
    """A `components.data_ports.Source`.

    Args:
        workspace: whose profile says where the database is.
        table: its name, for errors.
        source: what is read there.
    """

    def __init__(self, workspace: Workspace, table: str, source: SqlTable) -> None:
        self._workspace = workspace
        self._table = table
        self._source = source
        self._sql = source.sql

    def look(self) -> tuple[FileStamp, ...]:
        with self._open() as snapshot:
            newest = snapshot.newest()
        if newest is None:
            raise GateError(
                f"table {self._table!r}: no rows with a {self._sql.watermark!r} in {self._where}",
                accepted="at least one row",
            )
        return (FileStamp(url=self._where, size=0, stamp=f"{newest.rows}{AT}{newest.watermark}"),)

    def read(self, stamps: tuple[FileStamp, ...], held: Held | None, folder: Path) -> Arrived:
        position = stamps[0].stamp
        until = position.partition(AT)[2]
        with self._open() as snapshot:
            self._check(snapshot, held, until)
            shape = snapshot.shape(self._source.columns)
            columns = columns_of(self._table, shape.schema, shape.types, folder)
            if held is None or not held.position or dict(held.columns) != columns:
                held = None
            elif held.position == position:
                return Arrived(held.rows, columns, {}, stamps, kept=_parts(held), position=position)
            kept = _parts(held)[:-1] if held else []
            ends, _, since = held.position.partition(AT) if held else ("0", "", None)
            before = snapshot.between(shape, since, until)
            made = [
                self._write(shape, before, folder / "before"),
                self._write(shape, snapshot.at(shape, until), folder / "at"),
            ]
        if made[1].rows != int(position.partition(AT)[0]):
            raise ConflictError(
                f"table {self._table!r}: {self._where} had {position}, and has {made[1].rows} there now",
                accepted="rows that stay as they are during the run",
                next_step="run again; with a finer watermark (a time, a number that counts) it is rare",
            )
        written = [path for one in made for path in one.files.values()]
        return Arrived(
            rows=(held.rows if held else 0) - int(ends) + sum(one.rows for one in made),
            columns=columns,
            files={f"part-{number:05}.parquet": path for number, path in enumerate(written, len(kept))},
            stamps=stamps,
            kept=kept,
            position=position,
        )

    def here(self) -> tuple[str, ...]:
        url = urlsplit(url_of(self._workspace, self._sql.connection))
        if DIALECTS.get(url.scheme) != "sqlite":
            return ()
        name = url.path.removeprefix("/")
        return tuple(one for one in (name, f"{name}-wal") if (config.root() / one).exists())

    def _check(self, snapshot: Snapshot, held: Held | None, until: str) -> None:
        """Refuse rows that could not be told to be new."""
        if snapshot.lacking():
            raise GateError(
                f"table {self._table!r}: rows in {self._where} have no {self._sql.watermark!r}",
                accepted="a value in every row: it says what is new",
                next_step="fill it in, or leave those rows out by a `query`",
            )
        before = held.position.partition(AT)[2] if held else ""
        if before and not snapshot.rose(before, until):
            raise GateError(
                f"table {self._table!r}: the newest {self._sql.watermark!r} in {self._where} ran backwards: "
                f"it is {until}, and main holds rows up to {before}",
                accepted="a watermark that only rises",
                next_step="put the rows back; or, to have all of them read again, count `epoch` up in project.yaml",
            )

    def _write(self, shape: Shape, rows: Iterator[pa.RecordBatch], folder: Path) -> Converted:
        folder.mkdir()
        return stream_to_parquet(self._table, shape.schema, rows, shape.types, folder)

    @property
    def _where(self) -> str:
        """What is read, as a URL without a secret."""
        return f"sql://{self._sql.connection}/{self._sql.table or 'query-' + digest(self._sql.query)[:12]}"

    @contextmanager
    def _open(self) -> Iterator[Snapshot]:
        url = url_of(self._workspace, self._sql.connection)
        scheme = url.split(":", 1)[0].lower()
        if scheme not in DIALECTS:
            raise ConfigError(
                f"table {self._table!r}: the URL of connection {self._sql.connection!r} is of no database known here",
                accepted=", ".join(f"{name}://..." for name in sorted(DIALECTS)),
                next_step="correct it in the profile, or in the variable that holds it",
            )
        if self._sql.query is not None:
            _check_query(self._table, self._sql.query, DIALECTS[scheme])
        place = Place(self._table, self._where, self._sql)
        if DIALECTS[scheme] == "postgres":
            from components.adapters.postgres_snapshot import postgres

            opened = postgres(place, url)
        else:
            from components.adapters.sqlite_snapshot import sqlite

            opened = sqlite(place, url)
        with opened as snapshot:
            yield snapshot


def _parts(held: Held) -> list[str]:
    return sorted(name for name in held.entries if name.endswith(".parquet"))


def _check_query(table: str, query: str, dialect: str) -> None:
    """Refuse what is not one SELECT: it is put into brackets and asked from there."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        parsed = [tree for tree in sqlglot.parse(query, read=dialect) if tree is not None]
    except SqlglotError as error:
        raise ConfigError(
            f"table {table!r}: `query`: {str(error).splitlines()[0]}",
            accepted="one SELECT",
            next_step="correct it in project.yaml",
            details=str(error),
        ) from error
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Query):
        raise ConfigError(
            f"table {table!r}: `query` is not one SELECT", accepted="one SELECT", next_step="correct it in project.yaml"
        )
