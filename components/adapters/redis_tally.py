"""What gateways on several machines count together, in a Redis."""

from __future__ import annotations

import os
from typing import Final

from redis import Redis

from components.adapters.redis_errors import plainly
from components.errors import ConfigError
from components.tally import KEPT, Rewards

_REWARD: Final = """
if not redis.call('set', KEYS[1], '1', 'nx', 'ex', ARGV[1]) then return 0 end
redis.call('hincrby', KEYS[2], ARGV[2] .. '.count', 1)
redis.call('hincrbyfloat', KEYS[2], ARGV[2] .. '.total', ARGV[3])
return 1
"""
"""In one step, so that a gateway that dies in between counts a reward wholly or not at all."""


class RedisTally:
    """Counts by project, under the profile's name.

    Args:
        variable: the environment variable that holds Redis' URL, with its password.
        profile: whose gateways count.

    Raises:
        ConfigError: the variable holds no such URL.
    """

    def __init__(self, variable: str, profile: str) -> None:
        self._prefix = f"trilha:tally:{profile}"
        try:
            self._redis = Redis.from_url(os.environ.get(variable, ""), socket_timeout=5, socket_connect_timeout=2)
        except ValueError as error:
            raise ConfigError(
                f"the environment variable {variable} holds no URL of a Redis",
                accepted="redis://USER:PASSWORD@HOST:PORT/0, or rediss://",
            ) from error
        self._reward = self._redis.register_script(_REWARD)

    def count(self, project: str, step: str, process: str, counts: bytes) -> None:
        name = f"{self._prefix}:counts:{project}:{step}"
        with plainly(), self._redis.pipeline() as both:
            both.hset(name, process, counts)
            both.expire(name, KEPT)
            both.execute()

    def counts(self, project: str, step: str) -> list[bytes]:
        with plainly():
            found: list[bytes] = list(self._redis.hvals(f"{self._prefix}:counts:{project}:{step}"))  # type: ignore[arg-type]  # the stub is of both its forms, this one and the asynchronous
        return found

    def reward(self, project: str, prediction: str, release: int, reward: float) -> bool:
        names = [f"{self._prefix}:rewarded:{project}:{prediction}", f"{self._prefix}:rewards:{project}"]
        with plainly():
            return bool(self._reward(keys=names, args=[KEPT, release, reward]))

    def rewards(self, project: str) -> dict[int, Rewards]:
        with plainly():
            found: dict[bytes, bytes] = self._redis.hgetall(f"{self._prefix}:rewards:{project}")  # type: ignore[assignment]  # as above
        counts = {name.decode(): float(value) for name, value in found.items()}
        releases = {int(name.partition(".")[0]) for name in counts}
        return {one: Rewards(int(counts[f"{one}.count"]), counts[f"{one}.total"]) for one in releases}
