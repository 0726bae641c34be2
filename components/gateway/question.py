"""A question to a release and what it said, as records; and Triton's refusals, in terms of the project."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from components.gateway.problems import RETRY_SECONDS, Problem

if TYPE_CHECKING:
    from components.gateway.catalogue import Door
    from components.gateway.wire import Columns

GONE: Final = ("unknown model", "is not found", "is not healthy", "is not ready", "has no available versions")
"""Triton's words for a model that is not there, or whose process died."""

BUSY: Final = ("Request timeout expired", "maximum queue size")
"""Words of a refusal by the project's own queue policy."""

DECOUPLED: Final = "decoupled transaction policy"
"""Words of Triton's HTTP door for a model that may have several answers."""

THEIRS: Final = (
    "Unable to parse",
    "failed to parse the request",
    "attempt to access JSON",
    "text is not UTF-8",
    "correlation ID",
)
"""Words of a refusal for which Triton, or the bundle's own model, says 500, though the request is to blame."""

_INPUT: Final = re.compile(r"input '([^']*)'")


class LateError(Exception):
    """The model did not answer in time, and the project names what to say then."""

    def __init__(self, door: Door, default: Columns) -> None:
        super().__init__("late")
        self.door = door
        self._default = default

    def columns(self, rows: int) -> Columns:
        """The default answer to each of so many rows, as the door's tensors."""
        return [column * rows for column in self._default]


class Question(NamedTuple):
    """A request to Triton: the length of its JSON header, its body, and its columns where they are known."""

    header: int | None
    body: bytes
    columns: Columns | None = None


Write = Callable[["Door"], Awaitable[Question]]
"""The request as a release takes it; raises `Problem` where it does not."""


class Said(NamedTuple):
    """What a release said: `header` is the length of the JSON header in front of the tensors in `body`.

    `seconds` is how long it took; None where it was remembered.
    """

    door: Door
    receipt: str
    header: int | None
    body: bytes
    kind: bytes
    asked: Question
    seconds: float | None


def words_of(body: bytes) -> str:
    """What Triton says in a refusal."""
    try:
        return str(msgspec.json.decode(body).get("error", ""))
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError):
        return body[:500].decode(errors="replace")


def refusal_of(door: Door, status: int, words: str) -> Problem:
    """Triton's refusal of a request, in terms of the project."""
    said = words.replace(door.asked, door.project).replace(door.model, door.project).split("\n", 1)[0]
    found = _INPUT.search(said)
    kinds = ", ".join(spec.shown for spec in door.signature.inputs)
    if any(text in words for text in BUSY):
        return Problem(503, said, retry_after=RETRY_SECONDS)
    if DECOUPLED in words:
        return Problem(
            501, f"{door.project} may have several answers for a request",
            accepted=f"POST /v2/models/{door.project}/generate_stream, or /v1/projects/{door.project}/stream",
        )  # fmt: skip
    theirs = status < 500 or any(text in words for text in THEIRS)
    field = found.group(1) if found else ""
    return Problem(400 if theirs else 502, said or "refused", field=field, accepted=kinds)
