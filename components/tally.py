"""What several gateways count together: SQLite beside the services of this machine, or a Redis for more machines.

A roll-out's counts: each process says all that it counted so far in a step, under its own name, and whoever asks sums
up. A process that ended leaves what it said.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from components.disk import disk_full, is_full
from components.errors import UnavailableError

if TYPE_CHECKING:
    from components.workspace import Workspace

KEPT: Final = 30 * 86_400
"""Seconds that counts are kept after they were last changed."""

_TABLES: Final = """
create table if not exists counts (
    project text, step text, process text, counts blob, moment real, primary key (project, step, process)
) without rowid;
"""


class Tally(Protocol):
    """Where counts are put together. Every method raises `UnavailableError` where it cannot be reached."""

    def count(self, project: str, step: str, process: str, counts: bytes) -> None:
        """All that `process` counted in `step`, in place of what it said before."""

    def counts(self, project: str, step: str) -> list[bytes]:
        """What each process counted."""


def open_tally(workspace: Workspace) -> Tally:
    """The Redis that the profile names for its gateways, or this machine's file.

    Raises:
        ConfigError: the variable that is to hold Redis' URL does not.
    """
    cache = workspace.profile.services.gateway.cache
    if cache is not None and cache.redis_env is not None:
        from components.adapters.redis_tally import RedisTally

        return RedisTally(cache.redis_env, workspace.name)
    return SqliteTally(workspace.home / "services" / "gateway.db")


class SqliteTally:
    """In a file.

    Args:
        path: of the file; it is made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def count(self, project: str, step: str, process: str, counts: bytes) -> None:
        now = time.time()
        with self._open() as database:
            database.execute("delete from counts where moment < ?", (now - KEPT,))
            database.execute(
                "insert or replace into counts values (?, ?, ?, ?, ?)", (project, step, process, counts, now)
            )

    def counts(self, project: str, step: str) -> list[bytes]:
        with self._open() as database:
            found = database.execute("select counts from counts where project = ? and step = ?", (project, step))
            return [counts for (counts,) in found]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction; others wait for its end."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._path, timeout=5)) as database, database:
                database.execute("pragma journal_mode = wal")
                database.executescript(_TABLES)
                yield database
        except sqlite3.Error as error:
            if is_full(error):
                raise disk_full(self._path.parent) from error
            raise UnavailableError(f"{self._path}: {error}") from error
