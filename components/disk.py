"""A disk without room: how it is told from other troubles, and what is said about it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import TrilhaError, UnavailableError

ERRNOS = (errno.ENOSPC, errno.EDQUOT)
TEXTS = ("No space left on device", "Disk quota exceeded", "disk is full")
"""What libraries say that do not keep the system's error: DuckDB, libgit2, SQLite."""


def is_full(error: BaseException) -> bool:
    """Whether `error`, or what led to it, says that a disk is full."""
    return any(
        (isinstance(one, OSError) and one.errno in ERRNOS) or any(text in str(one) for text in TEXTS)
        for one in _chain(error)
    )


def disk_full(folder: Path) -> UnavailableError:
    """The error for a disk without room for what goes below `folder`."""
    place = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    mount = next(path for path in [place.absolute(), *place.absolute().parents] if path.is_mount())
    free = shutil.disk_usage(place).free
    return UnavailableError(
        f"{folder}: no space left on the disk ({free:,} bytes free) that is mounted at {mount}",
        next_step="make room there, or move `state` in the profile to a larger disk, then run again",
    )


@contextmanager
def plainly(folder: Path) -> Iterator[None]:
    """Turn whatever a full disk makes fail into that one error; `folder` is what is written to.

    Raises:
        UnavailableError: the disk is full.
    """
    try:
        yield
    except TrilhaError:  # it is plain already, and may be about another machine's disk
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise disk_full(_place(error) or folder) from error


def _place(error: BaseException) -> Path | None:
    """The folder that could not be written to, where the system said which."""
    names = (one.filename for one in _chain(error) if isinstance(one, OSError) and one.errno in ERRNOS)
    return next((Path(name).parent for name in names if isinstance(name, str)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        yield one
        seen.append(one)
        one = one.__cause__ or one.__context__
