"""Answers that several gateways share, in a Redis: small values that may be gone at any time."""

from __future__ import annotations

import os

from redis.asyncio import Redis

from components.adapters.redis_errors import plainly
from components.errors import ConfigError

PATIENCE = 0.02
"""Seconds for Redis to answer: a model does not take longer."""


class RedisAnswers:
    """Values by name.

    Args:
        variable: the environment variable that holds Redis' URL, with its password.
        seconds: that a value is kept.

    Raises:
        ConfigError: the variable holds no such URL.
    """

    def __init__(self, variable: str, seconds: int) -> None:
        url = os.environ.get(variable, "")
        self._seconds = seconds
        try:
            self._redis = Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=0.2, retry=None)
        except ValueError as error:
            raise ConfigError(
                f"the environment variable {variable} holds no URL of a Redis",
                accepted="redis://USER:PASSWORD@HOST:PORT/0, or rediss://",
            ) from error

    async def get(self, name: str) -> bytes | None:
        """A value; raises `UnavailableError` where Redis does not answer at once."""
        with plainly():
            value = await self._redis.get(name)
        return value.encode() if isinstance(value, str) else value

    async def put(self, name: str, value: bytes) -> None:
        """Keep a value; raises as `get`."""
        with plainly():
            await self._redis.set(name, value, ex=self._seconds)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()
