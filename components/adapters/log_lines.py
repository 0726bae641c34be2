"""Lines of text by a pattern, as Arrow batches: RE2 takes time as a line is long, whatever the pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from components.adapters.arrow_stream import stream_to_parquet
from components.adapters.duckdb_reader import Converted
from components.errors import ConfigError, GateError
from components.source_settings import LogTable
from components.staging import LocalFile

LINES = 50_000
"""In a batch."""
LONGEST = 1 << 20
"""Bytes of a line."""


def log_to_parquet(table: str, source: LogTable, files: Sequence[LocalFile], folder: Path) -> Converted:
    """Write the lines of `files` as one Parquet file below `folder`, a column for each named group.

    Raises:
        ConfigError: the pattern is none, or a declared type does not exist.
        GateError: more lines than accepted do not match; names the first one.
        UnavailableError: the disk is full.
    """
    schema = pa.schema([pa.field(name, pa.string()) for name in _names(table, source.pattern)])
    lines = _Lines(table, source, schema)
    converted = stream_to_parquet(table, schema, lines.batches(files), source.columns, folder)
    if not converted.rows:
        raise GateError(f"table {table!r}: no lines in {files[0].name}", accepted="at least one line")
    left = f"{lines.strange:,} of {lines.seen:,} lines do not match `pattern` and are left out"
    return Converted(converted.files, converted.rows, converted.columns, left if lines.strange else "")


def _names(table: str, pattern: str) -> list[str]:
    try:
        found = pc.extract_regex(pa.array([""]), f"^(?:{pattern})$").type
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"table {table!r}: `pattern`: {str(error).splitlines()[0]}",
            accepted="a regular expression of RE2 (nothing looks ahead or back), all of whose groups have names",
            next_step="correct it in project.yaml; a group without a name is written (?:...)",
        ) from error
    return [found.field(index).name for index in range(found.num_fields)]


@dataclass(slots=True)
class _Lines:
    """Lines while they are read, and how many there were."""

    table: str
    source: LogTable
    schema: pa.Schema
    seen: int = 0
    strange: int = 0
    first: str = field(default="")
    """Where the first one is that does not match, and what it is."""

    def batches(self, files: Sequence[LocalFile]) -> Iterator[pa.RecordBatch]:
        for file in files:
            with file.path.open("rb") as opened:
                lines = enumerate(iter(partial(opened.readline, LONGEST + 1), b""), 1)
                while some := list(islice(lines, LINES)):
                    yield self._matched(file, some)
        if self.strange > self.source.unmatched * self.seen:
            raise self._refused()

    def _matched(self, file: LocalFile, some: Sequence[tuple[int, bytes]]) -> pa.RecordBatch:
        kept = [(number, line.rstrip(b"\r\n")) for number, line in some if line.strip()]
        long = next((number for number, line in kept if len(line) > LONGEST), None)
        if long is not None:
            raise GateError(
                f"table {self.table!r}: {file.name}, line {long}: longer than {LONGEST:,} bytes",
                accepted="a text file of lines",
            )
        text = pa.array([line.decode("utf-8", "replace") for _, line in kept], pa.string())
        found = pc.extract_regex(text, f"^(?:{self.source.pattern})$")
        self.seen += len(kept)
        if found.null_count:
            self.strange += found.null_count
            index = pc.index(found.is_null(), value=True).as_py()
            self.first = self.first or f"{file.name}, line {kept[index][0]}: {text[index].as_py()[:80]!r}"
            if not self.source.unmatched:
                raise self._refused()
        columns = pa.RecordBatch.from_struct_array(found.drop_null()).columns
        return pa.RecordBatch.from_arrays([_without_empty(column) for column in columns], schema=self.schema)

    def _refused(self) -> GateError:
        return GateError(
            f"table {self.table!r}: {self.first} does not match `pattern`, nor do {self.strange - 1:,} more of "
            f"{self.seen:,} lines so far",
            accepted=f"at most {self.source.unmatched:.2%} of the lines, as `unmatched` has it",
            next_step="correct `pattern`, or say in `unmatched` what share may be left out",
        )


def _without_empty(column: pa.Array) -> pa.Array:
    """A group that took no part comes as an empty text: a missing value, as in CSV."""
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
