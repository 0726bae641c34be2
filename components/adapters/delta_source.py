"""A Delta Lake table by version: files that were only added since are read, and lie beside what is held."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from components import config, object_stores
from components.adapters.arrow_stream import columns_of, stream_to_parquet
from components.data_ports import Arrived, Held
from components.disk import is_full
from components.errors import ConfigError, GateError, NotFoundError, TrilhaError, UnavailableError
from components.records import FileStamp
from components.source_settings import DeltaTable

OF = " of table "
"""Between a version's number and the table's id, in a stamp: a table that was made anew has another one."""
ROWS = 65_536
"""In a batch."""


class DeltaSource:
    """A `components.data_ports.Source`.

    Args:
        table: its name, for errors.
        source: which version of what is read.
    """

    def __init__(self, table: str, source: DeltaTable) -> None:
        self._table = table
        self._source = source

    def look(self) -> tuple[FileStamp, ...]:
        with self._plainly():
            found = self._at(self._source.delta.version)
            stamp = f"version {found.version()}{OF}{found.metadata().id}"
        return (FileStamp(url=self._source.delta.path, size=0, stamp=stamp),)

    def read(self, stamps: tuple[FileStamp, ...], held: Held | None, folder: Path) -> Arrived:
        position = stamps[0].stamp
        with self._plainly():
            dataset = self._at(_version(position)).to_pyarrow_dataset()
            columns = columns_of(self._table, dataset.schema, self._source.columns, folder)
            if held is not None and held.position == position and dict(held.columns) == columns:
                kept = sorted(held.entries)
                return Arrived(held.rows, columns, {}, stamps, kept=kept, position=position)
            there = self._files(position)
            before = self._before(held, columns, position)
            if before is None or not before.keys() <= there.keys():
                held, before = None, {}
            new = [path for path, _ in sorted(there.items(), key=lambda one: one[::-1]) if path not in before]
            batches = _batches(dataset, new)
            made = stream_to_parquet(self._table, dataset.schema, batches, self._source.columns, folder)
        rows = made.rows + (held.rows if held else 0)
        if not rows:
            raise GateError(f"table {self._table!r}: no rows in {self._where}", accepted="at least one row")
        kept = sorted(held.entries) if held else []
        files = {f"part-{number:05}.parquet": path for number, path in enumerate(made.files.values(), len(kept))}
        return Arrived(rows, columns, files, stamps, kept=kept, position=position)

    def here(self) -> tuple[str, ...]:
        path = self._source.delta.path
        return () if "://" in path and not path.startswith("file://") else (path.removeprefix("file://"),)

    def _before(self, held: Held | None, columns: dict[str, str], position: str) -> dict[str, int] | None:
        """The files that were read for what is held; None where all has to be read anew."""
        same = held is not None and held.position and held.position.partition(OF)[2] == position.partition(OF)[2]
        if held is None or not same or dict(held.columns) != columns:
            return None
        try:
            return self._files(held.position)
        except Exception as error:  # the log of that version was cleaned up
            if is_full(error):
                raise
            return None

    def _files(self, position: str) -> dict[str, int]:
        """The files of a version, with when they were added, in milliseconds."""
        found = pa.table(self._at(_version(position)).get_add_actions(flatten=True))
        return dict(
            zip(found["path"].to_pylist(), map(_milliseconds, found["modification_time"].to_pylist()), strict=True)
        )

    def _at(self, version: int | None) -> Any:
        import deltalake

        path = self._source.delta.path
        here = self.here()
        place = str(config.root() / here[0]) if here else path
        return deltalake.DeltaTable(place, version=version)

    @property
    def _where(self) -> str:
        version = self._source.delta.version
        return self._source.delta.path + (f", version {version}" if version is not None else "")

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """What Delta's library raises, as ours."""
        try:
            yield
        except TrilhaError:
            raise
        except ImportError as error:
            raise ConfigError(
                f"table {self._table!r}: Delta Lake is read by deltalake, which is not installed",
                next_step="install the extra `sources`",
            ) from error
        except Exception as error:
            if is_full(error):
                raise
            where, words = f"table {self._table!r}: {self._where}", object_stores.words(error)
            if re.search(r"\b40[13] (Unauthorized|Forbidden)", words):
                raise ConfigError(
                    f"{where}: {words}",
                    accepted=object_stores.CREDENTIALS,
                    next_step="correct the credentials, and what their user may do",
                ) from error
            raise _explained(where, words, error) from error


def _version(position: str) -> int:
    return int(position.partition(OF)[0].removeprefix("version "))


def _milliseconds(value: Any) -> int:
    return int(value.timestamp() * 1000) if hasattr(value, "timestamp") else int(value)


def _batches(dataset: Any, paths: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of files, in their order."""
    from pyarrow.dataset import FileSystemDataset

    fragments = {fragment.path: fragment for fragment in dataset.get_fragments()}
    for path in paths:
        one = FileSystemDataset([fragments[path]], dataset.schema, dataset.format, dataset.filesystem)
        yield from one.to_batches(batch_size=ROWS, batch_readahead=2, fragment_readahead=1)


def _explained(where: str, words: str, error: Exception) -> TrilhaError:
    """An error of the library in one line; it has few classes, so its words have to tell."""
    kind = type(error).__name__
    if kind == "TableNotFoundError" or "not a Delta table" in words or "No files in log segment" in words:
        return NotFoundError(
            f"{where}: no Delta table there", next_step="correct `delta.path` in project.yaml, or make the table"
        )
    if isinstance(error, FileNotFoundError):
        return NotFoundError(
            f"{where}: files of this version are gone: the table was vacuumed",
            accepted="a version whose files are kept",
            next_step="take a newer `version` in project.yaml, or none, which is the newest",
            details=words,
        )
    if "end version" in words or "Invalid table version" in words or "Invalid version" in words:
        return NotFoundError(
            f"{where}: there is no such version, or its log was cleaned up",
            next_step="take another `version` in project.yaml, or none, which is the newest",
            details=words,
        )
    if kind == "DeltaProtocolError" or "Unsupported" in words:
        return ConfigError(
            f"{where}: {words}",
            accepted="a table without deletion vectors and column mapping",
            next_step="rewrite it without them (REORG TABLE ... APPLY (PURGE))",
        )
    if isinstance(error, pa.ArrowInvalid):
        return GateError(f"{where}: a file cannot be read as Parquet: {words}", next_step="restore the table")
    return UnavailableError(
        f"{where}: {kind}: {words}", next_step="check the address, the credentials and the network, then run again"
    )
