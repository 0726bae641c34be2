"""Answers that were given before: a bundle says the same of the same tensors, so its digest and they are the key.

In this process first, and in Redis where the profile names one, for all gateways together. A Redis that fails or is
slow is left alone for some seconds; nobody waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from components.adapters.triton_http import Reply
from components.errors import UnavailableError

if TYPE_CHECKING:
    from components.adapters.redis_answers import RedisAnswers
    from components.gateway.catalogue import Door
    from components.gateway.metrics import Metrics
    from components.profile import GatewayCache

LARGEST: Final = 65_536
"""Bytes of a request that is remembered: a larger one does not come again."""
OVERHEAD: Final = 400
"""Bytes that an entry takes beside its texts."""
REST: Final = 5.0
"""Seconds that a Redis which failed is left alone."""
WRITING: Final = 64
"""Answers on their way to Redis at a time, at most; others are not remembered there."""

Key = tuple[str, int | None, bytes]


class Cache:
    """Remembers answers.

    Args:
        settings: how much, and where else.
        metrics: are told of hits and misses.

    Raises:
        ConfigError: the variable that is to hold Redis' URL does not.
    """

    def __init__(self, settings: GatewayCache, metrics: Metrics) -> None:
        self._left = settings.bytes
        self._known: OrderedDict[Key, Reply] = OrderedDict()
        self._metrics = metrics
        self._writing: set[asyncio.Task[None]] = set()
        self._rests_until = 0.0
        self._shared = _shared(settings)

    async def get(self, door: Door, header: int | None, body: bytes) -> Reply | None:
        """The answer that was given before."""
        if len(body) > LARGEST:
            return None
        key = (door.release.bundle.digest, header, body)
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
            self._metrics.cached("memory")
            return found
        found = await self._ask(self._shared, key) if self._shared else None
        self._metrics.cached("miss" if found is None else "redis")
        if found is not None:
            self._remember(key, found)
        return found

    def put(self, door: Door, header: int | None, body: bytes, reply: Reply) -> None:
        """Remember an answer."""
        if len(body) > LARGEST or len(reply.body) > LARGEST:
            return
        key = (door.release.bundle.digest, header, body)
        self._remember(key, reply)
        if self._shared and len(self._writing) < WRITING and time.monotonic() >= self._rests_until:
            task = asyncio.get_running_loop().create_task(self._tell(self._shared, key, reply))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        """Let go of Redis."""
        if self._shared:
            await asyncio.gather(*self._writing)
            await self._shared.close()

    def _remember(self, key: Key, reply: Reply) -> None:
        before = self._known.pop(key, None)
        self._left += 0 if before is None else _size(key, before)
        self._known[key] = reply
        self._left -= _size(key, reply)
        while self._left < 0:
            self._left += _size(*self._known.popitem(last=False))

    # --- Redis --------------------------------------------------------------------------------------------------------

    async def _ask(self, shared: RedisAnswers, key: Key) -> Reply | None:
        if time.monotonic() < self._rests_until:
            return None
        try:
            value = await shared.get(_name(key))
        except UnavailableError as error:
            self._rest(error)
            return None
        return _unpacked(value) if value else None

    async def _tell(self, shared: RedisAnswers, key: Key, reply: Reply) -> None:
        try:
            await shared.put(_name(key), _packed(reply))
        except UnavailableError as error:
            self._rest(error)

    def _rest(self, error: UnavailableError) -> None:
        if time.monotonic() >= self._rests_until:
            self._rests_until = time.monotonic() + REST
            print(f"left alone for {REST:g} s: {error}", file=sys.stderr, flush=True)  # noqa: T201  # the log


def _shared(settings: GatewayCache) -> RedisAnswers | None:
    if settings.redis_env is None:
        return None
    from components.adapters.redis_answers import RedisAnswers

    return RedisAnswers(settings.redis_env, settings.seconds)


def _size(key: Key, reply: Reply) -> int:
    return len(key[2]) + len(reply.body) + OVERHEAD


def _name(key: Key) -> str:
    digest, header, body = key
    return f"trilha:{digest}:{hashlib.sha256(b'%d:' % (-1 if header is None else header) + body).hexdigest()}"


def _packed(reply: Reply) -> bytes:
    return b"%d\n%s\n%s" % (-1 if reply.header is None else reply.header, reply.content_type, reply.body)


def _unpacked(value: bytes) -> Reply | None:
    """An answer out of Redis; None for what is none."""
    header, _, rest = value.partition(b"\n")
    kind, found, body = rest.partition(b"\n")
    if not found or not header.removeprefix(b"-").isdigit():
        return None
    length = int(header)
    return Reply(200, body, None if length < 0 else length, kind)
