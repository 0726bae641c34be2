"""A receipt names one prediction for ever: its project, its release, that release's digest, and its moment.

    flights-3-1a2b3c4d5e6f-01935b0c3c7e7c3f8a1b2c3d4e5f6071

The last part is a UUID of version 7 without its dashes, so that receipts of one release sort by time. Row N of a
request with several is `RECEIPT.N`, counted from 0. Whoever has the receipt and the data store finds the release; the
gateway is not asked.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from components.records import Release

DIGITS = 12
"""Of the release's digest."""

_RECEIPT = re.compile(
    r"(?P<project>[a-z][a-z0-9_-]{0,62})-(?P<release>[1-9][0-9]{0,8})-(?P<digest>[0-9a-f]{12})"
    r"-(?P<unique>[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15})(\.(?P<row>[0-9]{1,6}))?"
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt, taken apart. `row` is None where the whole request is meant."""

    project: str
    release: int
    digest: str
    unique: str
    row: int | None = None

    @property
    def moment(self) -> datetime:
        """When it was given."""
        return datetime.fromtimestamp(int(self.unique[:12], 16) / 1000, UTC)

    @property
    def request(self) -> str:
        """The receipt of the whole request."""
        return f"{self.project}-{self.release}-{self.digest}-{self.unique}"


def prefix_of(release: Release) -> str:
    """What every receipt of a release begins with."""
    return f"{release.project}-{release.number}-{release.digest[:DIGITS]}-"


def new_unique() -> str:
    """A UUID of version 7, 32 hexadecimal digits."""
    drawn = int.from_bytes(os.urandom(10))
    value = (time.time_ns() // 1_000_000) << 80 | drawn
    value = value & ~(0xF << 76) | 0x7 << 76
    return f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"


def parse(text: str) -> Receipt | None:
    """What `text` is the receipt of; None where it is none."""
    found = _RECEIPT.fullmatch(text)
    if found is None:
        return None
    row = found["row"]
    return Receipt(
        found["project"], int(found["release"]), found["digest"], found["unique"], None if row is None else int(row)
    )
