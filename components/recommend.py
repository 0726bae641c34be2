"""What to recommend: the best of a household's night, or of everybody's for a household that nobody knows.

A night is looked up under its name first and its key second, so whoever asks reads one night; the one before stays in
the store for those who had its name when it changed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from components import config
from components.errors import ConfigError, NotFoundError
from components.online import key_of
from components.rank import EVERYBODY
from components.scores import RECEIPT
from components.sinks import nights_of, row_of

if TYPE_CHECKING:
    from components.ports import FeatureStore
    from components.workspace import Workspace

MOST: Final = 1_000
"""Items in one answer."""
FRESH: Final = 0.1
"""Seconds that a service takes a night for the newest before it looks again; the one before stays in the store."""


class Item(msgspec.Struct, frozen=True):
    """One thing that is recommended; the receipt leads to the answer that put it there."""

    item: Any
    score: float
    receipt: str


class Recommendation(msgspec.Struct, frozen=True):
    """The best of a key. `known` is False where nothing is known of it: these are the best on the whole."""

    project: str
    key: str
    known: bool
    items: list[Item]


def table_of(project: str) -> str:
    """Where a project's nights are in the store of features.

    Raises:
        ConfigError: the project ranks nothing, or delivers it elsewhere.
        NotFoundError: there is no such project.
    """
    scoring = config.load_project(project).file.scoring
    for sink in scoring.sinks.values() if scoring and scoring.rank else ():
        if sink.kind == "online":
            return nights_of(sink.table or f"{project}_best".replace("-", "_"))
    raise ConfigError(
        f"project {project!r} recommends nothing",
        accepted="`scoring` in project.yaml with `rank`, and a sink of kind online",
        next_step="see docs/how-to/recommend.md",
    )


def recommend(workspace: Workspace, project: str, key: str, count: int) -> Recommendation:
    """The best `count` items of a key.

    Raises:
        ConfigError: the project recommends nothing.
        NotFoundError: there is no night yet.
        UnavailableError: the store does not answer.
    """
    store, table = workspace.features, table_of(project)
    for _ in range(2):  # of a night that was dropped between the two, the second look finds the next one
        try:
            found = store.read(table, _named(project, store.pointed(table)), _keys(key))
        except NotFoundError:
            continue
        return _best(project, key, found, count)
    raise _no_night(project)


class Reader:
    """The same for a service that does other things meanwhile, and is asked again and again.

    Args:
        store: of features.
        project: whose nights.

    Raises:
        ConfigError: the project recommends nothing.
    """

    def __init__(self, store: FeatureStore, project: str) -> None:
        self._store, self._project, self._table = store, project, table_of(project)
        self._night, self._looked = "", -FRESH

    async def recommend(self, key: str, count: int) -> Recommendation:
        """The best `count` items of a key.

        Raises:
            NotFoundError: there is no night yet.
            UnavailableError: the store does not answer.
        """
        for _ in range(2):
            if time.monotonic() - self._looked > FRESH:
                self._night = _named(self._project, await self._store.newest(self._table))
                self._looked = time.monotonic()
            try:
                found = await self._store.find(self._table, self._night, _keys(key))
            except NotFoundError:
                self._looked = -FRESH
                continue
            return _best(self._project, key, found, count)
        raise _no_night(self._project)


def _named(project: str, night: str | None) -> str:
    if night is None:
        raise _no_night(project)
    return night


def _no_night(project: str) -> NotFoundError:
    return NotFoundError(f"project {project!r} has no night of recommendations", next_step=f"trilha score {project}")


def _keys(key: str) -> list[bytes]:
    return [key_of([key]), key_of([EVERYBODY])]


def _best(project: str, key: str, found: list[bytes | None], count: int) -> Recommendation:
    own, everybody = found
    value = own if own is not None and key != EVERYBODY else everybody
    row = row_of(value) if value is not None else {}
    columns = (row.get(name, []) for name in ("items", "scores", f"{RECEIPT}s"))
    items = [Item(*one) for one in zip(*columns, strict=True)]
    return Recommendation(project, key, own is not None and key != EVERYBODY, items[:count])
