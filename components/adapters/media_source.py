"""Images, videos and other files: each an object of the store by its digest, and a table with a row for each."""

from __future__ import annotations

import glob
import hashlib
import mimetypes
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from components.adapters.arrow_stream import stream_to_parquet
from components.adapters.media_digests import Digests
from components.addresses import file_system
from components.data_ports import Arrived, Held
from components.disk import is_full, plainly
from components.errors import ConflictError, GateError, NotFoundError, UnavailableError
from components.records import FileStamp, digest
from components.source_settings import MediaTable
from components.sources import find, on_this_machine, remote_errors
from components.workspace import Workspace

CHUNK = 4 << 20
KINDS = ("audio/", "image/", "video/")
"""Kinds whose suffix an object keeps."""
SCHEMA = pa.schema([
    ("path", pa.string()), ("object", pa.string()), ("sha256", pa.string()), ("size", pa.int64()),
    ("kind", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
])  # fmt: skip


class MediaSource:
    """A `components.data_ports.Source`.

    Args:
        workspace: whose profile says what URLs may point at, and which keeps digests of files that it has seen.
        table: its name, for errors.
        source: where the files are.
    """

    def __init__(self, workspace: Workspace, table: str, source: MediaTable) -> None:
        self._workspace = workspace
        self._inside = workspace.profile.inside
        self._table = table
        path = source.media.path
        self._path = path if glob.has_magic(path) or PurePosixPath(path).suffix else f"{path.rstrip('/')}/**"

    def look(self) -> tuple[FileStamp, ...]:
        """One stamp for all of them: there may be many."""
        return (self._stamp(self._found()),)

    def read(self, stamps: tuple[FileStamp, ...], held: Held | None, folder: Path) -> Arrived:
        found = self._found()
        there = {name for name in held.entries if not name.endswith(".parquet")} if held else set()
        objects: dict[str, tuple[Path, str]] = {}
        rows: list[dict[str, Any]] = []
        base = _base(self._path)
        with Digests(self._workspace.home / "media.db") as known, plainly(folder):
            for index, stamp in enumerate(found):
                name, row, copy = self._one(stamp, known, there, folder / f"{index}.object")
                rows.append({"path": _plain(stamp.url).removeprefix(base), "object": name, **row})
                if name in there or name in objects:
                    copy.unlink(missing_ok=True)
                else:
                    objects[name] = (copy, row["sha256"])
        if self._stamp(found) != stamps[0] or self._found() != found:
            raise ConflictError(
                f"table {self._table!r}: {self._path} changed while it was read",
                accepted="files that stay as they are during the run",
                next_step="run again when it is complete",
            )
        batch = pa.RecordBatch.from_pylist(rows, SCHEMA)
        made = stream_to_parquet(self._table, SCHEMA, iter([batch]), {}, folder)
        kept = sorted(there & {row["object"] for row in rows})
        return Arrived(made.rows, made.columns, made.files, stamps, kept=kept, objects=objects)

    def here(self) -> tuple[str, ...]:
        if "://" in self._path and not self._path.startswith("file://"):
            return ()
        return tuple(stamp.url.removeprefix("file://") for stamp in self._found())

    def _found(self) -> tuple[FileStamp, ...]:
        return find(self._table, self._path, self._inside)

    def _stamp(self, found: tuple[FileStamp, ...]) -> FileStamp:
        size = sum(stamp.size for stamp in found)
        return FileStamp(url=self._path, size=size, stamp=f"{len(found)} files {digest(found)[:16]}")

    def _one(self, stamp: FileStamp, known: Digests, there: set[str], copy: Path) -> tuple[str, dict[str, Any], Path]:
        """The object that a file is, its row, and where its copy is, if one had to be made."""
        kind = mimetypes.guess_type(stamp.url)[0] or ""
        suffix = PurePosixPath(stamp.url.lower()).suffix if kind.startswith(KINDS) else ""
        suffix = suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""
        row = known.get(stamp)
        if row is None or _name(row["sha256"], suffix) not in there:
            sha = self._copied(stamp, copy)
            width, height = _measured(copy) if kind.startswith("image/") else (None, None)
            row = {"sha256": sha, "size": copy.stat().st_size, "width": width, "height": height}
            if not row["size"]:
                raise GateError(f"table {self._table!r}: {stamp.url} is empty", accepted="files with something in them")
            known.put(stamp, row)
        return _name(row["sha256"], suffix), {**row, "kind": kind or None}, copy

    def _copied(self, stamp: FileStamp, copy: Path) -> str:
        """Copy a file and hash it, in one pass: the store takes the copy over, and the file stays whose it is."""
        hashed = hashlib.sha256()
        here = on_this_machine(stamp.url)
        with copy.open("wb") as target:
            for chunk in _local(here) if here is not None else self._remote(stamp.url):
                hashed.update(chunk)
                target.write(chunk)
        return hashed.hexdigest()

    def _remote(self, url: str) -> Iterator[bytes]:
        with remote_errors(self._table, url):
            fs, path = file_system(self._table, url, self._inside)
            with fs.open(path, "rb") as remote:
                while chunk := remote.read(CHUNK):
                    yield chunk


def _local(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} went away", next_step="put the file back, then run again") from error
    except OSError as error:
        if is_full(error):
            raise
        raise UnavailableError(
            f"{path}: {error.strerror}", next_step="check that it can be read, then run again"
        ) from error


def _name(sha: str, suffix: str) -> str:
    return f"objects/{sha[:2]}/{sha}{suffix}"


def _base(path: str) -> str:
    """What all URLs begin with: the pattern up to the last folder before its first wildcard."""
    plain = _plain(re.split(r"[*?\[]", path)[0])
    return plain[: plain.rfind("/") + 1]


def _plain(url: str) -> str:
    return url.partition("://")[2].lstrip("/") if "://" in url else url


def _measured(path: Path) -> tuple[int | None, int | None]:
    """Width and height of an image, by its header; nothing of what is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None, None
