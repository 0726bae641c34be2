"""Features in a real Redis: the contract, a server that is away, and what a dead writer leaves."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

pytest.register_assert_rewrite("tests.contracts.feature_store")

from components.adapters.redis_features import LEFT, RedisFeatures  # noqa: E402  # all that follows comes after that line
from components.errors import ConfigError, UnavailableError  # noqa: E402
from components.ports import FeatureStore  # noqa: E402
from components.workspace import open_workspace  # noqa: E402
from tests.contracts.feature_store import FeatureStoreContract, pairs  # noqa: E402

Server = tuple[subprocess.Popen[bytes], str]


@pytest.fixture
def store(redis: Server, monkeypatch: pytest.MonkeyPatch) -> RedisFeatures:
    monkeypatch.setattr("components.adapters.redis_features.PATIENCE", 5.0)  # on a busy machine
    return RedisFeatures(redis[1], "the profile", "correct it")


class TestContract(FeatureStoreContract):
    @pytest.fixture
    def store(self, store: RedisFeatures) -> FeatureStore:
        return store


def test_what_a_dead_writer_leaves_goes(redis: Server, store: RedisFeatures) -> None:
    """Half a table is kept for an hour at most; a whole one for ever."""

    def broken() -> Iterator[tuple[bytes, bytes]]:
        yield from pairs(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write("small", "a", broken())
    server = Redis.from_url(redis[1])
    [part] = server.keys("trilha:online:small:a:*")
    assert 0 < server.ttl(part) <= LEFT
    store.write("small", "b", pairs(2))
    assert server.ttl("trilha:online:small:b") == -1


def test_away(redis: Server, store: RedisFeatures) -> None:
    """Every method says so, at once."""
    store.write("small", "a", pairs(1))
    redis[0].kill()
    redis[0].wait()
    for ask in (
        lambda: store.read("small", "a", [b"x"]),
        lambda: store.has("small", "a"),
        lambda: store.write("small", "b", pairs(1)),
        lambda: store.tables("small"),
        lambda: store.drop("small", "a"),
        lambda: asyncio.run(store.find("small", "a", [b"x"])),
    ):
        with pytest.raises(UnavailableError, match="Redis: .*next: see that it runs"):
            ask()


def test_no_url(repository: Path) -> None:
    """A variable that is not set is named."""
    profile = repository / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text() + "features: {redis_env: NOWHERE}\n")
    open_workspace.cache_clear()
    with pytest.raises(ConfigError, match="NOWHERE holds no URL of a Redis"):
        _ = open_workspace("test").features
