"""The files that steps hand to each other: one folder a ledger key, made visible by one rename."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from components.documents import open_url
from components.errors import NotFoundError
from components.records import Artifact


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Artifacts:
    """The artifact store of a profile.

    Args:
        url: its root, any fsspec URL; a plain path is a local folder.
        scratch: a local folder for work in progress and for copies of remote artifacts.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        self._fs, self._root = open_url(url)
        self._local = isinstance(self._fs, LocalFileSystem)
        self._scratch = scratch

    @contextmanager
    def folder(self, key: str) -> Iterator[Path]:
        """A fresh local folder for the step that runs under `key`; what an earlier, killed attempt left is dropped."""
        path = self._scratch / key
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def publish(self, key: str, folder: Path) -> dict[str, Artifact]:
        """Hash every file under `folder` and move them all, at once, to `KEY/`; returns them by their relative path."""
        found = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            found[name] = Artifact(path=f"{key}/{name}", sha256=sha256(path), size=path.stat().st_size)
        target = f"{self._root}/{key}"
        if self._local:
            Path(self._root).mkdir(parents=True, exist_ok=True)
            old = self._scratch / f"{key}.old"
            if Path(target).exists():
                shutil.rmtree(old, ignore_errors=True)
                Path(target).rename(old)
            folder.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            self._fs.put(f"{folder}/", target, recursive=True)
        return found

    def has(self, artifact: Artifact) -> bool:
        """Whether the file is there with its size; the bytes are not read."""
        try:
            return bool(self._fs.size(f"{self._root}/{artifact.path}") == artifact.size)
        except FileNotFoundError:
            return False

    def local(self, artifact: Artifact) -> Path:
        """A local, read-only path of the file; a remote one is copied once, by checksum.

        Raises:
            NotFoundError: the file is gone.
        """
        path = f"{self._root}/{artifact.path}"
        place = Path(path) if self._local else self._scratch / "copies" / artifact.sha256 / Path(artifact.path).name
        if not place.is_file():
            if self._local or not self.has(artifact):
                again = "run the project again: it will be made anew"
                raise NotFoundError(f"artifact {path} is gone", next_step=again)
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_name(f"{place.name}.{os.getpid()}-{threading.get_ident()}.part")
            self._fs.get_file(path, str(part))
            part.replace(place)
        return place
