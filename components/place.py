"""A place: files by name below one URL. What the ledger, the record of runs and the artifacts of all machines lie in.

On a local disk a file becomes visible by a rename, on an object store by its one PUT: whole or not at all. Nothing that
was listed is remembered, for other machines write here too. Errors of object stores come out as ours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from components.disk import plainly
from components.errors import ConfigError, NotFoundError, UnavailableError
from components.object_stores import CREDENTIALS, knock, misses, refuses, words

CHANGED = ("mtime", "LastModified", "last_modified", "updated")
"""What file systems call the time of the last change."""
HALF_A_DAY = 43_200.0


@dataclass(frozen=True, slots=True)
class Stat:
    """A file, or all of a folder: its bytes, and when it was last changed or used (POSIX seconds)."""

    size: int
    changed: float

    def __add__(self, other: Stat) -> Stat:
        return Stat(self.size + other.size, max(self.changed, other.changed))


class Place:
    """Files below `url`, any fsspec URL; a plain path is a local folder.

    Every method but `read` and `size` of what is not there raises, of a place that is not on this machine:
        ConfigError: the credentials are missing or refused.
        NotFoundError: there is no such bucket.
        UnavailableError: it does not answer.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{url}: {error}",
                accepted="a folder, or a URL that fsspec knows",
                next_step="correct it, or install what the error names (extras: aws, gcp, azure)",
            ) from error
        self._url = url
        self.root = str(root).rstrip("/")
        self.is_local = isinstance(self._fs, LocalFileSystem)
        self._met = self.is_local

    def read(self, name: str) -> bytes | None:
        """The file, None where there is none."""
        try:
            with self._plainly():
                return bytes(self._fs.cat_file(f"{self.root}/{name}"))
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int | None:
        """In bytes, None where there is no such file."""
        try:
            with self._plainly():
                return int(self._fs.size(f"{self.root}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Make a file visible, in place of the one of that name."""
        path = f"{self.root}/{name}"
        if not self.is_local:
            with self._plainly(writing=True):
                self._fs.pipe_file(path, content)
            return
        part = Path(f"{path}.{time.monotonic_ns():x}.part")
        with plainly(part.parent):
            part.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(content)
            except OSError:
                part.unlink(missing_ok=True)  # a piece of it takes what little room is left
                raise
            part.replace(path)

    def upload(self, folder: Path, name: str) -> None:
        """Copy all below a local folder to the folder `name`."""
        with self._plainly(writing=True):
            self._fs.put(f"{folder}/", f"{self.root}/{name}", recursive=True)

    def download(self, name: str, target: Path) -> None:
        """Copy a file to a local path."""
        with self._plainly():
            self._fs.get_file(f"{self.root}/{name}", str(target))

    def touch(self, name: str) -> None:
        """Let a file be one that was used just now; no error if it is gone. Elsewhere that is exact to half a day."""
        if self.is_local:
            with suppress(FileNotFoundError):
                os.utime(f"{self.root}/{name}")
            return
        found = self.files(name).get(name)
        content = self.read(name) if found and found.changed < time.time() - HALF_A_DAY else None
        if content is not None:
            self.write(name, content)

    def remove(self, folder: str) -> None:
        """Remove a folder and all below it, or a file, if it is there."""
        with suppress(FileNotFoundError), self._plainly():
            self._fs.rm(f"{self.root}/{folder}", recursive=True)

    def folders(self) -> list[str]:
        """The names of the folders right below the URL, sorted."""
        try:
            with self._plainly():
                found = self._fs.ls(self.root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[1] for path in found)

    def names(self, folder: str = "") -> list[str]:
        """The names, with their folders, of all files below `folder`."""
        try:
            with self._plainly():
                found = self._fs.find(f"{self.root}/{folder}".rstrip("/"))
        except FileNotFoundError:
            return []
        return sorted(str(path).removeprefix(f"{self.root}/") for path in found if not str(path).endswith(".part"))

    def files(self, folder: str = "") -> dict[str, Stat]:
        """Every file below `folder`, by its name with its folders; also what is not whole yet."""
        try:
            with self._plainly():
                found = self._fs.find(f"{self.root}/{folder}".rstrip("/"), detail=True)
                if isinstance(found, list):  # what Azure's library makes of a file
                    found = {path: self._fs.info(path) for path in found}
        except FileNotFoundError:
            return {}
        return {
            str(path).removeprefix(f"{self.root}/"): Stat(int(info["size"] or 0), _changed(info))
            for path, info in found.items()
        }

    @contextmanager
    def _plainly(self, *, writing: bool = False) -> Iterator[None]:
        """What the file system's library raises, as ours: each has errors of its own."""
        try:
            if not self._met:
                knock(self._fs)
                self._met = True
            yield
        except Exception as error:
            if misses(error) and writing:
                problem = f"{self._url}: {words(error)}"
                raise NotFoundError(problem, next_step="make the bucket, or correct the profile") from error
            if self.is_local or isinstance(error, FileNotFoundError):
                raise
            if misses(error):
                raise FileNotFoundError(self._url) from error
            if refuses(error):
                raise ConfigError(
                    f"{self._url}: {words(error)}",
                    accepted=CREDENTIALS,
                    next_step="correct the credentials, and what their user may do",
                ) from error
            raise UnavailableError(
                f"{self._url}: {type(error).__name__}: {words(error)}",
                next_step="check the address, the credentials and the network, then run again",
            ) from error


def _changed(info: dict[str, Any]) -> float:
    """When a file was changed, as its file system says; now, where it does not say."""
    moment = next((info[name] for name in CHANGED if info.get(name)), None)
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return time.time() if moment is None else float(moment)
