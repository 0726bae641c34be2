"""Answers that are remembered: the same as before, never another release's, with or without Redis."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.adapters.triton_http import Reply
from components.errors import ConfigError
from components.gateway import cache as module
from components.gateway.cache import Cache
from components.gateway.catalogue import Door
from components.gateway.metrics import Metrics
from components.profile import GatewayCache
from components.records import Release
from tests.components.gateway.conftest import PROJECT, ROW, Running, Start, until
from tests.components.gateway.test_releases import another
from tests.components.gateway.test_v2 import binary, plain
from tests.triton import fit

pytestmark = pytest.mark.xdist_group("gateway")


def found(running: Running) -> dict[str, float]:
    """Where answers were found."""
    for family in text_string_to_metric_families(running.client.get("/metrics").text):
        if family.name == "trilha_gateway_cache":
            return {one.labels["found"]: one.value for one in family.samples if one.name.endswith("_total")}
    return {}


def test_the_same_again(start: Start) -> None:
    """The answer is the same, its receipt is its own, and Triton is not asked."""
    running = start(cache={})
    first, second = running.predict(ROW).json(), running.predict(ROW).json()
    assert first["answers"] == second["answers"]
    assert first["receipt"] != second["receipt"]
    assert found(running) == {"miss": 1, "memory": 1}
    running.predict({**ROW, "wind": 4})
    assert found(running)["miss"] == 2


def test_every_way_of_asking(start: Start) -> None:
    """V2 is remembered as it came, with its header's length; TensorFlow Serving's is the same tensors as typed JSON."""
    running = start(cache={})
    headers, body = binary([ROW])
    path = f"/v2/models/{PROJECT}/infer"
    answers = [running.client.post(path, content=body, headers=headers) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert (
        answers[0].headers["Inference-Header-Content-Length"] == answers[1].headers["Inference-Header-Content-Length"]
    )
    texts = [running.client.post(path, json=plain([ROW])).text for _ in range(2)]
    assert texts[0] == texts[1]
    running.predict(ROW)
    running.client.post(f"/v1/models/{PROJECT}:predict", json={"instances": [ROW]})
    assert found(running) == {"miss": 3, "memory": 3}


def test_another_release_has_its_own_answers(start: Start, tmp_path: Path) -> None:
    """What one release said is never another's answer."""
    running = start(cache={})
    before = running.predict(ROW).json()
    another(running.workspace, fit(tmp_path, seed=21, scale=2.0))
    until(lambda: running.predict(ROW).json()["release"] == 2)
    assert running.predict(ROW).json()["answers"] != before["answers"]


def test_refusals_are_not_remembered(start: Start) -> None:
    """A request that Triton refuses is asked again."""
    running = start(cache={})
    body = plain([ROW])
    body["inputs"][0]["datatype"] = "FP32"
    for _ in range(2):
        assert running.client.post(f"/v2/models/{PROJECT}/infer", json=body).status_code == 400
    assert found(running) == {"miss": 2}


def test_room(behind: Release) -> None:
    """It holds as many bytes as it may; what was asked longest ago goes first."""
    door, metrics = Door(behind), Metrics()
    cache = Cache(GatewayCache(bytes=10 * (module.OVERHEAD + 200)), metrics)
    for number in range(30):
        cache.put(door, None, b"%0100d" % number, Reply(200, b"x" * 100, None, b"application/json"))
    held = [asyncio.run(cache.get(door, None, b"%0100d" % number)) is not None for number in range(30)]
    assert held == [False] * 20 + [True] * 10
    cache.put(door, None, b"y" * (module.LARGEST + 1), Reply(200, b"x", None, b""))
    assert asyncio.run(cache.get(door, None, b"y" * (module.LARGEST + 1))) is None


def test_redis_is_shared(start: Start, redis: tuple[object, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What one gateway was answered, another one finds."""
    monkeypatch.setattr("components.adapters.redis_answers.PATIENCE", 1.0)  # on a busy machine
    monkeypatch.setenv("CACHE_URL", redis[1])
    one, other = (start(cache={"redis_env": "CACHE_URL"}) for _ in range(2))
    before = one.predict(ROW).json()["answers"]
    time.sleep(0.3)
    assert other.predict(ROW).json()["answers"] == before
    assert found(other) == {"redis": 1}


def test_redis_is_gone(
    start: Start, redis: tuple[subprocess.Popen[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are answered as if there were none, from the first on, and not slowed down."""
    monkeypatch.setenv("CACHE_URL", redis[1])
    running = start(cache={"redis_env": "CACHE_URL"})
    assert running.predict(ROW).status_code == 200
    redis[0].kill()
    redis[0].wait()
    begun = time.monotonic()
    assert {running.predict({**ROW, "wind": number}).status_code for number in range(50, 70)} == {200}
    assert time.monotonic() - begun < 20  # a look at it by each would take twice that
    assert found(running)["miss"] == 21


def test_nonsense_in_redis(start: Start, redis: tuple[object, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is no answer is none."""
    from redis import Redis

    monkeypatch.setattr("components.adapters.redis_answers.PATIENCE", 1.0)
    monkeypatch.setenv("CACHE_URL", redis[1])
    one = start(cache={"redis_env": "CACHE_URL"})
    one.predict(ROW)
    time.sleep(0.3)
    server = Redis.from_url(redis[1])
    for name in server.keys("trilha:*"):
        server.set(name, b"nonsense")
    assert start(cache={"redis_env": "CACHE_URL"}).predict(ROW).status_code == 200


def test_url_that_is_none(start: Start) -> None:
    """A variable that is not set stops the start."""
    with pytest.raises(ConfigError, match="NOWHERE holds no URL"):
        start(cache={"redis_env": "NOWHERE"})
