"""Arrow batches to Parquet: row groups of a fixed number of rows, in one file or in one for each value of a column.

The same rows in the same order give the same bytes, however they were cut into batches by whoever read them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.errors import ConfigError, GateError

MAX_PARTITIONS = 400
"""Each is an open file while the table is written."""
HELD = 4
"""Row groups that partitions hold in memory together, before all of them are written out as they are."""

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")


@dataclass(slots=True)
class _Part:
    path: Path
    writer: pq.ParquetWriter
    waiting: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    """Rows that wait."""


class ParquetFiles:
    """The files of one table while they are written; a context that closes them.

    Args:
        table: its name, for errors.
        folder: where the files go.
        schema: of every batch.
        group: rows in a row group.
        partition: the column with one file a value, or None for one file.

    Raises:
        GateError: a row has no value to be partitioned by.
        ConfigError: there are too many values.
    """

    def __init__(self, table: str, folder: Path, schema: pa.Schema, group: int, partition: str | None) -> None:
        self._table = table
        self._folder = folder
        self._schema = schema
        self._group = group
        self._partition = partition
        self._parts: dict[str, _Part] = {}
        self._open = ExitStack()
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next rows."""
        for value, rows in self._split(batch):
            part = self._parts.get(value) or self._new(value)
            part.waiting.append(rows)
            part.rows += rows.num_rows
            while part.rows >= self._group:
                self._write(part, self._group)
        self.rows += batch.num_rows
        if sum(part.rows for part in self._parts.values()) > HELD * self._group:
            self._write_all()

    def finish(self) -> dict[str, Path]:
        """Write what waits and close the files; returns them by the name that they have in the store."""
        self._write_all()
        self._open.close()
        if self._partition is None:
            return {"data.parquet": self._parts[""].path} if self._parts else {}
        width = max((len(value) for value in self._parts if value.isdecimal()), default=0)
        column = _in_store(self._partition)
        padded = {value: value.zfill(width) if value.isdecimal() else value for value in self._parts}
        return {f"{column}-{_in_store(padded[value])}.parquet": part.path for value, part in self._parts.items()}

    def _split(self, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The batch's rows by value, as text, in the order in which the values first come."""
        if self._partition is None:
            yield "", batch
            return
        column = batch.column(self._partition)
        missing = pc.index(column.is_null(nan_is_null=True), value=True).as_py()
        if missing >= 0:
            raise GateError(
                f"table {self._table!r}: row {self.rows + missing + 1} has no {self._partition!r}, "
                "which the table is partitioned by",
                accepted="a value in every row",
                next_step="fill it in, or take out `partition` in project.yaml",
            )
        encoded = column.dictionary_encode()
        for index, value in enumerate(encoded.dictionary):
            yield str(value.as_py()), batch.filter(pc.equal(encoded.indices, index))

    def _new(self, value: str) -> _Part:
        if len(self._parts) == MAX_PARTITIONS:
            raise ConfigError(
                f"table {self._table!r}: more than {MAX_PARTITIONS} values of {self._partition!r} to partition by",
                accepted=f"at most {MAX_PARTITIONS}",
                next_step="choose a column with fewer values, or take out `partition` in project.yaml",
            )
        path = self._folder / f"{len(self._parts):05}.parquet"
        writer = self._open.enter_context(pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=1))
        part = self._parts[value] = _Part(path, writer)
        return part

    def _write(self, part: _Part, rows: int) -> None:
        """Write the first `rows` that wait as one row group."""
        held = pa.Table.from_batches(part.waiting)
        part.writer.write_table(held.slice(0, rows), row_group_size=rows)
        part.waiting, part.rows = held.slice(rows).to_batches(), held.num_rows - rows

    def _write_all(self) -> None:
        for part in self._parts.values():
            if part.rows:
                self._write(part, part.rows)


def _in_store(value: str) -> str:
    """`value` as a part of a path; what the store's names cannot hold is cut short, and told apart by a digest."""
    if _PLAIN.fullmatch(value):
        return value
    short = re.sub(r"[^a-z0-9]+", "-", value.casefold()).strip("-")[:40] or "value"
    return f"{short}-{hashlib.sha256(value.encode()).hexdigest()[:8]}"
