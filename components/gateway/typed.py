"""Rows in, answers out: `POST /v1/projects/NAME/predict`, JSON whose columns are the model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from components.gateway.model import LateError, Question
from components.gateway.requests import Answer
from components.gateway.wire import read_answers

if TYPE_CHECKING:
    from components.gateway.catalogue import Door, Entry
    from components.gateway.model import Model, Said

_encode = msgspec.json.Encoder().encode


class One(msgspec.Struct, gc=False):
    """The answer to one row."""

    probability: float
    label: int


class Answers(msgspec.Struct, gc=False):
    """The answers to a request; `release` and `receipt` are null for a default answer, which no release gave."""

    project: str
    release: int | None
    receipt: str | None
    answers: list[One]
    default: bool = False


async def predict(model: Model, project: str, body: bytes) -> Answer:
    """Answer the rows in `body`."""
    rows = 0

    def write(door: Door) -> Question:
        nonlocal rows
        columns = door.signature.columns_of(body)
        rows = len(columns[0])
        return Question(*door.signature.writer.write(columns), columns)

    try:
        said = await model.ask(write, project)
    except LateError as late:
        answers = [One(late.default.probability, late.default.label)] * rows
        return Answer(_encode(Answers(project, None, None, answers, default=True)))
    return Answer(_encode(Answers(project, said.door.number, said.receipt, list(map(One, *read(said))))))


def read(said: Said) -> tuple[list[float], list[int]]:
    """Probabilities and labels."""
    return read_answers(said.door.model, said.header or len(said.body), said.body)


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
        "features": door.signature.features,
        "example": door.signature.example,
        "releases": sorted(entry.doors),
        "trouble": entry.trouble or None,
    }
