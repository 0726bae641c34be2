"""Rows in, answers out: `POST /v1/projects/NAME/predict`, JSON whose columns are the model's own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import isnan
from typing import TYPE_CHECKING, Any

import msgspec

from components.gateway.problems import Problem
from components.gateway.question import LateError, Question
from components.gateway.requests import Answer
from components.gateway.routing import key_of

if TYPE_CHECKING:
    from components.gateway.catalogue import Door, Entry
    from components.gateway.model import Model
    from components.gateway.question import Said
    from components.gateway.requests import Request

_encode = msgspec.json.Encoder().encode


class Answers(msgspec.Struct, gc=False):
    """The answers to a request; `release` and `receipt` are null for a default answer, which no release gave."""

    project: str
    release: int | None
    receipt: str | None
    answers: list[Any]
    default: bool = False


class Rows:
    """The rows of a request on their way to a release.

    Args:
        model: completes what they leave out.
        request: has the body.
        body: JSON, `{"rows": [...]}`.
    """

    __slots__ = ("_body", "_model", "_request", "count")

    def __init__(self, model: Model, request: Request, body: bytes) -> None:
        self.count = 0
        """Known once they are written."""
        self._model = model
        self._request = request
        self._body = body

    async def write(self, door: Door) -> Question:
        """The rows as the release behind `door` is asked."""
        asked = door.signature.rows_of(self._body)
        await self._model.completer.complete(door, asked)
        columns = door.signature.transposed(asked)
        self.count = len(asked)
        return Question(*door.signature.writer.write(columns), columns)

    def key(self, column: str) -> str:
        """What decides which release is asked, where several answer."""
        return key_of(self._request, column, lambda: rows_in(self._body))


async def predict(model: Model, request: Request, project: str, body: bytes) -> Answer:
    """Answer the rows in `body`."""
    rows = Rows(model, request, body)
    try:
        said = await model.ask(rows.write, rows.key, project)
    except LateError as late:
        answers = late.door.signature.speech.rows(late.columns(rows.count))
        return Answer(_encode(Answers(project, None, None, answers, default=True)))
    return Answer(_encode(answered(said, project)))


def answered(said: Said, project: str) -> Answers:
    """What a release said, row by row.

    Raises:
        Problem: 422, it has no answer to a row; 502, it is not the answer of this model.
    """
    signature = said.door.signature
    columns = signature.reader.read(said.header, said.body)
    _refuse_strays(columns[0])
    return Answers(project, said.door.number, said.receipt, signature.speech.rows(columns))


def rows_in(body: bytes) -> Sequence[Any]:
    """The rows as they came; none where there are none, which is told when they are checked."""
    try:
        rows = msgspec.json.decode(body)["rows"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return ()
    return rows if isinstance(rows, list) else ()


def _refuse_strays(numbers: Sequence[Any]) -> None:
    """A probability that is none is no answer: values far beyond what was learned from can end in one.

    Raises:
        Problem: 422; names the row.
    """
    many = isinstance(numbers[0], list)
    if not any(map(isnan, chain.from_iterable(numbers) if many else numbers)):
        return
    for row, number in enumerate(numbers):
        if any(map(isnan, number if many else (number,))):
            raise Problem(
                422,
                f"rows[{row}]: the model has no answer",
                field=f"rows[{row}]",
                accepted="values of the size that it learned from",
            )


def described(name: str, entry: Entry) -> dict[str, Any]:
    """A project for `GET /v1/projects/NAME`."""
    door = entry.champion
    if door is None:
        return {"project": name, "release": None, "trouble": entry.trouble or None}
    return {
        "project": name,
        "release": door.number,
        "digest": door.release.digest,
        "model": door.model,
        "target": door.signature.target,
        "task": door.signature.speech.task,
        "classes": door.signature.speech.classes,
        "features": door.signature.features,
        "online": _online(door),
        "example": door.signature.example,
        "releases": sorted(entry.doors),
        "rollout": entry.rollout.told if entry.rollout else None,
        "selection": {"how": entry.selection.how, "arms": entry.selection.arms} if entry.selection else None,
        "trouble": entry.trouble or None,
    }


def _online(door: Door) -> dict[str, Any] | None:
    """What a request may leave out, and by what it is known."""
    table = door.release.online
    return {"entity": table.entity, "columns": table.columns} if table else None
