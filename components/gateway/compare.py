"""Two releases' answers to one request, held against each other."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from components.answers import LABEL, NUMBERS
from components.gateway import wire

if TYPE_CHECKING:
    from components.gateway.question import Said


def compared(one: Said, other: Said, tolerance: float) -> tuple[int, int]:
    """Rows that both answered, and those with another label, or a number off by more than `tolerance`.

    A number above 1 may be off by that share. A client of V2 may have asked for one output alone: what cannot be
    compared is no row.
    """
    speech = one.door.signature.speech
    name = NUMBERS["regression"] if speech.task == "regression" else LABEL
    try:
        ours = wire.read_reply(one.header, one.body)[name]
        theirs = wire.read_reply(other.header, other.body)[name]
    except (msgspec.MsgspecError, KeyError, ValueError, struct.error):
        return 0, 0
    rows = max(len(ours), len(theirs))
    same = sum(_same(mine, others, tolerance) for mine, others in zip(ours, theirs, strict=False))
    return rows, rows - same


def _same(mine: Any, others: Any, tolerance: float) -> bool:
    if isinstance(mine, float) and isinstance(others, float):
        return abs(mine - others) <= tolerance * max(1.0, abs(mine))
    return bool(mine == others)


def is_sound(said: Said) -> bool:
    """Whether an answer can be read, and its numbers are numbers: what a candidate that is unwell may fail in."""
    outputs = {spec.name for spec in said.door.signature.speech.outputs}
    try:
        found = wire.read_reply(said.header, said.body)
    except (msgspec.MsgspecError, ValueError, struct.error):
        return False
    return bool(found) and outputs >= found.keys() and not any(map(_is_none, found.values()))


def _is_none(values: list[Any]) -> bool:
    return any(value is None or (isinstance(value, float) and math.isnan(value)) for value in values)
