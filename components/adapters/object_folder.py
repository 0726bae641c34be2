"""A folder of read-only files named by their SHA-256, laid out as Git LFS does: `objects/aa/bb/<sha256>`."""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO
from uuid import uuid4

from components.errors import NotFoundError, UnavailableError
from components.ports import Entry

CHUNK = 1 << 20
READ_ONLY = 0o444
THREADS = 4
BATCH = 100
"""Files that a thread takes in before it asks for more."""
FEW = 16
"""Files that are forced to the disk one by one; more are, all that is new on that disk by one call."""
ABANDONED = 3600.0
"""Seconds without a write after which an unfinished file belongs to nobody."""


class ObjectFolder:
    """Files by content. One appears under its name whole, or not at all.

    Args:
        root: `objects/` and `tmp/` are made in it, on one file system.
    """

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._tmp = root / "tmp"

    def path(self, sha256: str) -> Path:
        """Where the object is, if it is there."""
        return Path(f"{self._objects}/{sha256[:2]}/{sha256[2:4]}/{sha256}")

    def holds(self, sha256: str, size: int) -> bool:
        """Whether the object is there with its size in bytes; it is not read."""
        try:
            return self.path(sha256).stat().st_size == size
        except FileNotFoundError:
            return False

    def keeps(self, entry: Entry) -> bool:
        """The same, and the object stays: it was used just now."""
        try:
            os.utime(self.path(entry.sha256))
        except FileNotFoundError:
            return False
        return self.holds(entry.sha256, entry.size)

    def all(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every object: its SHA-256, and what the file system says of it."""
        for path in self._objects.glob("*/*/*"):
            with suppress(FileNotFoundError):
                yield path.name, path.stat()

    def discard(self, sha256: str, before: float) -> bool:
        """Remove an object, unless it was taken in, also anew, since `before`; returns whether it is gone.

        It gets another name first, and is looked at then: whoever takes the same bytes in at this moment either has
        made it young by its own name, or finds nothing there and puts its own copy in.
        """
        path = self.path(sha256)
        aside = self._tmp / f"{sha256}-{uuid4().hex}"
        self._tmp.mkdir(parents=True, exist_ok=True)
        try:
            path.rename(aside)
        except FileNotFoundError:
            return True
        if aside.stat().st_mtime >= before:
            aside.rename(path)
            return False
        aside.unlink()
        with suppress(OSError):  # not empty
            path.parent.rmdir()
            path.parent.parent.rmdir()
        return True

    def take(self, files: Mapping[str, Path], *, move: bool) -> list[Entry]:
        """Take files in: each is hashed while it is copied, or hashed and renamed.

        Args:
            files: path in the store -> local file.
            move: the local files may be taken over; those on another file system are copied all the same.

        Raises:
            NotFoundError: a file does not exist.
            UnavailableError: a file cannot be read, or the disk is full.
        """
        with self._drafts(len(files)) as drafts, ThreadPoolExecutor(THREADS) as pool:
            wanted = list(zip(files, files.values(), drafts, strict=True))
            step = max(1, min(BATCH, len(wanted) // THREADS))
            batches = (wanted[first : first + step] for first in range(0, len(wanted), step))
            ready = [one for batch in pool.map(partial(_all_ready, move=move), batches) for one in batch]
            self._place(ready)
        return [entry for entry, _ in ready]

    def receive(self, entry: Entry, source: IO[bytes]) -> Path:
        """Take in what `source` yields, which has to be the bytes of `entry`; returns where they are.

        Raises:
            UnavailableError: other bytes arrived.
        """
        with self._drafts(1) as (draft,):
            with draft.open("xb") as target:
                found = _pump(source, target)
            if found != (entry.sha256, entry.size):
                raise UnavailableError(
                    f"{entry.path}: SHA-256 {found[0]} of {found[1]} bytes arrived",
                    accepted=f"SHA-256 {entry.sha256} of {entry.size} bytes",
                    next_step="try again; if it stays so, the object is damaged where it is stored",
                )
            self._place([(entry, draft)])
        return self.path(entry.sha256)

    @contextmanager
    def _drafts(self, count: int) -> Iterator[list[Path]]:
        """Names for unfinished files. They are gone on leaving; those of a killed process go with a later call."""
        self._tmp.mkdir(parents=True, exist_ok=True)
        for left in self._tmp.iterdir():
            with suppress(FileNotFoundError):  # somebody else is tidying up, too
                if time.time() - left.stat().st_mtime > ABANDONED:
                    left.unlink()
        batch = uuid4().hex
        drafts = [self._tmp / f"{batch}-{index}" for index in range(count)]
        try:
            yield drafts
        finally:
            for draft in drafts:
                draft.unlink(missing_ok=True)

    def _place(self, ready: Sequence[tuple[Entry, Path]]) -> None:
        """Give finished files their names; they are on the disk before the first is named."""
        new = {entry.sha256: path for entry, path in ready if not self.keeps(entry)}
        for path in new.values():
            path.chmod(READ_ONLY)
            os.utime(path)
        _force([*new.values()])
        for sha256, path in new.items():
            self._name(path, self.path(sha256))

    def _name(self, path: Path, target: Path) -> None:
        """Give a file its name, also where its empty folder is removed in this moment."""
        for last in (False, False, True):
            try:
                path.replace(target)
            except FileNotFoundError:
                if last:
                    raise
                target.parent.mkdir(parents=True, exist_ok=True)
            else:
                return


def _all_ready(wanted: Sequence[tuple[str, Path, Path]], *, move: bool) -> list[tuple[Entry, Path]]:
    return [_ready(path, file, draft, move=move) for path, file, draft in wanted]


def _ready(path: str, file: Path, draft: Path, *, move: bool) -> tuple[Entry, Path]:
    """The entry of `file`, and the file that becomes its object: itself, or a copy made in the same pass."""
    try:
        if move and not file.is_symlink() and _one_rename_away(file, draft):
            with file.open("rb") as source:
                sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            return Entry(path, sha256, file.stat().st_size), file
        with file.open("rb") as source, draft.open("xb") as target:
            return Entry(path, *_pump(source, target)), draft
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: there is no file {file}") from error
    except OSError as error:
        raise UnavailableError(f"{path}: {file} cannot be taken in: {error.strerror}") from error


def _one_rename_away(file: Path, draft: Path) -> bool:
    """Asked by a link that is gone again: one disk may be mounted twice, and no number tells."""
    try:
        draft.hardlink_to(file)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    draft.unlink()
    return True


def _pump(source: IO[bytes], target: IO[bytes]) -> tuple[str, int]:
    """Copy, and return SHA-256 (hex) and size in bytes."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        size += target.write(chunk)
    return digest.hexdigest(), size


def _force(paths: Sequence[Path]) -> None:
    """Force files, all of one disk, to it; many by one call for its whole file system, where the C library has it."""
    together = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if len(paths) > FEW else None
    for path in paths[:1] if together else paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            if together is None:
                os.fsync(handle)
            elif together(handle):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        finally:
            os.close(handle)
