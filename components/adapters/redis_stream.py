"""Redis Streams, for the small case: one partition, whose entries have an ID each.

The offsets are the ID of the last entry that was read, and how many entries had been added by then: so that entries
which were trimmed away unread are noticed, which Redis itself does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from redis import Redis
from redis.exceptions import ResponseError

from components.adapters.redis_errors import plainly
from components.data_ports import Polled
from components.errors import ConfigError, GateError, NotFoundError

VALUE: Final = b"value"
"""The field of an entry that is the message."""
PATIENCE: Final = 10.0
"""Seconds for Redis to answer, beyond what it may wait for messages."""
ID, ADDED = "id", "added"


def open_topic(url: str, topic: str) -> RedisTopic:
    """The stream at the key `topic` of the Redis at `url`."""
    return RedisTopic(url, topic)


class RedisTopic:
    """A `Topic` of one partition, `0`."""

    def __init__(self, url: str, topic: str) -> None:
        self._topic = topic
        self._last, self._added = "0-0", 0
        self._lost: Literal["continue", "stop"] = "stop"
        try:
            self._redis = Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=2, retry=None)
        except ValueError as error:
            raise ConfigError(
                f"the connection of stream {topic!r} has no URL of a Redis", accepted="redis://HOST:PORT/0, rediss://"
            ) from error

    def start(self, where: Literal["earliest", "latest"]) -> dict[str, str]:
        known = self._known()
        if known is None:
            raise NotFoundError(
                f"no stream {self._topic!r} in Redis",
                next_step="write a first entry: XADD, or trilha stream replay",
            )
        added, length, last = known
        return _offsets(last, added) if where == "latest" else _offsets("0-0", added - length)

    def seek(self, offsets: Mapping[str, str], *, lost: Literal["continue", "stop"]) -> None:
        if set(offsets) != {ID, ADDED}:
            raise ConfigError(
                f"the commits of topic {self._topic!r} have offsets {dict(offsets)}, which are not Redis'",
                accepted="the kind of server that the table was fed from before",
                next_step="give the topic another name, and it begins anew",
            )
        self._last, self._added, self._lost = offsets[ID], int(offsets[ADDED]), lost
        self._check(self._known())

    def read(self, limit: int, seconds: float) -> Polled:
        entries = self._next(limit)
        if not entries and seconds:
            with plainly():
                self._redis.xread({self._topic: self._last}, count=1, block=max(1, int(seconds * 1000)))
            entries = self._next(limit)
        if entries:
            self._last, self._added = entries[-1][0].decode(), self._added + len(entries)
        ids = [id_ for id_, _ in entries]
        return Polled(
            values=[(fields or {}).get(VALUE) for _, fields in entries],
            place=lambda index: ("0", ids[index].decode()),
            next=_offsets(self._last, self._added),
        )

    def _next(self, limit: int) -> list[Any]:
        """Entries that are there, and in the same moment a look at whether any before them are gone."""
        with plainly(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xinfo_stream(self._topic)
            pipeline.xread({self._topic: self._last}, count=limit)
            info, found = pipeline.execute(raise_on_error=False)
            if isinstance(found, Exception):
                raise found
        self._check(_known(info))
        return list(found[0][1]) if found else []

    def _check(self, known: tuple[int, int, str] | None) -> None:
        """Raise where what comes next is not there any more; count what is passed over."""
        if known is None or known[0] < self._added or _number(known[2]) < _number(self._last):
            raise GateError(
                f"stream {self._topic!r} has {known[0] if known else 0} entries, and {self._added} were read of "
                "the one before",
                accepted="the stream that the table was fed from",
                next_step="bring it back from Redis' own copy, or name another `topic` in project.yaml",
            )
        gone = known[0] - known[1] - self._added
        if gone > 0 and self._lost == "stop":
            raise GateError(
                f"{gone:,} entries of stream {self._topic!r} were trimmed away before they were read",
                accepted=f"all entries after {self._last}",
                next_step="trim later (XADD ... MAXLEN); `lost: continue` in project.yaml goes on without them",
            )
        self._added += max(0, gone)

    def lag(self, offsets: Mapping[str, str]) -> int:
        known = self._known()
        return max(0, known[0] - int(offsets[ADDED])) if known else 0

    def send(self, values: Sequence[bytes]) -> None:
        with plainly(), self._redis.pipeline(transaction=False) as pipeline:
            for value in values:
                pipeline.xadd(self._topic, {VALUE: value})
            pipeline.execute()

    def close(self) -> None:
        self._redis.close()

    def _known(self) -> tuple[int, int, str] | None:
        with plainly():
            try:
                return _known(self._redis.xinfo_stream(self._topic))
            except ResponseError as error:
                if "no such key" not in str(error):
                    raise
                return None


def _known(info: Any) -> tuple[int, int, str] | None:
    """Entries added so far, entries that are there, and the last one's ID; None where there is no such stream."""
    if isinstance(info, Exception):
        return None
    return info["entries-added"], info["length"], info["last-generated-id"].decode()


def _offsets(last: str, added: int) -> dict[str, str]:
    return {ID: last, ADDED: str(added)}


def _number(id_: str) -> tuple[int, int]:
    first, _, second = id_.partition("-")
    return int(first), int(second)
