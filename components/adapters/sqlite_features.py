"""Tables of what is known by entity, for one machine: a SQLite file each, which never changes once it is there."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from components.disk import is_full
from components.errors import GateError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from components.workspace import Workspace

SUFFIX: Final = ".sqlite"
POINTER: Final = "newest"
"""The file that names the table which a project's name means."""
AT_ONCE: Final = 500
"""Keys in one query."""
LEFT: Final = 3_600
"""Seconds until what a dead writer left may go."""
QUICK: Final = 100
"""Keys that are looked up in a millisecond, so that nobody has to wait in another thread."""


def open_features(workspace: Workspace) -> SqliteFeatures:
    """The store of this machine."""
    return SqliteFeatures(workspace.home / "online")


class SqliteFeatures:
    """A `FeatureStore`.

    Args:
        folder: `PROJECT/TABLE.sqlite` below it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[Path, sqlite3.Connection] = {}
        self._lock = threading.Lock()

    def has(self, project: str, table: str) -> bool:
        return self._path(project, table).is_file()

    def write(self, project: str, table: str, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        path = self._path(project, table)
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        with _plainly():
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(".*.part"):
                if time.time() - left.stat().st_mtime > LEFT:
                    left.unlink(missing_ok=True)
            try:
                with closing(sqlite3.connect(part)) as connection:
                    connection.execute("PRAGMA journal_mode = OFF")  # a file that is not whole is thrown away
                    connection.execute("CREATE TABLE known (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
                    try:
                        connection.executemany("INSERT INTO known VALUES (?, ?)", pairs)
                    except sqlite3.IntegrityError as error:
                        raise GateError(
                            f"the store of features: rows of {project!r} repeat a key",
                            accepted="one row a key",
                            next_step="look at the query's joins",
                        ) from error
                    connection.commit()
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def read(self, project: str, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        path, found = self._path(project, table), dict[bytes, bytes]()
        with _plainly(), self._lock:
            connection = self._connection(path)
            for begin in range(0, len(keys), AT_ONCE):
                some = keys[begin : begin + AT_ONCE]
                places = ",".join("?" * len(some))
                found.update(connection.execute(f"SELECT key, value FROM known WHERE key IN ({places})", some))  # noqa: S608
        return [found.get(key) for key in keys]

    async def find(self, project: str, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if len(keys) <= QUICK:
            return self.read(project, table, keys)
        return await asyncio.to_thread(self.read, project, table, keys)

    async def close(self) -> None:
        """Files are let go of with the process."""

    def point(self, project: str, table: str) -> None:
        path = self._folder / project / POINTER
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        with _plainly():
            try:
                part.write_text(table)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def pointed(self, project: str) -> str | None:
        with _plainly(), suppress(FileNotFoundError):
            return (self._folder / project / POINTER).read_text()
        return None

    async def newest(self, project: str) -> str | None:
        return self.pointed(project)

    def tables(self, project: str) -> set[str]:
        return {path.stem for path in (self._folder / project).glob(f"[!.]*{SUFFIX}")}

    def size(self, project: str, table: str) -> int:
        with suppress(FileNotFoundError):
            return self._path(project, table).stat().st_size
        return 0

    def drop(self, project: str, table: str) -> None:
        with _plainly():
            self._path(project, table).unlink(missing_ok=True)

    def _path(self, project: str, table: str) -> Path:
        return self._folder / project / f"{table}{SUFFIX}"

    def _connection(self, path: Path) -> sqlite3.Connection:
        """Open as long as the file is there: it never changes, so nothing has to be locked or looked at again."""
        if not path.is_file():
            stale = self._opened.pop(path, None)
            if stale is not None:
                stale.close()
            raise NotFoundError(f"no table {path}")
        known = self._opened.get(path)
        if known is None:
            known = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
            self._opened[path] = known
        return known


@contextmanager
def _plainly() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if is_full(error):  # which is said in one place for all that writes
            raise
        raise UnavailableError(
            f"the store of features: {error}", next_step="look at its folder and its rights"
        ) from error
