"""Asking the model that serves: rows as people write them, checked by name and type, answered by its own bundle."""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from components.adapters.triton_config import MAX_ROWS
from components.errors import ConfigError, NotFoundError, UnavailableError
from components.model_inputs import column_tensor
from components.records import Record, Release

if TYPE_CHECKING:
    import numpy.typing as npt

    from components.workspace import Workspace

    Tensor = npt.NDArray[Any]

Row = Mapping[str, object]

LONGEST: Final = 60
"""Characters of a value that an error shows."""

ACCEPTED: Final = {
    "string": "text, or null",
    "double": "a number, or null",
    "bigint": "a whole number from -2^63 to 2^63 - 1, or null",
}
"""Type of a feature -> what may be said for it."""


class Answer(Record):
    """What the model says of one row: the probability of 1, and the label."""

    probability: float
    label: int


def predict(workspace: Workspace, release: Release, rows: Sequence[Row]) -> list[Answer]:
    """Ask the bundle of `release`; one that the server does not answer with is loaded first.

    Raises:
        ConfigError: a row lacks a column, has one that the model does not know, or a value of another type.
        UnavailableError: the server is down.
    """
    return [
        Answer(probability=float(probability), label=int(label))
        for answers in _ask(workspace, release, tensors_of(rows, release))
        for probability, label in zip(answers["probability"].ravel(), answers["label"].ravel(), strict=True)
    ]


def _ask(workspace: Workspace, release: Release, tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(next(iter(tensors.values()))), MAX_ROWS):
        inputs = {name: tensor[start : start + MAX_ROWS] for name, tensor in tensors.items()}
        try:
            yield workspace.server.infer(release.bundle.model, inputs)
        except (NotFoundError, UnavailableError):
            from components.serving import serve

            serve(workspace, release.bundle, release.project)
            yield workspace.server.infer(release.bundle.model, inputs)


def tensors_of(rows: Sequence[Row], release: Release) -> dict[str, Tensor]:
    """`rows` as the tensors that the model takes; the key and the target may be there and are left out.

    Raises:
        ConfigError: as `predict`.
    """
    prepared = release.prepared
    known = {prepared.row, prepared.target, *prepared.features}
    for number, row in enumerate(rows, start=1):
        _check_columns(number, row, known, prepared.features)
    return {
        name: column_tensor([_value(number, name, kind, row[name]) for number, row in enumerate(rows, start=1)], kind)
        for name, kind in prepared.features.items()
    }


def _check_columns(number: int, row: Row, known: set[str], features: Mapping[str, str]) -> None:
    accepted = ", ".join(features)
    for name in row:
        if name not in known:
            close = difflib.get_close_matches(name, features, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"row {number}: unknown column {name!r}{hint}", accepted=accepted)
    for name, kind in features.items():
        if name not in row:
            raise ConfigError(
                f"row {number}: column {name!r} is missing",
                accepted=accepted,
                next_step=f'give "{name}": {ACCEPTED[kind]}',
            )


def _value(number: int, name: str, kind: str, value: object) -> object:
    """`value`, if it is of the type; null and NaN both stand for a missing one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if kind == "string":
        fits = isinstance(value, str) and value == value.encode(errors="ignore").decode()  # half a surrogate is no text
    elif isinstance(value, bool) or not isinstance(value, int | float):
        fits = False
    else:
        whole = -(2**63) <= value < 2**63 and value == math.floor(value)
        fits = whole or (kind == "double" and abs(value) <= sys.float_info.max)
    if not fits:
        shown = json.dumps(value, default=str)
        raise ConfigError(f"row {number}: {name!r} is {shown[:LONGEST]}", accepted=ACCEPTED[kind])
    return value
