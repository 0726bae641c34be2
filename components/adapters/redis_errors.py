"""Redis' errors as ours, for all that speak to one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import RedisError

from components.errors import UnavailableError


@contextmanager
def plainly() -> Iterator[None]:
    """Turn whatever Redis' client raises inside into one line.

    Raises:
        UnavailableError: Redis does not answer, or not as it should.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        raise UnavailableError(f"Redis: {error or type(error).__name__}", next_step="see that it runs") from error
