"""Tables of what is known by entity, for all workers and gateways together: a hash each in a Redis.

trilha:online:PROJECT:TABLE     key of an entity -> what is known; the empty key says that the table is whole
trilha:online:PROJECT           the tables of a project
trilha:newest:PROJECT           the table that the project's name means
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from components.adapters.redis_errors import plainly
from components.errors import ConfigError, GateError, NotFoundError

if TYPE_CHECKING:
    from components.workspace import Workspace

PATIENCE: Final = 0.25
"""Seconds for Redis to answer a request that waits for it."""
WRITING: Final = 30.0
"""Seconds for it to take a batch."""
AT_ONCE: Final = 2_000
"""Entities in one command."""
DEEP: Final = 8
"""Commands in one pipeline."""
LEFT: Final = 3_600
"""Seconds until a table whose writer died goes by itself."""
NEWEST: Final = "trilha:newest:"
WHOLE: Final = b""
"""The key that says so: it is no entity's."""


def open_features(workspace: Workspace) -> RedisFeatures:
    """The Redis that the profile names."""
    variable = str(workspace.profile.features.redis_env)
    return RedisFeatures(
        os.environ.get(variable, ""),
        f"the environment variable {variable}",
        "set it, or take features.redis_env out of the profile",
    )


class RedisFeatures:
    """A `FeatureStore`.

    Args:
        url: Redis' URL, with its password.
        said: where that stands, for an error.
        mend: what to do where it is none.

    Raises:
        ConfigError: it is no such URL.
    """

    def __init__(self, url: str, said: str, mend: str) -> None:
        try:
            self._redis = Redis.from_url(url, socket_timeout=WRITING, socket_connect_timeout=2, retry=None)
            self._quick = AsyncRedis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=None)
        except ValueError as error:
            raise ConfigError(
                f"{said} holds no URL of a Redis",
                accepted="redis://USER:PASSWORD@HOST:PORT/0, or rediss://",
                next_step=mend,
            ) from error

    def has(self, project: str, table: str) -> bool:
        with plainly():
            return bool(self._redis.hexists(_name(project, table), WHOLE))

    def write(self, project: str, table: str, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        part = f"{_name(project, table)}:{uuid.uuid4().hex}"
        with plainly():
            self._redis.hset(part, WHOLE, b"1")
            self._redis.expire(part, LEFT)
            left, written, new = iter(pairs), 0, 0
            with self._redis.pipeline(transaction=False) as pipeline:
                while some := list(islice(left, AT_ONCE)):
                    pipeline.hset(part, items=[one for pair in some for one in pair])
                    written += len(some)
                    if len(pipeline) == DEEP:
                        new += sum(pipeline.execute())
                new += sum(pipeline.execute())
            if new < written:  # a key took the place of its like
                self._redis.unlink(part)
                raise GateError(
                    f"Redis: {written - new} rows of {project!r} repeat a key",
                    accepted="one row a key",
                    next_step="look at the query's joins",
                )
            with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.persist(part)
                pipeline.rename(part, _name(project, table))
                pipeline.sadd(_name(project), table)
                pipeline.execute()

    def read(self, project: str, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        with plainly():
            return _whole(self._redis.hmget(_name(project, table), [WHOLE, *keys]), table)

    async def find(self, project: str, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        with plainly():
            return _whole(await self._quick.hmget(_name(project, table), [WHOLE, *keys]), table)

    async def close(self) -> None:
        with plainly():
            await self._quick.aclose()

    def point(self, project: str, table: str) -> None:
        with plainly():
            self._redis.set(f"{NEWEST}{project}", table)

    def pointed(self, project: str) -> str | None:
        with plainly():
            found: Any = self._redis.get(f"{NEWEST}{project}")
            return found.decode() if found else None

    async def newest(self, project: str) -> str | None:
        with plainly():
            found: Any = await self._quick.get(f"{NEWEST}{project}")
            return found.decode() if found else None

    def tables(self, project: str) -> set[str]:
        with plainly():
            names: set[Any] = self._redis.smembers(_name(project))
            return {name.decode() for name in names}

    def size(self, project: str, table: str) -> int:
        with plainly():
            return int(self._redis.memory_usage(_name(project, table)) or 0)

    def drop(self, project: str, table: str) -> None:
        with plainly(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.unlink(_name(project, table))
            pipeline.srem(_name(project), table)
            pipeline.execute()


def _name(*parts: str) -> str:
    return ":".join(("trilha", "online", *parts))


def _whole(found: list[Any], table: str) -> list[bytes | None]:
    """The values behind the mark; without it, there is no table."""
    mark, *values = found
    if mark is None:
        raise NotFoundError(f"no table {table} in Redis")
    return values
