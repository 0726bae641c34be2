"""Features in SQLite files: the contract, and a folder that cannot be written to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.contracts.feature_store")

from components.adapters.sqlite_features import LEFT, SqliteFeatures  # noqa: E402  # all that follows comes after that line
from components.errors import UnavailableError  # noqa: E402
from components.ports import FeatureStore  # noqa: E402
from tests.contracts.feature_store import FeatureStoreContract, pairs  # noqa: E402


class TestContract(FeatureStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FeatureStore:
        return SqliteFeatures(tmp_path / "online")


def test_no_folder(tmp_path: Path) -> None:
    """What the system says is told, and what to look at."""
    (tmp_path / "online").write_text("a file")
    with pytest.raises(UnavailableError, match="the store of features: .*next: look at its folder"):
        SqliteFeatures(tmp_path / "online").write("small", "a", pairs(1))


def test_a_table_that_was_replaced(tmp_path: Path) -> None:
    """A file that was dropped and written again is read, however long the one before was open."""
    store = SqliteFeatures(tmp_path)
    store.write("small", "a", pairs(1))
    [(key, value)] = pairs(1)
    assert store.read("small", "a", [key]) == [value]
    other = SqliteFeatures(tmp_path)
    other.drop("small", "a")
    other.write("small", "a", pairs(2))
    assert store.read("small", "a", [key]) == [value]
    assert not list(tmp_path.rglob("*.part"))


def test_what_a_dead_writer_leaves_goes(tmp_path: Path) -> None:
    """After an hour, with the next table; what another writer is at stays."""
    folder = tmp_path / "small"
    folder.mkdir()
    for name, age in (("old", LEFT + 60), ("new", 60)):
        (folder / f".{name}.part").touch()
        os.utime(folder / f".{name}.part", (time.time() - age,) * 2)
    SqliteFeatures(tmp_path).write("small", "a", pairs(1))
    assert {path.name for path in folder.iterdir()} == {".new.part", "a.sqlite"}
