"""What this machine knows of files that it has read: so that an unchanged one is not read again to know what it is."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from components.records import FileStamp

PATIENCE = 30.0
"""Seconds to wait for another process that writes."""


class Digests:
    """By URL, size and stamp of a file; a context that keeps what was put. Losing the file costs time and nothing else.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=PATIENCE)
        self._connection.execute("CREATE TABLE IF NOT EXISTS seen (url TEXT PRIMARY KEY, stamp TEXT, facts TEXT)")
        self._connection.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.commit()
        self._connection.close()

    def get(self, stamp: FileStamp) -> dict[str, Any] | None:
        """What was put for a file, if it is still that one; one without a stamp never is."""
        found = self._connection.execute("SELECT stamp, facts FROM seen WHERE url = ?", [stamp.url]).fetchone()
        same = found is not None and stamp.stamp and found[0] == _text(stamp)
        return json.loads(found[1]) if same else None

    def put(self, stamp: FileStamp, facts: dict[str, Any]) -> None:
        """Keep what was found out about a file."""
        self._connection.execute(
            "INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", [stamp.url, _text(stamp), json.dumps(facts)]
        )


def _text(stamp: FileStamp) -> str:
    return f"{stamp.size} {stamp.stamp}"
