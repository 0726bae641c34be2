"""What was asked and answered, as Parquet on the branch `predictions` of the data store: a share, redacted by column.

A request costs one entry in a queue. A thread decodes, writes and commits. Where it does not keep up, or the store is
away for long, entries are dropped and counted; no request waits.

    small/2026-11-25/<unique part of the first receipt>.parquet
"""

from __future__ import annotations

import queue
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from components.errors import TrilhaError
from components.gateway import receipts, wire
from components.records import digest

if TYPE_CHECKING:
    from components.gateway.catalogue import Door
    from components.gateway.metrics import Metrics
    from components.gateway.question import Said
    from components.ports import DataStore
    from components.project import Online
    from components.workspace import Workspace

BRANCH: Final = "predictions"
SECONDS: Final = 60.0
"""Between two commits."""
ENTRIES: Final = 10_000
"""Requests that wait to be written, at most."""
BYTES: Final = 64 * 2**20
"""Of requests that wait, at most."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One request and its answer, as bytes."""

    door: Door
    redact: tuple[str, ...]
    receipt: str
    asked: tuple[int | None, bytes]
    said: tuple[int | None, bytes]

    @property
    def size(self) -> int:
        return len(self.asked[1]) + len(self.said[1])


class PredictionLog:
    """Writes down what projects want written down.

    Args:
        workspace: its data store.
        metrics: are told what was written and what was dropped.
        seconds: between two commits.
    """

    def __init__(self, workspace: Workspace, metrics: Metrics, seconds: float = SECONDS) -> None:
        self._workspace = workspace
        self._metrics = metrics
        self._seconds = seconds
        self._queue: queue.SimpleQueue[Logged | None] = queue.SimpleQueue()
        self._waiting = 0
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def take(self, online: Online, said: Said, header: int | None, body: bytes) -> None:
        """Write down a request, if it is in the share; its receipt decides, so whoever has that can tell."""
        if int(said.receipt[-4:], 16) >= online.log * 65_536:
            return
        entry = Logged(said.door, online.redact, said.receipt, (header, body), (said.header, said.body))
        with self._lock:
            if self._waiting >= ENTRIES or self._bytes + entry.size > BYTES:
                self._metrics.logged("dropped", 1)
                return
            self._waiting += 1
            self._bytes += entry.size
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="prediction log", daemon=True)
            self._thread.start()
        self._queue.put(entry)

    def close(self) -> None:
        """Write down what waits."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(30)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        goes_on = True
        pending: list[Logged] = []
        while goes_on:
            new, goes_on = self._gather()
            pending += new
            if not pending:
                continue
            try:
                commit(self._workspace.store, pending)
                self._metrics.logged("written", len(pending))
            except TrilhaError as error:
                _say(f"predictions are not written: {error}")
                if goes_on and len(pending) < ENTRIES // 2:
                    continue  # once more with the next ones
                self._metrics.logged("dropped", len(pending))
            except Exception:  # noqa: BLE001  # whatever it is, the next ones may fare better
                traceback.print_exc(file=sys.stderr)
                self._metrics.logged("dropped", len(pending))
            with self._lock:
                self._waiting -= len(pending)
                self._bytes -= sum(entry.size for entry in pending)
            pending = []

    def _gather(self) -> tuple[list[Logged], bool]:
        """What comes within the time between two commits, and whether there is more to come."""
        entries: list[Logged] = []
        deadline = time.monotonic() + self._seconds
        while len(entries) < ENTRIES // 2:
            try:
                entry = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if entry is None:
                return entries, False
            entries.append(entry)
        return entries, True


def commit(store: DataStore, entries: list[Logged]) -> None:
    """One commit with a file for each release and day: releases may differ in their columns, and in their types."""
    import pyarrow.parquet as pq

    if BRANCH not in store.branches(BRANCH):
        store.branch(BRANCH, list(store.log("main"))[-1].id)
    groups: dict[tuple[str, int, str], list[Logged]] = defaultdict(list)
    for entry in entries:
        groups[entry.door.project, entry.door.number, _day(entry.receipt)].append(entry)
    with tempfile.TemporaryDirectory() as folder:
        puts = {}
        for number, ((project, _, day), group) in enumerate(groups.items()):
            path = Path(folder) / str(number)
            pq.write_table(_table(group), path)
            first = min(_parsed(entry.receipt).unique for entry in group)
            puts[f"{project}/{day}/{first}.parquet"] = path
        store.commit(
            BRANCH, puts, message=f"{len(entries)} requests", metadata={},
            key=digest(sorted(entry.receipt for entry in entries)),
        )  # fmt: skip


def logged(store: DataStore, receipt: receipts.Receipt) -> Iterator[dict[str, Any]]:
    """The rows of a prediction, as they were written down; none where it was not in the share.

    Those that begin shortly before it are read first: it is in one of them.
    """
    import pyarrow.parquet as pq

    if BRANCH not in store.branches(BRANCH):
        return
    head = store.resolve(BRANCH).id
    day = f"{receipt.moment:%Y-%m-%d}"
    names = [receipt.request] if receipt.row is None else [f"{receipt.request}.{receipt.row}"]
    for entry in reversed(store.ls(head, f"{receipt.project}/{day}")):
        if Path(entry.path).stem > receipt.unique:
            continue  # its first prediction is later
        where = ("request", "in", names) if receipt.row is None else ("receipt", "in", names)
        yield from pq.read_table(store.local(head, entry.path), filters=[where]).to_pylist()


def answered(store: DataStore, project: str) -> set[int]:
    """The releases that predictions of a project were written down of."""
    import pyarrow.parquet as pq

    if BRANCH not in store.branches(BRANCH):
        return set()
    head, found = store.resolve(BRANCH).id, set[int]()
    for entry in store.ls(head, project):
        found.update(pq.read_table(store.local(head, entry.path), columns=["release"])["release"].to_pylist())
    return found


def _table(entries: list[Logged]) -> Any:
    """Rows of all entries; of one that has its receipt alone, the other columns are null."""
    import pyarrow as pa

    return pa.concat_tables([_rows(entry) for entry in entries], promote_options="default")


def _rows(entry: Logged) -> Any:
    """A request's rows; of one that cannot be put into columns, its receipt alone."""
    import pyarrow as pa

    try:
        return _whole(entry)
    except (msgspec.MsgspecError, KeyError, ValueError, struct.error, pa.ArrowException):
        receipt = _parsed(entry.receipt)
        return pa.table({
            "request": [entry.receipt],
            "receipt": [f"{entry.receipt}.0"],
            "moment": pa.array([receipt.moment], pa.timestamp("ms", "UTC")),
            "release": pa.array([receipt.release], pa.int32()),
        })  # fmt: skip


def _whole(entry: Logged) -> Any:
    import pyarrow as pa

    signature = entry.door.signature
    asked = wire.read_request(*entry.asked)
    said = wire.read_reply(*entry.said)
    first = signature.inputs[0]
    count = len(asked[first.name]) // first.width
    receipt = _parsed(entry.receipt)
    columns: dict[str, Any] = {
        "request": pa.array([entry.receipt] * count),
        "receipt": pa.array([f"{entry.receipt}.{row}" for row in range(count)]),
        "moment": pa.array([receipt.moment] * count, pa.timestamp("ms", "UTC")),
        "release": pa.array([receipt.release] * count, pa.int32()),
    }
    nothing = [None] * count
    for spec in signature.inputs:
        values = nothing if spec.name in entry.redact else wire.cut(_plain(asked[spec.name]), spec)
        columns[f"input.{spec.name}"] = pa.array(values, _arrow(spec))
    for spec in signature.speech.outputs:  # a client of V2 may ask for one output alone
        values = wire.cut(said[spec.name], spec) if spec.name in said else nothing
        columns[spec.name] = pa.array(values, _arrow(spec))
    return pa.table(columns)


def _arrow(spec: wire.Spec) -> Any:
    import pyarrow as pa

    kind = {"BYTES": pa.string(), "FP32": pa.float32(), "INT64": pa.int64()}[spec.datatype]
    return pa.list_(kind, spec.width) if spec.many else kind


def _plain(values: list[Any]) -> list[Any]:
    return [None if value in {"", None} or value != value else value for value in values]  # noqa: PLR0124  # NaN


def _parsed(receipt: str) -> receipts.Receipt:
    found = receipts.parse(receipt)
    assert found is not None
    return found


def _day(receipt: str) -> str:
    return f"{_parsed(receipt).moment:%Y-%m-%d}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # standard error is the service's log
