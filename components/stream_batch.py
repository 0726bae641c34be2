"""A batch of messages: rows for the table, and letters that nobody could make rows of, or that came too late."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from components.stream_rows import Decoded, Decoder

if TYPE_CHECKING:
    import pyarrow as pa

    from components.data_ports import Polled, Topic
    from components.stream_settings import Stream

CHUNK: Final = 5_000
"""Messages that are read at a time."""
PAUSE: Final = 0.2
"""Seconds to wait for messages before somebody looks up."""
BYTES: Final = 64 * 2**20
"""Of messages in a batch: the memory that one takes."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that did not become a row of the table, where it is from, and why."""

    partition: str
    offset: str
    reason: str
    value: bytes | None


@dataclass(slots=True)
class Batch:
    """What was read from `first` up to `next`."""

    first: Mapping[str, str]
    next: Mapping[str, str]
    newest: datetime | None
    messages: int = 0
    late: int = 0
    parts: list[pa.Table] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(part.num_rows for part in self.parts)


class Reader:
    """Cuts a topic into batches, one after the other.

    Args:
        topic: is read from `offsets` on, by this reader alone.
        settings: say when a batch is whole, and what is late.
        offsets: where the first batch begins.
        newest: the newest event time of the batches before.
    """

    def __init__(self, topic: Topic, settings: Stream, offsets: Mapping[str, str], newest: datetime | None) -> None:
        self._topic = topic
        self._settings = settings
        self._offsets = dict(offsets)
        self._newest = newest
        self._decoder = Decoder(settings.columns)
        topic.seek(offsets, lost=settings.lost)

    @property
    def unknown(self) -> list[str]:
        """Fields that messages had, and that no column is named after."""
        return self._decoder.unknown

    def next(self, over: Callable[[], bool]) -> Batch | None:
        """The next batch, whole or as it is once it is `over`; None where there are no more messages then."""
        batch = Batch(first=self._offsets, next=self._offsets, newest=self._newest)
        limit, size, deadline = self._settings.batch, 0, float("inf")
        while batch.messages < limit.rows and size < BYTES and not over():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            polled = self._topic.read(min(CHUNK, limit.rows - batch.messages), min(PAUSE, left))
            if not polled.values:
                continue
            if deadline == float("inf"):
                deadline = time.monotonic() + limit.seconds
            size += sum(len(value) for value in polled.values if value)
            self._take(batch, polled)
        if not batch.messages:
            return None
        self._offsets, self._newest = dict(batch.next), batch.newest
        return batch

    def _take(self, batch: Batch, polled: Polled) -> None:
        """Put messages into the batch, each where it belongs."""
        decoded = self._decoder.decode(polled.values)
        reasons, rows = dict(decoded.poison), decoded.rows
        if self._settings.event_time is not None:
            rows = self._by_time(batch, decoded, self._settings.event_time, reasons)
        for index, reason in sorted(reasons.items()):
            batch.letters.append(Letter(*polled.place(index), reason, polled.values[index]))
        if rows.num_rows:
            batch.parts.append(rows)
        batch.messages += len(polled.values)
        batch.next = dict(polled.next)

    def _by_time(self, batch: Batch, decoded: Decoded, column: str, reasons: dict[int, str]) -> pa.Table:
        """The rows that are not too late, by the newest event of the batches before: order inside one is no matter."""
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = decoded.rows
        times = rows[column].cast(pa.timestamp("us", "UTC"))
        newest = pc.max(times).as_py()
        if newest is not None:
            batch.newest = max(batch.newest or newest, newest)
        dead = pc.is_null(times)
        for row in pc.indices_nonzero(dead).to_pylist():
            reasons[decoded.of[row]] = f"no event time in `{column}`"
        if self._newest is not None:
            bound = self._newest - timedelta(seconds=self._settings.lateness)
            late = pc.fill_null(pc.less(times, pa.scalar(bound, times.type)), fill_value=False)
            found = pc.indices_nonzero(late).to_pylist()
            batch.late += len(found)
            if self._settings.late == "dead":
                for row in found:
                    behind = self._newest - times[row].as_py()
                    reasons[decoded.of[row]] = f"late: {behind} behind the newest event of the batches before"
                dead = pc.or_(dead, late)
        return rows.filter(pc.invert(dead)) if pc.any(dead).as_py() else rows


def moment(text: str | None) -> datetime | None:
    """An event time as commits have it."""
    return datetime.fromisoformat(text) if text else None


def letters_table(letters: list[Letter]) -> pa.Table:
    """Dead letters as they are kept."""
    import pyarrow as pa

    return pa.table({
        "partition": [letter.partition for letter in letters],
        "offset": [letter.offset for letter in letters],
        "reason": [letter.reason for letter in letters],
        "value": pa.array([letter.value for letter in letters], pa.binary()),
    })  # fmt: skip
