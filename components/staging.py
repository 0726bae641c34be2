"""A table's files as local, uncompressed ones.

What is remote or compressed is copied in chunks to a scratch folder, where its checksum is verified, so that a download
or an archive that was cut off is never taken for a table. Memory does not grow with the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from components.addresses import file_system
from components.artifacts import sha256
from components.disk import disk_full, is_full
from components.errors import ConfigError, GateError, NotFoundError, TrilhaError, UnavailableError
from components.records import FileStamp
from components.source_settings import LogTable, Table
from components.sources import on_this_machine, remote_errors

if TYPE_CHECKING:
    import zipfile

FORMATS = {
    ".avro": "avro",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
CODECS = {".gz": "gzip", ".zst": "zstd"}
"""Suffix -> Arrow's name of the codec."""

CHUNK = 4 << 20
MAX_BYTES = 100_000_000_000
MAX_RATIO = 1000
"""An archive that unpacks to more than either of these is refused, unless it stays below `SMALL` bytes."""
SMALL = 100_000_000


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A local, uncompressed file; `name` is what a user knows it by, `format` one of `FORMATS`' values."""

    name: str
    path: Path
    format: str


def stage(
    table: str, source: Table | LogTable, stamps: tuple[FileStamp, ...], folder: Path, inside: Sequence[str] = ()
) -> list[LocalFile]:
    """The files of one table as local, uncompressed ones, in the order of `stamps`; copies go below `folder`.

    Of addresses inside, URLs may lead to those of `inside`.

    Raises:
        NotFoundError: a file went away since it was looked at.
        GateError: a file is empty, cut off, damaged, or unpacks to an absurd size.
        ConfigError: a file's name does not say what format it has, or the files have more than one.
        UnavailableError: a file system does not answer, or the disk is full.
    """
    with _disk_errors(folder):
        files = []
        for index, stamp in enumerate(stamps):
            files += _stage(table, source, stamp, folder / f"{index:05}", inside)
        for file in files:
            with file.path.open("rb") as opened:
                if not opened.read(1):
                    raise GateError(f"table {table!r}: {file.name} is empty", accepted="a file with rows")
    formats = sorted({file.format for file in files})
    if len(formats) > 1:
        raise ConfigError(
            f"table {table!r}: {source.path} has files in {' and '.join(formats)}", accepted="one format a table"
        )
    return files


def digests(stamps: tuple[FileStamp, ...], folder: Path) -> list[str]:
    """SHA-256 of each file as it came, before it is unpacked, in the order of `stamps`; `stage` fetched what is remote.

    Raises:
        NotFoundError: a file went away since.
        UnavailableError: it cannot be read any more.
    """
    with _disk_errors(folder):
        return [
            sha256(on_this_machine(stamp.url) or _fetched(folder / f"{index:05}")) for index, stamp in enumerate(stamps)
        ]


def _fetched(target: Path) -> Path:
    """Where the copy of a remote file lies."""
    return target.with_suffix(".raw")


def _stage(
    table: str, source: Table | LogTable, stamp: FileStamp, target: Path, inside: Sequence[str]
) -> list[LocalFile]:
    """One file of the outside world as one local file, or as many as its archive has."""
    path = on_this_machine(stamp.url)
    name = stamp.url.split("::")[0]
    if path is None:
        path = _fetched(target)
        with remote_errors(table, stamp.url):
            fs, there = file_system(table, stamp.url, inside)
            with fs.open(there, "rb") as remote:
                _copy(remote, path)
    suffix = PurePosixPath(name.lower()).suffix
    with _damage_errors(table, stamp.url):
        if suffix == ".zip":
            return list(_unzip(table, source, stamp.url, path, target))
        if suffix in CODECS:
            _decompress(path, CODECS[suffix], target, stamp.url)
            path, name = target, name[: -len(suffix)]
    return [LocalFile(stamp.url, path, _format(table, source, name))]


def _format(table: str, source: Table | LogTable, name: str) -> str:
    format_ = source.format or FORMATS.get(PurePosixPath(name.lower()).suffix)
    if format_ is None:
        raise ConfigError(
            f"table {table!r}: the name of {name} does not say what format it has",
            accepted=", ".join(sorted(FORMATS)) + ", also with .gz, .zst or in a .zip",
            next_step="say `format: csv`, `jsonl`, `parquet` or `avro` in project.yaml",
        )
    return format_


def _unzip(table: str, source: Table | LogTable, url: str, path: Path, target: Path) -> Iterator[LocalFile]:
    """The archive's data files in the order of their names; a read-me beside them is left where it is."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        inside = sorted(
            (member for member in archive.infolist() if _is_data(member)), key=lambda member: member.filename
        )
        named = [member for member in inside if PurePosixPath(member.filename.lower()).suffix in FORMATS]
        known = [] if isinstance(source, LogTable) else named  # lines are not known by a name
        members = known or (inside if source.format else [])
        if not members:
            raise GateError(
                f"table {table!r}: {url} holds no data file",
                accepted=", ".join(sorted(FORMATS)),
                details="\n".join(archive.namelist()[:100]),
            )
        limit = _limit(path)
        if sum(member.file_size for member in members) > limit:
            raise _bomb(url, limit)
        for index, member in enumerate(members):
            part = target.with_suffix(f".{index:05}")
            with archive.open(member) as packed:
                limit -= _copy(packed, part, limit=limit, name=url)
            yield LocalFile(f"{url}:{member.filename}", part, _format(table, source, member.filename))


def _is_data(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    return not member.is_dir() and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _decompress(path: Path, codec: str, target: Path, name: str) -> None:
    """Arrow's streams, because they refuse a file that was cut off; some readers take what is there for all."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, codec) as packed:
        _copy(packed, target, limit=_limit(path), name=name)


def _copy(source: IO[bytes], target: Path, *, limit: int | None = None, name: str = "") -> int:
    """Copy in chunks, up to `limit` bytes; returns how many."""
    size = 0
    with target.open("wb") as file:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if limit is not None and size > limit:
                raise _bomb(name, limit)
            file.write(chunk)
    return size


def _limit(path: Path) -> int:
    return min(MAX_BYTES, max(SMALL, MAX_RATIO * path.stat().st_size))


def _bomb(name: str, limit: int) -> GateError:
    return GateError(
        f"{name} unpacks to more than {limit:,} bytes",
        accepted=f"at most {MAX_BYTES:,} bytes, and {MAX_RATIO} times the packed size",
        next_step="check where the archive comes from; unpack it by hand if it is what it should be",
    )


@contextmanager
def _damage_errors(table: str, url: str) -> Iterator[None]:
    """What the unpackers raise on a file that is not whole."""
    import zipfile
    import zlib

    try:
        yield
    except TrilhaError:
        raise
    # RuntimeError is zipfile's word for a password, NotImplementedError for a compression that it does not know.
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if is_full(error):
            raise
        raise GateError(
            f"table {table!r}: {url} cannot be unpacked: {error}",
            accepted="a whole .zip, .gz or .zst without a password",
            next_step="get the file again",
        ) from error


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{error.filename} went away", next_step="put the file back, then run again") from error
    except OSError as error:
        if is_full(error):
            raise disk_full(folder) from error
        raise UnavailableError(
            f"{error.filename or folder}: {error.strerror or error}",
            next_step="check that the file can be read, then run again",
        ) from error
