"""One moment of a database, read only: what a table by watermark asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from components.adapters.duckdb_faults import quoted
from components.errors import ConfigError, NotFoundError, TrilhaError, UnavailableError
from components.source_settings import Sql

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest watermark as text that the database takes back, and how many rows have it."""

    watermark: str
    rows: int


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows come, and column -> the DuckDB type that it is made."""

    schema: pa.Schema
    types: Mapping[str, str]


class Snapshot(Protocol):
    """One moment of a database. Of equal rows, no order is kept; everything else has one that is always the same."""

    def newest(self) -> Newest | None:
        """None where no row has a watermark."""

    def rose(self, before: str, after: str) -> bool:
        """Whether `after` is no older a watermark than `before`."""

    def lacking(self) -> bool:
        """Whether a row has no watermark."""

    def shape(self, declared: Mapping[str, str]) -> Shape:
        """Of all rows; `declared` says what some columns are made."""

    def between(self, shape: Shape, low: str | None, high: str) -> Iterator[pa.RecordBatch]:
        """Rows from `low` on, if there is one, and below `high`."""

    def at(self, shape: Shape, watermark: str) -> Iterator[pa.RecordBatch]:
        """Rows with that watermark."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is read: for which table, where in words, and by which settings. It has the SQL that databases share."""

    table: str
    where: str
    sql: Sql

    @property
    def relation(self) -> str:
        """What rows are selected from."""
        if self.sql.query is not None:  # a last line may be a comment
            return f"({self.sql.query.strip().rstrip(';')}\n) AS arriving"
        assert self.sql.table is not None
        return ".".join(quoted(part) for part in self.sql.table.split(".")) + " AS arriving"

    @property
    def watermark(self) -> str:
        return f"arriving.{quoted(self.sql.watermark)}"  # bare, SQLite takes what is no column for a text

    def newest(self, text: str) -> str:
        """The query for the newest watermark, as the expression `text` has it, and how many rows have it."""
        rows = f"SELECT count(*) FROM {self.relation} WHERE {self.watermark} = trilha_n.newest"  # noqa: S608  # quoted above
        return f"SELECT {text}, ({rows}) FROM (SELECT max({self.watermark}) AS newest FROM {self.relation}) AS trilha_n"  # noqa: S608

    def gone(self, words: str) -> NotFoundError:
        """The error for a table or a database that is not there."""
        return NotFoundError(
            f"table {self.table!r}: {self.where}: {words}",
            next_step="make it there, or correct `sql` in project.yaml",
        )

    def refused(self, words: str) -> ConfigError:
        """The error for what the database does not accept."""
        return ConfigError(
            f"table {self.table!r}: {self.where}: {words}",
            accepted="what the database can answer to this user",
            next_step="correct `sql` in project.yaml",
        )

    def denied(self, words: str) -> TrilhaError:
        """The error for a user that it does not let in."""
        return ConfigError(
            f"table {self.table!r}: connection {self.sql.connection!r}: {words}",
            accepted="a user who may connect, and read what project.yaml names",
            next_step="correct the URL in the profile, or in the variable that holds it, or the user's rights",
        )

    def away(self, words: str) -> UnavailableError:
        """The error for a database that does not answer."""
        return UnavailableError(
            f"table {self.table!r}: connection {self.sql.connection!r}: {words}",
            next_step="check the address and that the database is up, then run again",
        )
