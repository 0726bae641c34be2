"""The files that steps hand to each other: one folder a ledger key, made visible by one rename."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from components.errors import NotFoundError
from components.place import Place
from components.records import Artifact

COPIES: Final = "copies"
"""The folder in `scratch` of what was copied from elsewhere."""


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
        self._place = Place(url)
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
        if self._place.is_local:
            self._move(folder, Path(self._place.root, key))
        else:
            self._place.upload(folder, key)
        return found

    def _move(self, folder: Path, target: Path) -> None:
        """Put a folder in its place, and what was there out of the way."""
        target.parent.mkdir(parents=True, exist_ok=True)
        old = self._scratch / f"{target.name}.old"
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)

    def has(self, artifact: Artifact) -> bool:
        """Whether the file is there with its size; the bytes are not read."""
        return self._place.size(artifact.path) == artifact.size

    def local(self, artifact: Artifact) -> Path:
        """A local, read-only path of the file; a remote one is copied once, by checksum.

        Raises:
            NotFoundError: the file is gone.
        """
        path = Path(self._place.root, artifact.path)
        if not self._place.is_local:
            path = self._scratch / COPIES / artifact.sha256 / path.name
        if not path.is_file():
            if self._place.is_local or not self.has(artifact):
                again = "run the project again: it will be made anew"
                raise NotFoundError(f"artifact {self._place.root}/{artifact.path} is gone", next_step=again)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
            self._place.download(artifact.path, part)
            part.replace(path)
        return path
