"""Objects of lakeFS that others wrote: they do not say their SHA-256, so each is staged once to find it out."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import cast
from uuid import uuid4

from lakefs.models import ObjectInfo
from lakefs.object import StoredObject

from components.adapters.object_folder import CHUNK, ObjectFolder
from components.errors import UnavailableError
from components.ports import Entry


class Others:
    """What is known of others' objects, by where lakeFS has their bytes and its own checksum of them.

    Args:
        cache: where objects are staged.
        folder: where the SHA-256 of each is noted.
    """

    def __init__(self, cache: ObjectFolder, folder: Path) -> None:
        self._cache = cache
        self._folder = folder

    def entry(self, stored: StoredObject, info: ObjectInfo) -> Entry:
        """The entry of an object; its bytes are fetched if it is met for the first time.

        Raises:
            UnavailableError: they did not arrive whole.
        """
        name = hashlib.sha256(f"{info.physical_address} {info.checksum}".encode()).hexdigest()
        note, size = self._folder / name, info.size_bytes or 0
        with suppress(FileNotFoundError):
            return Entry(info.path, note.read_text(), size)
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f"{uuid4().hex}.part"
        try:
            with stored.reader("rb") as source, draft.open("xb") as target:
                while chunk := cast("bytes", source.read(CHUNK)):
                    target.write(chunk)
            found = self._cache.take({info.path: draft}, move=True)[0]
            if found.size != size:
                raise UnavailableError(
                    f"{info.path}: {found.size} bytes arrived", accepted=f"{size} bytes", next_step="try again"
                )
            draft.write_text(found.sha256)
            draft.replace(note)
        finally:
            draft.unlink(missing_ok=True)
        return found
