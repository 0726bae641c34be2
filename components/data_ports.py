"""What Trilha asks of what data comes from and goes to: sources of tables, topics of messages, sinks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from components.ports import Address, Entry
    from components.records import FileStamp


@dataclass(frozen=True, slots=True)
class Held:
    """What `main` holds of a table: its files by name, column -> DuckDB type, and its rows.

    `position` is how far the source had been read, in its own words; empty where that was another source, or one that
    is read as a whole.
    """

    entries: Mapping[str, Entry]
    columns: Mapping[str, str]
    rows: int
    position: str = ""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A table as its source gives it now.

    `files` are new ones on this machine, by the name that they get in the table's folder; they may be moved. `kept` are
    the names of those that `main` holds and that stay as they are. `objects` are new files that a row of the table
    names (name -> file and SHA-256); they may be moved too, and those that stay are among `kept`.
    """

    rows: int
    columns: Mapping[str, str]
    files: Mapping[str, Path]
    stamps: tuple[FileStamp, ...]
    kept: Sequence[str] = ()
    position: str = ""
    """How far it was read: what the next reading gets back in `Held`."""
    objects: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    addresses: Mapping[str, Address] = field(default_factory=dict)
    """Where the data store has some of `files` already."""


class Source(Protocol):
    """Where one table comes from. The same source, with the same held before it, gives the same bytes.

    Every method raises `ConfigError` for settings that are not accepted, `NotFoundError` for what is not there,
    `GateError` for what cannot be read as what it should be, and `UnavailableError` where nobody answers.
    """

    def look(self) -> tuple[FileStamp, ...]:
        """What is there now: cheap, and without reading it. Equal stamps: nothing has to be read."""

    def read(self, stamps: tuple[FileStamp, ...], held: Held | None, folder: Path) -> Arrived:
        """The table as it was when it was looked at, in Parquet files below `folder`. Memory does not grow with it.

        Raises:
            ConflictError: it is not any more what `stamps` say.
        """

    def here(self) -> tuple[str, ...]:
        """Files and folders of this machine that it reads, outside packages: absolute, or below the repository."""


@dataclass(frozen=True, slots=True)
class Polled:
    """Messages of a topic in the order in which they were read, and where the next ones begin.

    `values` are None where a message has no body. `place(index)` is the partition and the offset of one of them.
    """

    values: Sequence[bytes | None]
    place: Callable[[int], tuple[str, str]]
    next: Mapping[str, str]


class Topic(Protocol):
    """A topic of Kafka, a stream of Redis: messages in order by partition, which stay for others after they are read.

    Offsets are the adapter's own words; all that is asked of them is that reading goes on from there. They are kept by
    the caller, and nowhere at the server.

    Every method raises `UnavailableError` when the server cannot be reached, or gives up on it.
    """

    def start(self, where: Literal["earliest", "latest"]) -> dict[str, str]:
        """The offsets of the first message that is there, or of the next one to come.

        Raises:
            NotFoundError: there is no such topic.
        """

    def seek(self, offsets: Mapping[str, str], *, lost: Literal["continue", "stop"]) -> None:
        """Read from there on.

        Raises:
            ConfigError: these are no offsets of such a server.
            GateError: messages after `offsets` are gone, and `lost` is `stop`.
        """

    def read(self, limit: int, seconds: float) -> Polled:
        """Up to `limit` messages, as soon as some are there; none after `seconds`. Raises as `seek`."""

    def lag(self, offsets: Mapping[str, str]) -> int:
        """How many messages there are from `offsets` on."""

    def send(self, values: Sequence[bytes]) -> None:
        """Append messages; returns once the server has them."""

    def close(self) -> None: ...


class Sink(Protocol):
    """Where readers find a table under one name: the whole of one night's rows, or of another's.

    A night is of predictions, or of what a run made of `features.sql`.

    Every method raises `UnavailableError` when it cannot be reached, and `ConfigError` where the name is taken by
    something else or a column has no place there.
    """

    @property
    def where(self) -> str:
        """Where it is, without a password."""

    def holds(self, table: str, night: str) -> bool:
        """Whether `table` is that night."""

    def write(self, table: str, night: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Let `table` be a night; nobody sees it before it is whole, and writing it again changes nothing.

        Who reads the night before meanwhile reads it to its end.

        Args:
            table: what readers call it.
            night: what it is known by.
            schema: its columns, the rows' key first.
            batches: its rows.

        Raises:
            GateError: two rows have one key.
        """
