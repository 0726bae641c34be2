"""Rows that leave out what is known of the entity they name: completed before the model is asked.

What completes a row is of the release that answers, by its manifest: features and model never mix. A request that names
all its columns never waits for the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from components.errors import NotFoundError, TrilhaError, UnavailableError
from components.gateway.problems import RETRY_SECONDS, Problem
from components.online import ensure, key_of, known
from components.predict import accepted

if TYPE_CHECKING:
    from components.gateway.catalogue import Door
    from components.records import OnlineTable
    from components.workspace import Workspace


class Lacking(NamedTuple):
    """A row that has to be completed: its place in the request, itself, and the key of its entity."""

    place: int
    row: Any
    key: bytes


class Gaps:
    """Finds and fills what typed rows of one release leave out.

    Args:
        table: the release's.
        fields: column -> its field in a typed row.
    """

    def __init__(self, table: OnlineTable, fields: Mapping[str, str]) -> None:
        self._table = table
        self._fields = [fields[name] for name in table.columns]
        self._entity = [(name, fields[name]) for name in table.entity]
        self._left_out = [attrgetter(field) for field in self._fields]

    def of(self, rows: Sequence[Any]) -> list[Lacking]:
        """The rows that lack a column.

        Raises:
            Problem: 422, one names no entity; says which column of it is missing.
        """
        return [
            Lacking(place, row, self._key(place, row))
            for place, row in enumerate(rows)
            if any(take(row) is msgspec.UNSET for take in self._left_out)
        ]

    def _key(self, place: int, row: Any) -> bytes:
        values = [getattr(row, field) for _, field in self._entity]
        for (name, _), value in zip(self._entity, values, strict=True):
            if value is msgspec.UNSET or value is None:
                lacking = self._lacking(row)[0]
                raise Problem(
                    422,
                    f"rows[{place}]: column {lacking!r} is missing, and so is {name!r}, by which it is known",
                    field=f"rows[{place}].{name}",
                    accepted=f'"{name}": {self._accepted(name)}; or "{lacking}"',
                )
        return key_of(values)

    def fill(self, lacking: Sequence[Lacking], found: Mapping[bytes, bytes | None]) -> None:
        """Complete rows; what a row says itself stays, null too.

        Raises:
            Problem: 422, nothing is known of the entity.
        """
        for place, row, key in lacking:
            value = found[key]
            if value is None:
                raise self._unknown(place, row)
            for field, one in zip(self._fields, known(value), strict=True):
                if getattr(row, field) is msgspec.UNSET:
                    setattr(row, field, one)

    def _unknown(self, place: int, row: Any) -> Problem:
        named = ", ".join(f"{name} {getattr(row, field)!r}" for name, field in self._entity)
        first = self._entity[0][0]
        return Problem(
            422,
            f"rows[{place}]: nothing is known of {named}",
            field=f"rows[{place}].{first}",
            accepted=f"an entity that was learned from; or {', '.join(self._lacking(row))} in the request",
        )

    def _lacking(self, row: Any) -> list[str]:
        columns = zip(self._table.columns, self._left_out, strict=True)
        return [name for name, take in columns if take(row) is msgspec.UNSET]

    def _accepted(self, name: str) -> str:
        return accepted(self._table.entity[name]).removesuffix(", or null")


class Completer:
    """Looks up what rows leave out.

    Args:
        workspace: its store of features.
        seconds: that a table may take to be put there, where the store has lost it.

    Raises:
        ConfigError: the store's settings are not accepted.
    """

    def __init__(self, workspace: Workspace, seconds: float) -> None:
        self._workspace = workspace
        self._store = workspace.features
        self._seconds = seconds
        self._placing: dict[str, asyncio.Task[None]] = {}

    async def complete(self, door: Door, rows: Sequence[Any]) -> None:
        """Fill what the typed rows of a request leave out.

        Raises:
            Problem: 422, a row names no entity, or one that nothing is known of; 503, the store is away.
        """
        gaps, table = door.signature.gaps, door.release.online
        lacking = gaps.of(rows) if gaps is not None else []
        if gaps is None or table is None or not lacking:
            return
        keys = list(dict.fromkeys(one.key for one in lacking))
        try:
            found = await self._find(door, table.digest, keys)
        except TrilhaError:
            columns = ", ".join(table.columns)
            raise Problem(
                503,
                f"what is known by {', '.join(table.entity)} cannot be looked up just now",
                accepted=f"{columns} in the request",
                retry_after=RETRY_SECONDS,
            ) from None
        gaps.fill(lacking, dict(zip(keys, found, strict=True)))

    async def close(self) -> None:
        """Let go of the store."""
        for task in self._placing.values():
            task.cancel()
        await self._store.close()

    async def _find(self, door: Door, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            return await self._store.find(door.project, table, keys)
        except NotFoundError:
            await self._place(door, table)
        return await self._store.find(door.project, table, keys)

    async def _place(self, door: Door, table: str) -> None:
        """Put the release's table into a store that has lost it, once for all who wait."""
        if table not in self._placing or self._placing[table].done():
            self._placing[table] = asyncio.create_task(asyncio.to_thread(ensure, self._workspace, door.release))
        try:
            async with asyncio.timeout(self._seconds):
                await asyncio.shield(self._placing[table])
        except TimeoutError:
            raise UnavailableError("the features are on their way") from None
