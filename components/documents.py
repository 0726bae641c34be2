"""Small JSON documents by name below one URL: what the ledger and the record of runs are made of.

On a local disk a document becomes visible by a rename, on an object store by its one PUT: whole or not at all. Nothing
that was listed is remembered, for other machines write here too.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from components.disk import plainly


def open_url(url: str) -> tuple[Any, str]:
    """The fsspec file system of `url`, one that asks each time, and the path in it."""
    fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return fs, str(path)


class Documents:
    """Documents below `url`, any fsspec URL; a plain path is a local folder."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = open_url(url)

    def read(self, name: str) -> bytes | None:
        """The document, None where there is none."""
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Make a document visible, in place of the one of that name."""
        path = f"{self._root}/{name}"
        if not isinstance(self._fs, LocalFileSystem):
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

    def folders(self) -> list[str]:
        """The names of the folders right below the URL, sorted."""
        try:
            return sorted(str(path).rstrip("/").rsplit("/", 1)[1] for path in self._fs.ls(self._root, detail=False))
        except FileNotFoundError:
            return []

    def names(self, folder: str = "") -> list[str]:
        """The names, with their folders, of all documents below `folder`."""
        try:
            found = self._fs.find(f"{self._root}/{folder}".rstrip("/"))
        except FileNotFoundError:
            return []
        below = self._root.rstrip("/") + "/"
        return sorted(str(path).removeprefix(below) for path in found if not str(path).endswith(".part"))
