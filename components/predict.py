"""Asking the model that serves: rows as people write them, checked by name and type, answered by its own bundle."""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from components.adapters.triton_config import MAX_ROWS
from components.answers import LABEL, NUMBERS
from components.errors import ConfigError, NotFoundError, UnavailableError
from components.model_inputs import column_tensor, is_array, width
from components.records import OnlineTable, Prepared, Record, Release

if TYPE_CHECKING:
    import numpy.typing as npt

    from components.workspace import Workspace

    Tensor = npt.NDArray[Any]

Row = Mapping[str, object]

LONGEST: Final = 60
"""Characters of a value that an error shows."""

_ACCEPTED: Final = {
    "string": "text, or null",
    "double": "a number, or null",
    "bigint": "a whole number from -2^63 to 2^63 - 1, or null",
}
"""Type of a feature -> what may be said for it."""


class Answer(Record):
    """What the model of a binary task says of one row: the probability of 1, and the label."""

    probability: float
    label: int


class ClassAnswer(Record):
    """What the model of a multiclass task says of one row: the label, and the probability of each class."""

    label: int | str
    probabilities: dict[str, float]


class ValueAnswer(Record):
    """What a regression says of one row."""

    value: float


AnyAnswer = Answer | ClassAnswer | ValueAnswer


def predict(workspace: Workspace, release: Release, rows: Sequence[Row]) -> list[AnyAnswer]:
    """Ask the bundle of `release`; one that the server does not answer with is loaded first.

    A row may leave out what the release knows of the entity that it names.

    Raises:
        ConfigError: a row lacks a column, has one that the model does not know, or a value of another type.
        UnavailableError: the server is down, or what is known of entities cannot be looked up.
    """
    whole = _completed(workspace, release, rows)
    return [
        answer
        for answers in _ask(workspace, release, tensors_of(whole, release))
        for answer in answers_of(answers, release.prepared)
    ]


def answers_of(answers: Mapping[str, Tensor], prepared: Prepared) -> Iterator[AnyAnswer]:
    """The tensors of an answer, row by row."""
    numbers = answers[NUMBERS[prepared.task]]
    if prepared.task == "regression":
        yield from (ValueAnswer(value=value) for value in numbers.ravel().tolist())
        return
    labels = answers[LABEL].ravel().tolist()
    if prepared.task == "binary":
        for probability, label in zip(numbers.ravel().tolist(), labels, strict=True):
            yield Answer(probability=probability, label=label)
        return
    names = [str(one) for one in prepared.classes]
    for row, label in zip(numbers.tolist(), labels, strict=True):
        yield ClassAnswer(label=label, probabilities=dict(zip(names, row, strict=True)))


def _ask(workspace: Workspace, release: Release, tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(next(iter(tensors.values()))), MAX_ROWS):
        inputs = {name: tensor[start : start + MAX_ROWS] for name, tensor in tensors.items()}
        try:
            yield workspace.server.infer(release.bundle.model, inputs, settings=release.bundle.triton)
        except (NotFoundError, UnavailableError):
            from components.serving import serve

            serve(workspace, release.bundle, release.project)
            yield workspace.server.infer(release.bundle.model, inputs, settings=release.bundle.triton)


def tensors_of(rows: Sequence[Row], release: Release) -> dict[str, Tensor]:
    """`rows` as the tensors that the model takes; the key and the target may be there and are left out.

    Raises:
        ConfigError: as `predict`.
    """
    prepared = release.prepared
    entity = release.online.entity if release.online else ()
    known = {prepared.row, prepared.target, *prepared.features, *entity}
    for number, row in enumerate(rows, start=1):
        _check_columns(number, row, known, prepared.features)
    return {
        name: column_tensor([_value(number, name, kind, row[name]) for number, row in enumerate(rows, start=1)], kind)
        for name, kind in prepared.features.items()
    }


def _completed(workspace: Workspace, release: Release, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with what is known of their entities, where they leave it out."""
    from components.online import ensure, key_of, known

    table = release.online
    lacking = [number for number, row in enumerate(rows) if table and not row.keys() >= set(table.columns)]
    if table is None or not lacking:
        return rows
    ensure(workspace, release)
    keys = [key_of(_entity(number + 1, rows[number], table)) for number in lacking]
    found, whole = workspace.features.read(release.project, table.digest, keys), list(rows)
    for number, key, value in zip(lacking, keys, found, strict=True):
        if value is None:
            raise ConfigError(
                f"row {number + 1}: nothing is known of {', '.join(table.entity)} {key.decode()}",
                accepted="an entity that was learned from",
                next_step=f"give {', '.join(name for name in table.columns if name not in rows[number])} in the row",
            )
        whole[number] = dict(zip(table.columns, known(value), strict=True)) | dict(rows[number])
    return whole


def _entity(number: int, row: Row, table: OnlineTable) -> list[object]:
    """The values that name a row's entity."""
    values = [_value(number, name, kind, row.get(name)) for name, kind in table.entity.items()]
    if None in values:
        name, first = (list(table.entity)[values.index(None)], next(one for one in table.columns if one not in row))
        raise ConfigError(
            f"row {number}: column {first!r} is missing, and so is {name!r}, by which it is known",
            accepted=f'"{name}": {accepted(table.entity[name])}'.removesuffix(", or null"),
        )
    return values


def _check_columns(number: int, row: Row, known: set[str], features: Mapping[str, str]) -> None:
    columns = ", ".join(features)
    for name in row:
        if name not in known:
            close = difflib.get_close_matches(name, features, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"row {number}: unknown column {name!r}{hint}", accepted=columns)
    for name, kind in features.items():
        if name not in row:
            raise ConfigError(
                f"row {number}: column {name!r} is missing",
                accepted=columns,
                next_step=f'give "{name}": {accepted(kind)}',
            )


def accepted(kind: str) -> str:
    """What may be given for a feature of type `kind`, in words."""
    return f"a list of {width(kind)} numbers, or null" if is_array(kind) else _ACCEPTED[kind]


def _value(number: int, name: str, kind: str, value: object) -> object:
    """`value`, if it is of the type; null and NaN both stand for a missing one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if is_array(kind):
        fits = isinstance(value, list | tuple) and len(value) == width(kind)
        if fits:
            return [
                _value(number, f"{name}[{place}]", "double", one)
                for place, one in enumerate(cast("list[object]", value))
            ]
    elif kind == "string":
        fits = isinstance(value, str) and value == value.encode(errors="ignore").decode()  # half a surrogate is no text
    elif isinstance(value, bool) or not isinstance(value, int | float):
        fits = False
    else:
        whole = -(2**63) <= value < 2**63 and value == math.floor(value)
        fits = whole or (kind == "double" and abs(value) <= sys.float_info.max)
    if not fits:
        shown = json.dumps(value, default=str)
        raise ConfigError(f"row {number}: {name!r} is {shown[:LONGEST]}", accepted=accepted(kind))
    return value
