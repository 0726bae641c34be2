"""Rows of several requests in one question to Triton, where they wait anyway.

A request that finds a free lane to its release goes at once. Others wait until a question is answered, and then go
together: few clients wait for nobody, many share what a question costs. How many rows go together follows the latency
that the profile aims at: a question that took longer takes a tenth off, one that did not adds a few (additive increase,
multiplicative decrease, as in Clipper: Crankshaw et al., NSDI 2017). A request with as many rows goes by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from components.adapters.triton_config import MAX_ROWS
from components.adapters.triton_http import Reply
from components.errors import UnavailableError
from components.gateway.requests import TRACE

if TYPE_CHECKING:
    from components.gateway.catalogue import Door
    from components.gateway.wire import Columns
    from components.profile import GatewayGather

FIRST: Final = 32
LEAST: Final = 4
"""Rows of a question, to begin with and at least."""
MORE: Final = 4
LESS: Final = 0.9
QUEUE: Final = 1024
"""Requests that wait for one release, at most."""

Post = Callable[["Door", int | None, bytes], Awaitable[Reply]]


class Batches:
    """Gathers typed requests.

    Args:
        post: asks Triton.
        settings: lanes, and the latency that is aimed at.
    """

    def __init__(self, post: Post, settings: GatewayGather) -> None:
        self._post = post
        self._settings = settings
        self._lanes: dict[str, _Lane] = {}

    async def ask(self, door: Door, header: int | None, body: bytes, columns: Columns, seconds: float) -> Reply:
        """The answer to one request, which is `header` and `body` by itself; raises what `post` raises.

        Raises:
            UnavailableError: too many wait already.
            TimeoutError: it went with others, and was not answered within `seconds`.
        """
        lane = self._lanes.get(door.model)
        if lane is None:
            lane = self._lanes[door.model] = _Lane()
        if len(columns[0]) >= lane.rows:
            return await self._post(door, header, body)
        if lane.under_way < self._settings.lanes:
            lane.under_way += 1
            try:
                return await self._post(door, header, body)
            finally:
                self._next(door, lane)
        if len(lane.waiting) >= QUEUE:
            raise UnavailableError("too many requests wait for the model")
        turn: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        lane.waiting.append((columns, turn))
        async with asyncio.timeout(seconds):
            return await turn

    def _next(self, door: Door, lane: _Lane) -> None:
        """A question ended: those who wait go together, as many as may."""
        lane.under_way -= 1
        taken: list[tuple[Columns, asyncio.Future[Reply]]] = []
        rows = 0
        while lane.waiting:
            columns, turn = lane.waiting[0]
            if taken and rows + len(columns[0]) > lane.rows:
                break
            lane.waiting.popleft()
            if not turn.done():
                taken.append((columns, turn))
                rows += len(columns[0])
        if taken:
            lane.under_way += 1
            lane.tasks.add(task := asyncio.get_running_loop().create_task(self._together(door, lane, taken)))
            task.add_done_callback(lane.tasks.discard)
        elif not lane.under_way:
            self._lanes.pop(door.model, None)

    async def _together(self, door: Door, lane: _Lane, taken: list[tuple[Columns, asyncio.Future[Reply]]]) -> None:
        begun = time.perf_counter()
        TRACE.set("")  # a question of several requests is part of no trace
        try:
            whole = [
                [value for part in parts for value in part] for parts in zip(*(one for one, _ in taken), strict=True)
            ]
            reply = await self._post(door, *door.signature.writer.write(whole))
            late = time.perf_counter() - begun > self._settings.seconds
            lane.rows = max(LEAST, int(lane.rows * LESS)) if late else min(MAX_ROWS, lane.rows + MORE)
            for (_, turn), part in zip(taken, _parts(door, reply, [len(one[0]) for one, _ in taken]), strict=True):
                if not turn.done():
                    turn.set_result(part)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is everybody's
            for _, turn in taken:
                if not turn.done():
                    turn.set_exception(error)
        finally:
            self._next(door, lane)


class _Lane:
    """What is on its way to one release, and what waits."""

    def __init__(self) -> None:
        self.under_way = 0
        self.rows = FIRST
        self.waiting: deque[tuple[Columns, asyncio.Future[Reply]]] = deque()
        self.tasks: set[asyncio.Task[None]] = set()


def _parts(door: Door, reply: Reply, counts: list[int]) -> list[Reply]:
    """Each request's part of an answer; a refusal is the same for all, since their values were checked before."""
    if reply.status != 200 or len(counts) == 1:
        return [reply] * len(counts)
    reader = door.signature.reader
    columns = reader.read(reply.header, reply.body)
    parts, begin = [], 0
    for count in counts:
        header, body = reader.write([column[begin : begin + count] for column in columns])
        parts.append(Reply(200, body, header, reply.content_type))
        begin += count
    return parts
