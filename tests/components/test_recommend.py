"""The best of a night for a household: at the command line's side and over HTTP, and for households that nobody knows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from redis import Redis

from components.errors import ConfigError, NotFoundError, UnavailableError
from components.gateway.app import Gateway
from components.ranking import measured
from components.recommend import Reader, recommend, table_of
from components.sinks import TableSink
from components.workspace import Workspace, open_workspace
from flows.execute import execute, scoring_of
from tests.flights import flights, place_flights, released
from tests.triton import Fitted

RANK = "  rank: {by: origin, item: flight, best: 5}\n  sinks: {readers: {kind: online}}\n"


@pytest.fixture
def ranked(repository: Path, workspace: Workspace, fitted: Fitted) -> Workspace:
    """A night of the best flights of each airport."""
    place_flights(repository, RANK)
    released(workspace, fitted)
    night()
    return workspace


def night() -> None:
    execute(scoring_of("flights", "test"), project="flights", profile="test", engine="local")


def test_known_and_unknown(ranked: Workspace) -> None:
    """Its own best in their order, or everybody's; never more than are there."""
    own = recommend(ranked, "flights", "JFK", 3)
    origin = dict(zip(flights()["flight"].to_pylist(), flights()["origin"].to_pylist(), strict=True))
    assert own.known
    assert [origin[one.item] for one in own.items] == ["JFK"] * 3
    assert [one.score for one in own.items] == sorted((one.score for one in own.items), reverse=True)
    assert own.items[0].receipt.startswith("flights-1-")
    strange = recommend(ranked, "flights", "ORD", 100)
    assert (strange.known, len(strange.items)) == (False, 5)
    assert recommend(ranked, "flights", "", 5) == recommend(ranked, "flights", "", 5)
    assert not recommend(ranked, "flights", "", 5).known
    assert asyncio.run(Reader(ranked.features, "flights").recommend("JFK", 3)) == own


def test_nothing_to_recommend(repository: Path, workspace: Workspace, fitted: Fitted) -> None:
    """A project that ranks nothing, and one whose first night is still to come."""
    place_flights(repository)
    with pytest.raises(ConfigError, match="recommends nothing"):
        recommend(workspace, "flights", "JFK", 3)
    path = repository / "config" / "projects" / "flights" / "project.yaml"
    path.write_text(path.read_text() + RANK)
    with pytest.raises(NotFoundError, match="next: trilha score flights"):
        recommend(workspace, "flights", "JFK", 3)


def test_a_night_that_is_gone(ranked: Workspace) -> None:
    """A service that took it for the newest a moment ago looks again."""
    store, table = ranked.features, table_of("flights")
    reader = Reader(store, "flights")

    async def ask() -> None:
        before = await reader.recommend("JFK", 5)
        (batch,) = (pa.record_batch({"origin": [""], "items": [["x"]], "scores": [[1.0]], "receipts": [["r"]]}),)
        for name in ("a", "b"):
            TableSink(store, "").write("flights_best", name * 64, batch.schema, [batch])
        after = await reader.recommend("JFK", 5)
        assert (before.known, [one.item for one in after.items], after.known) == (True, ["x"], False)

    asyncio.run(ask())
    assert store.tables(table) == {"a" * 64, "b" * 64}


def test_over_http(ranked: Workspace) -> None:
    """The same answer, and every refusal by its status; the model server is away, and nobody misses it."""

    async def ask() -> list[httpx.Response]:
        gateway = Gateway(ranked, ["flights"])
        await gateway.catalogue.look(anyway=True)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://test")
        paths = ("JFK?count=3", "JF%4B?count=3", "ORD", "JFK?count=0", "JFK?count=x", "JFK?top=1", "a" * 201)
        try:
            found = [await client.get(f"/v1/projects/flights/recommendations/{path}") for path in paths]
            found.append(await client.post("/v1/projects/flights/recommendations/JFK"))
            found.append(await client.get("/v1/projects/nobody/recommendations/JFK"))
            return found
        finally:
            await client.aclose()

    first, same, strange, *refused = asyncio.run(ask())
    own = recommend(ranked, "flights", "JFK", 3)
    assert first.json() == same.json()
    assert [one["item"] for one in first.json()["items"]] == [one.item for one in own.items]
    assert (first.json()["known"], strange.json()["known"], len(strange.json()["items"])) == (True, False, 5)
    assert [one.status_code for one in refused] == [422, 422, 422, 422, 405, 404]


def test_redis_goes_half_way(
    ranked: Workspace, redis: tuple[object, str], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night that is written and not yet pointed at is not seen; the next delivery ends it."""
    profile = repository / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text() + "features: {redis_env: FEATURES}\n")
    monkeypatch.setenv("FEATURES", redis[1])
    open_workspace.cache_clear()
    night()
    there = open_workspace("test")
    before = recommend(there, "flights", "JFK", 5)
    features = repository / "config" / "projects" / "flights" / "project.yaml"
    features.write_text(features.read_text().replace("best: 5", "best: 4"))

    def gone(*_: object) -> None:
        raise UnavailableError("Redis: gone")

    with monkeypatch.context() as patch:
        patch.setattr("components.adapters.redis_features.RedisFeatures.point", gone)
        with pytest.raises(UnavailableError, match="gone"):
            night()
    assert recommend(there, "flights", "JFK", 5) == before
    night()
    assert len(recommend(there, "flights", "JFK", 5).items) == 4
    names = {name.decode() for name in Redis.from_url(redis[1]).scan_iter("trilha:online:nights.*:*")}
    assert len(names) == 2
    assert TableSink(there.features, "").holds("flights_best", str(there.features.pointed(table_of("flights"))))


def test_how_good_a_ranking_is() -> None:
    """By hand: two households, two shown of three each; one finds both that it wants, the other one of two, second."""
    rows = pd.DataFrame(
        {
            "who": [1, 1, 1, 2, 2, 2],
            "what": [10, 11, 12, 10, 11, 13],
            "hit": [1, 1, 0, 0, 1, 0],
            "all": [2, 2, 2, 5, 5, 5],
        }
    )
    scores = np.array([0.9, 0.8, 0.1, 0.9, 0.8, 0.1])
    found = measured(rows, scores, by="who", item="what", hit="hit", wanted="all", best=2)
    second = 1 / np.log2(3)
    assert found["hit_rate"] == 1
    assert found["ndcg"] == pytest.approx((1 + second / (1 + second)) / 2)
    assert found["coverage"] == 0.5
    worst = measured(rows, -scores, by="who", item="what", hit="hit", wanted="all", best=1)
    assert (worst["hit_rate"], worst["ndcg"]) == (0, 0)
