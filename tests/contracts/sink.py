"""What every sink has to do. A test of one inherits `SinkContract`, gives `sink`, `read`, and how to open it elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest

from components.data_ports import Sink
from components.errors import GateError

ROOT = Path(__file__).parents[2]
SCHEMA = pa.schema(
    [("id", pa.string()), ("night", pa.int64()), ("probability", pa.float32()), ("shares", pa.list_(pa.float32(), 2))]
)
ROWS = 4_000

Read = Callable[[str], list[dict[str, object]]]

PROGRAM = """
import os, signal, sys
from tests.contracts.sink import SCHEMA, batches
{opened}

def dying():
    for number, batch in enumerate(batches(2)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

sink.write("people", "2" * 64, SCHEMA, dying())
"""


def batches(night: int, rows: int = ROWS) -> Iterator[pa.RecordBatch]:
    """A night whose rows all say which one it is; some texts are hard, and some numbers missing."""
    for first in range(0, rows, 1_000):
        places = range(first, min(first + 1_000, rows))
        yield pa.record_batch(
            {
                "id": [f'p{place} "ã", \\N' for place in places],
                "night": [night] * len(places),
                "probability": pa.array([None if place % 9 == 4 else place / rows for place in places], pa.float32()),
                "shares": pa.array([[0.25, 0.75]] * len(places), pa.list_(pa.float32(), 2)),
            },
            schema=SCHEMA,
        )


def rows(night: int, count: int = ROWS) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pa.Table.from_batches(batches(night, count)).to_pylist()
    return sorted(found, key=lambda row: str(row["id"]))


class SinkContract:
    """A table is one night or another."""

    opened = ""
    """Python that makes `sink` in another process, from the environment."""

    def test_what_is_written_is_read(self, sink: Sink, read: Read) -> None:
        """Every row, with what is missing; and the sink says that it holds it."""
        assert not sink.holds("people", "1" * 64)
        sink.write("people", "1" * 64, SCHEMA, batches(1))
        assert sink.holds("people", "1" * 64)
        assert read("people") == rows(1)

    def test_twice_is_once(self, sink: Sink, read: Read) -> None:
        """A night that is delivered again, and one that comes back after another."""
        for night in (1, 1, 2, 1, 1):
            sink.write("people", str(night) * 64, SCHEMA, batches(night))
            assert read("people") == rows(night)
        assert not sink.holds("people", "2" * 64)

    def test_other_columns(self, sink: Sink, read: Read) -> None:
        """The next night may have other ones."""
        sink.write("people", "1" * 64, SCHEMA, batches(1, 10))
        fewer = pa.schema([SCHEMA.field("id"), SCHEMA.field("probability")])
        sink.write("people", "2" * 64, fewer, (batch.select(fewer.names) for batch in batches(2, 10)))
        assert read("people") == [{name: row[name] for name in fewer.names} for row in rows(2, 10)]

    def test_half_a_night_is_none(self, sink: Sink, read: Read) -> None:
        """What fails on the way is never seen, and does not stand in the way of the next one."""

        def broken() -> Iterator[pa.RecordBatch]:
            yield next(batches(2))
            raise KeyboardInterrupt

        sink.write("people", "1" * 64, SCHEMA, batches(1))
        with pytest.raises(KeyboardInterrupt):
            sink.write("people", "2" * 64, SCHEMA, broken())
        assert sink.holds("people", "1" * 64)
        assert read("people") == rows(1)
        sink.write("people", "2" * 64, SCHEMA, batches(2))
        assert read("people") == rows(2)

    def test_two_rows_of_one_key(self, sink: Sink, read: Read) -> None:
        """However far they are apart: they are refused, the night before stays, and the next one is taken."""
        sink.write("people", "1" * 64, SCHEMA, batches(1))
        with pytest.raises(GateError, match="people.*accepted: one row a key; next: look at the query's joins"):
            sink.write("people", "2" * 64, SCHEMA, chain(batches(2), [next(batches(2)).slice(7, 1)]))
        assert read("people") == rows(1)
        sink.write("people", "2" * 64, SCHEMA, batches(2))
        assert read("people") == rows(2)

    def test_killed_half_way(self, sink: Sink, read: Read) -> None:
        """The process that writes is gone: the night before stays, and the next writer ends it."""
        sink.write("people", "1" * 64, SCHEMA, batches(1))
        command = [sys.executable, "-c", PROGRAM.format(opened=self.opened)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert read("people") == rows(1)
        sink.write("people", "2" * 64, SCHEMA, batches(2))
        assert read("people") == rows(2)

    def test_readers_see_one_night(self, sink: Sink, read: Read) -> None:
        """Whoever reads while nights come sees a whole one each time."""
        sink.write("people", "0" * 64, SCHEMA, batches(0, 500))
        seen: list[set[object]] = []
        over = threading.Event()

        def look() -> None:
            while not over.is_set():
                found = read("people")
                assert len(found) == 500
                seen.append({row["night"] for row in found})

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(look)
            try:
                for night in range(1, 6):
                    sink.write("people", str(night) * 64, SCHEMA, batches(night, 500))
            finally:
                over.set()
            reading.result()
        assert seen
        assert all(len(nights) == 1 for nights in seen)
