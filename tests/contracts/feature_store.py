"""What every store of features has to do. An adapter passes by inheriting `FeatureStoreContract` and giving `store`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from components.errors import GateError, NotFoundError
from components.ports import FeatureStore

MANY = 5_003
"""Entities, more than go into one command."""


def pairs(count: int = MANY) -> Iterator[tuple[bytes, bytes]]:
    for number in range(count):
        yield f'["ã{number}",{number}]'.encode(), b"\0value %d" % number


class FeatureStoreContract:
    """Tables are whole, or not there."""

    def test_what_is_written_is_read(self, store: FeatureStore) -> None:
        """In the order of the keys; None for those that are not there, and twice what is asked twice."""
        store.write("small", "a", pairs())
        held = dict(pairs())
        keys = [*held]
        for asked in ([keys[7], b'["nobody"]', keys[0], keys[7]], keys):
            expected = [held.get(key) for key in asked]
            assert store.read("small", "a", asked) == expected
            assert asyncio.run(self._found(store, asked)) == expected

    async def _found(self, store: FeatureStore, keys: list[bytes]) -> list[bytes | None]:
        try:
            return await store.find("small", "a", keys)
        finally:
            await store.close()

    def test_a_table_that_is_not_there(self, store: FeatureStore) -> None:
        """Is told from an entity that is not there, whoever asks."""
        assert not store.has("small", "a")
        with pytest.raises(NotFoundError):
            store.read("small", "a", [b"x"])
        with pytest.raises(NotFoundError):
            asyncio.run(self._found(store, [b"x"]))
        store.write("small", "a", [])
        assert store.has("small", "a")
        assert store.read("small", "a", [b"x"]) == [None]

    @pytest.mark.parametrize("again", [1, MANY])
    def test_one_row_a_key(self, store: FeatureStore, again: int) -> None:
        """A key that is there twice is refused by the table's name, wherever it comes again; nothing of it is seen."""
        twice = [*pairs(again), *pairs(1)]
        with pytest.raises(GateError, match="'small' repeat a key; accepted: one row a key"):
            store.write("small", "a", twice)
        assert (store.has("small", "a"), store.tables("small")) == (False, set())
        store.write("small", "a", pairs())
        assert store.has("small", "a")

    def test_half_a_table_is_none(self, store: FeatureStore) -> None:
        """What fails on the way is never seen, and does not stand in the way of the next one."""

        def broken() -> Iterator[tuple[bytes, bytes]]:
            yield from pairs(3_000)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.write("small", "a", broken())
        assert (store.has("small", "a"), store.tables("small")) == (False, set())
        store.write("small", "a", pairs(2))
        assert store.has("small", "a")

    def test_tables_of_a_project(self, store: FeatureStore) -> None:
        """Are listed and dropped by themselves; dropped twice is no error, written twice neither."""
        for project, table in (("small", "a"), ("small", "b"), ("other", "a"), ("small", "a")):
            store.write(project, table, pairs(3))
        assert (store.tables("small"), store.tables("other"), store.tables("none")) == ({"a", "b"}, {"a"}, set())
        assert 0 < store.size("small", "a") < 100_000
        assert store.size("small", "c") == 0
        store.read("small", "a", [b"x"])  # whatever is open then
        for _ in range(2):
            store.drop("small", "a")
        assert (store.tables("small"), store.tables("other")) == ({"b"}, {"a"})
        with pytest.raises(NotFoundError):
            store.read("small", "a", [b"x"])
        assert store.read("other", "a", [b"x"]) == [None]

    def test_a_name_means_one_table(self, store: FeatureStore) -> None:
        """None at first, then whichever it was pointed at last; other projects have names of their own."""
        assert store.pointed("small") is None
        for table in ("a", "b", "a", "b"):
            store.write("small", table, pairs(2))
            store.point("small", table)
            assert store.pointed("small") == table
        assert store.pointed("other") is None
        assert store.tables("small") == {"a", "b"}
