"""Predictions for many rows at once: what they are called, and the way back from a row to its release and its data.

The newest ones of each project lie on the branch `scores` as `PROJECT/part-NNNNN.parquet`: the rows' key, the columns
that are kept, the task's answer, and a receipt a row.

    flights-3-1a2b3c4d5e6f-5f0e1c2d3b4a8c7d9e0f1a2b3c4d5e6f.1234567

That is the project, the release and its digest, the night, and the row's place in it. A night is called by what went
into it, so that the same release and the same data give the same receipts whenever they are made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from components.errors import NotFoundError
from components.records import Artifact, Commit, Place, Record, Release, Seconds

if TYPE_CHECKING:
    from components.ports import DataStore, Entry, Revision

BRANCH: Final = "scores"
RECEIPT: Final = "receipt"
"""The column."""

_RECEIPT: Final = re.compile(
    r"(?P<project>[a-z][a-z0-9_-]{0,62})-(?P<release>[1-9][0-9]{0,8})-(?P<digest>[0-9a-f]{12})"
    r"-(?P<night>[0-9a-f]{12}8[0-9a-f]{3}[89ab][0-9a-f]{15})(\.(?P<row>[0-9]{1,12}))?"
)


class Picked(Record):
    """What is scored: a release and a commit of the data. `night` is what their predictions are called."""

    release: Release
    commit: Commit
    night: str


class Part(Record):
    """Consecutive rows of a night in one file; the first one is row `first`, and `key` is a digest of their keys."""

    index: int
    first: int
    rows: int
    key: str
    file: Artifact


class Scored(Record):
    """What one shard answered; `rows` is how many the query yields in all."""

    rows: int
    parts: tuple[Part, ...]
    seconds: Seconds


class Ranked(Record):
    """The best of each key, and the best on the whole, in one file."""

    count: int
    """Keys."""
    file: Artifact


class Predictions(Commit):
    """A night in the data store, which the branch `scores` holds for `project`.

    A commit whose predictions it holds no longer has to be made again.
    """

    project: str
    night: str
    rows: int


class Delivered(Record):
    """A night that a sink holds: `where` it is, without a password."""

    sink: str
    night: str
    rows: int
    where: Place


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt of a row, taken apart. `row` is None where the whole night is meant."""

    project: str
    release: int
    digest: str
    night: str
    row: int | None


def night_of(parts: str) -> str:
    """What a night is called, from a digest of what went into it: a UUID of version 8 without its dashes."""
    value = int(parts[:32], 16) & ~(0xF << 76) | 0x8 << 76
    return f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"


def prefix_of(picked: Picked) -> str:
    """What every receipt of a night begins with."""
    release = picked.release
    return f"{release.project}-{release.number}-{release.digest[:12]}-{picked.night}"


def parse(text: str) -> Receipt | None:
    """What `text` is the receipt of; None where it is none of a night."""
    found = _RECEIPT.fullmatch(text)
    if found is None:
        return None
    row = found["row"]
    return Receipt(
        found["project"], int(found["release"]), found["digest"], found["night"], None if row is None else int(row)
    )


def path_of(project: str, index: int) -> str:
    """Where a part lies on the branch."""
    return f"{project}/part-{index:05}.parquet"


def best_of(project: str) -> str:
    """Where the best of each lies on the branch, of a project that ranks."""
    return f"{project}/best.parquet"


def parts_of(store: DataStore, commit: str, project: str) -> list[Entry]:
    """The parts of a night, in their order."""
    return [entry for entry in store.ls(commit, project) if entry.path != best_of(project)]


def nights(store: DataStore, project: str) -> Iterator[Revision]:
    """The commits with predictions for `project`, newest first."""
    if BRANCH in store.branches(BRANCH):
        yield from (one for one in store.log(BRANCH) if one.metadata.get("project") == project)


def holds(store: DataStore, commit: str, project: str) -> bool:
    """Whether the branch holds for `project` what that commit does."""
    if BRANCH not in store.branches(BRANCH):
        return False
    return store.ls(BRANCH, project) == store.ls(commit, project)


def found(store: DataStore, receipt: Receipt) -> tuple[Revision, dict[str, Any] | None]:
    """The newest commit of a night, and the row that has this receipt, as it was written, if that is still there.

    Raises:
        NotFoundError: the store has no such night, or the night no such row.
    """
    import pyarrow.parquet as pq

    night = next((one for one in nights(store, receipt.project) if one.metadata["night"] == receipt.night), None)
    if night is None:
        raise NotFoundError(
            f"no predictions of {receipt.project} are called {receipt.night}",
            next_step="ask with the profile that they were made in",
        )
    if receipt.row is None:
        return night, None
    first = 0
    for entry in parts_of(store, night.id, receipt.project):
        try:
            path = store.local(night.id, entry.path)
        except NotFoundError:  # of the night itself, retention keeps what it was made of
            return night, None
        with pq.ParquetFile(path) as file:
            count = file.metadata.num_rows
            if receipt.row < first + count:
                rows = file.read().slice(receipt.row - first, 1)
                return night, dict(rows.to_pylist()[0])
        first += count
    raise NotFoundError(f"the night has no row {receipt.row}", accepted=f"0 to {first - 1}")
