"""What a service has to say."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path


def log_path(home: Path, service: str) -> Path:
    """Where a service's output goes."""
    return home / "services" / f"{service}.log"


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; none where there is no log yet."""
    try:
        with path.open(errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=lines)]
    except FileNotFoundError:
        return []


def follow(path: Path, pause: float = 0.2) -> Iterator[str]:
    """Every line that is written from now on, also after the log was put aside and begun anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    file = path.open(errors="replace")
    file.seek(0, 2)
    try:
        part = ""
        while True:
            part += file.readline()
            if part.endswith("\n"):
                yield part.rstrip("\n")
                part = ""
            elif not part and _replaced(file.fileno(), path):
                file.close()
                file = path.open(errors="replace")
            else:
                time.sleep(pause)
    finally:
        file.close()


def _replaced(descriptor: int, path: Path) -> bool:
    """Whether `path` names another file by now than the open one."""
    try:
        return not os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
