"""A table in files: looked at by their stamps, read through DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from components.data_ports import Arrived, Held
from components.errors import ConflictError
from components.records import FileStamp
from components.source_settings import LogTable, Table
from components.sources import PACKAGE, find, on_this_machine

if TYPE_CHECKING:
    from components.adapters.duckdb_reader import Converted
    from components.staging import LocalFile


class FileSource:
    """A `components.data_ports.Source`.

    Args:
        table: its name, for errors.
        source: where its files are.
        inside: hosts and networks inside that URLs may point at.
    """

    def __init__(self, table: str, source: Table | LogTable, inside: Sequence[str]) -> None:
        self._table = table
        self._source = source
        self._inside = inside

    def look(self) -> tuple[FileStamp, ...]:
        return find(self._table, self._source.path, self._inside)

    def read(self, stamps: tuple[FileStamp, ...], held: Held | None, folder: Path) -> Arrived:  # noqa: ARG002  # read as a whole
        from components.staging import digests, stage

        staged = folder / "staged"
        staged.mkdir()
        local = stage(self._table, self._source, stamps, staged, self._inside)
        with ThreadPoolExecutor(1) as beside:  # reading is slower than hashing, and both read the same pages
            hashing = beside.submit(digests, stamps, staged)
            converted = _converted(self._table, self._source, local, folder)
            read = tuple(
                stamp.model_copy(update={"sha256": digest, "stamp": _told(stamp.stamp, converted.left)})
                for stamp, digest in zip(stamps, hashing.result(), strict=True)
            )
        self._hold_to(stamps)
        return Arrived(rows=converted.rows, columns=converted.columns, files=converted.files, stamps=read)

    def here(self) -> tuple[str, ...]:
        if self._source.path.startswith(PACKAGE):
            return ()
        return tuple(stamp.url.removeprefix("file://") for stamp in self.look() if on_this_machine(stamp.url))

    def _hold_to(self, stamps: tuple[FileStamp, ...]) -> None:
        """Refuse what was read, if the files are not those of `stamps` any more."""
        now = self.look()
        if now != stamps:
            changed = min(stamp.url for stamp in {*now} ^ {*stamps})
            raise ConflictError(
                f"{changed} changed while it was read",
                accepted="files that stay as they are during the run",
                next_step="run again when it is complete",
            )


def _told(stamp: str, left: str) -> str:
    """A stamp with what was left out: the trail shows it."""
    return f"{stamp}; {left}" if left else stamp


def _converted(table: str, source: Table | LogTable, local: Sequence[LocalFile], folder: Path) -> Converted:
    if isinstance(source, LogTable):
        from components.adapters.log_lines import log_to_parquet

        return log_to_parquet(table, source, local, folder)
    if local[0].format == "avro":
        from components.adapters.avro_files import avro_to_parquet

        return avro_to_parquet(table, source, local, folder)
    from components.adapters.duckdb_reader import to_parquet

    return to_parquet(table, source, local, folder)
