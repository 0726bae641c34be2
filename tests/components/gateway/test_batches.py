"""Requests that wait anyway go together: each gets its own answer, and one's trouble is told to all that it is theirs."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.adapters.triton_http import Reply
from components.errors import UnavailableError
from components.gateway import batches as module
from components.gateway import wire
from components.gateway.batches import Batches
from components.gateway.catalogue import Door
from components.profile import GatewayGather
from components.records import Release
from tests.components.gateway.conftest import Running
from tests.triton import FEATURES, Fitted

pytestmark = pytest.mark.xdist_group("gateway")


class Slow:
    """Triton, when it is asked to wait; its answers name the rows that were asked."""

    def __init__(self) -> None:
        self.questions: list[list[float]] = []
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def post(self, door: Door, header: int | None, body: bytes) -> Reply:
        distances = wire.read_request(header, body)["distance"]
        self.questions.append(distances)
        await self.go_on.wait()
        await asyncio.sleep(0.001)
        if self.error:
            raise self.error
        length, whole = door.signature.reader.write([distances, [int(one) for one in distances]])
        return Reply(200, whole, length, b"")


def columns(*distances: float) -> list[list[Any]]:
    count = len(distances)
    return [list(distances) if name == "distance" else [None] * count for name in FEATURES]


async def ask(batches: Batches, door: Door, *distances: float) -> list[float]:
    asked = columns(*distances)
    reply = await batches.ask(door, *door.signature.writer.write(asked), asked, 10.0)
    return door.signature.reader.read(reply.header, reply.body)[0]


def test_each_gets_its_own(behind: Release) -> None:
    """The first go at once and by themselves, those behind together; answers are handed out by their rows."""

    async def main() -> None:
        door, triton = Door(behind), Slow()
        batches = Batches(triton.post, GatewayGather())
        asked = [(1.0,), (2.0,), (3.0, 4.0), (5.0,), (6.0, 7.0, 8.0)]
        tasks = [asyncio.create_task(ask(batches, door, *one)) for one in asked]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(ask(batches, door, 9.0)))
        await asyncio.sleep(0.01)
        tasks[3].cancel()  # whose client is gone
        triton.go_on.set()
        said = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in said if isinstance(one, list)] == [[1.0], [2.0], [3.0, 4.0], [6.0, 7.0, 8.0], [9.0]]
        assert triton.questions == [[1.0], [2.0], [3.0, 4.0, 6.0, 7.0, 8.0, 9.0]]
        assert not batches._lanes

    asyncio.run(main())


def test_trouble_is_everybody_s(behind: Release) -> None:
    """A question that fails fails for those in it; the next one is asked."""

    async def main() -> None:
        door, triton = Door(behind), Slow()
        batches = Batches(triton.post, GatewayGather(lanes=1))
        tasks = [asyncio.create_task(ask(batches, door, float(one))) for one in range(4)]
        await asyncio.sleep(0.01)
        triton.error = UnavailableError("away")
        triton.go_on.set()
        said = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, UnavailableError) for one in said)
        triton.error = None
        assert await ask(batches, door, 5.0) == [5.0]

    asyncio.run(main())


def test_rows_follow_the_latency(behind: Release) -> None:
    """Questions that take too long become smaller, down to a few rows; those that do not become larger."""

    async def sizes(seconds: float) -> list[int]:
        door, triton = Door(behind), Slow()
        triton.go_on.set()
        batches = Batches(triton.post, GatewayGather(lanes=1, seconds=seconds))
        await asyncio.gather(*(ask(batches, door, float(one)) for one in range(1000)))
        return [len(one) for one in triton.questions[1:-1]]

    quick, slow = asyncio.run(sizes(60.0)), asyncio.run(sizes(1e-9))
    assert quick[0] == module.FIRST
    assert quick == sorted(quick)
    assert slow[-1] == module.LEAST


def test_many_rows_and_long_queues(behind: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is a batch already waits for no other; a queue has an end."""
    monkeypatch.setattr(module, "QUEUE", 2)

    async def main() -> None:
        door, triton = Door(behind), Slow()
        batches = Batches(triton.post, GatewayGather(lanes=1))
        small = [asyncio.create_task(ask(batches, door, float(one))) for one in range(3)]
        large = asyncio.create_task(ask(batches, door, *map(float, range(100))))
        await asyncio.sleep(0.01)
        assert len(triton.questions) == 2
        with pytest.raises(UnavailableError, match="too many"):
            await ask(batches, door, 5.0)
        triton.go_on.set()
        assert [len(one) for one in await asyncio.gather(*small, large)] == [1, 1, 1, 100]

    asyncio.run(main())


def test_many_clients_get_the_notebook_s_answers(gateway: Running, fitted: Fitted) -> None:
    """Asked by 16 clients at once, each row gets the answer that the notebook gave."""
    rows = pq.read_table(fitted.test).select(list(FEATURES)).to_pylist()
    expected = pq.read_table(fitted.predictions)["probability"].to_pylist()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda row: gateway.predict(row).json(), rows))
    pairs = zip(answers, expected, strict=True)
    assert max(abs(one["answers"][0]["probability"] - value) for one, value in pairs) < 1e-6
    assert len({one["receipt"] for one in answers}) == len(rows)
