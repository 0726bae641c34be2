"""What several gateways count together: SQLite beside the services of this machine, or a Redis for more machines.

Counts of requests: each process says all that it counted so far in a step, under its own name, and whoever asks sums
up. A process that ended leaves what it said.

Rewards of predictions: each counts once, whichever process hears of it, and how often ever.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from components.disk import disk_full, is_full
from components.errors import UnavailableError

if TYPE_CHECKING:
    from components.workspace import Workspace

KEPT: Final = 30 * 86_400
"""Seconds that counts are kept after they were last changed, and that a prediction's reward is remembered."""

_TABLES: Final = """
create table if not exists counts (
    project text, step text, process text, counts blob, moment real, primary key (project, step, process)
) without rowid;
create table if not exists rewarded (project text, prediction text, moment real, primary key (project, prediction))
without rowid;
create index if not exists rewarded_when on rewarded (moment);
create table if not exists rewards (
    project text, release integer, count integer, total real, primary key (project, release)
) without rowid;
"""


@dataclass(frozen=True, slots=True)
class Rewards:
    """Of one release: how many, and what they are in sum; each is from 0 to 1."""

    count: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float:
        """What is to be expected of it; where nothing is known, a half."""
        return (self.total + 1) / (self.count + 2)


class Tally(Protocol):
    """Where counts are put together. Every method raises `UnavailableError` where it cannot be reached."""

    def count(self, project: str, step: str, process: str, counts: bytes) -> None:
        """All that `process` counted in `step`, in place of what it said before."""

    def counts(self, project: str, step: str) -> list[bytes]:
        """What each process counted."""

    def reward(self, project: str, prediction: str, release: int, reward: float) -> bool:
        """Count the reward of a prediction for its release; False where that prediction has one already."""

    def rewards(self, project: str) -> dict[int, Rewards]:
        """Rewards by release."""


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


def counts_apart(workspace: Workspace) -> str:
    """What to say of a profile whose gateways may run on several machines, and have nowhere to count together."""
    gateway = workspace.profile.services.gateway
    elsewhere = "://" in workspace.profile.state or gateway.url is not None
    if not elsewhere or (gateway.cache is not None and gateway.cache.redis_env is not None):
        return ""
    return (
        f"gateways of profile {workspace.name} on other machines count apart, and their counts are not seen here; "
        "name a Redis for all of them: services.gateway.cache.redis_env"
    )


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

    def reward(self, project: str, prediction: str, release: int, reward: float) -> bool:
        with self._open() as database:
            now = time.time()
            database.execute("delete from rewarded where moment < ?", (now - KEPT,))
            new = database.execute("insert or ignore into rewarded values (?, ?, ?)", (project, prediction, now))
            if not new.rowcount:
                return False
            database.execute(
                "insert into rewards values (?, ?, 1, ?) on conflict do update set count = count + 1, "
                "total = total + excluded.total",
                (project, release, reward),
            )
            return True

    def rewards(self, project: str) -> dict[int, Rewards]:
        with self._open() as database:
            found = database.execute("select release, count, total from rewards where project = ?", (project,))
            return {release: Rewards(count, total) for release, count, total in found}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction; others wait for its end."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._path, timeout=5)) as database, database:
                database.execute("pragma journal_mode = wal")
                database.execute("pragma synchronous = normal")
                database.executescript(_TABLES)
                yield database
        except sqlite3.Error as error:
            if is_full(error):
                raise disk_full(self._path.parent) from error
            raise UnavailableError(f"{self._path}: {error}") from error
