from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from components.adapters.redis_stream import open_topic
from components.data_ports import Topic
from components.errors import UnavailableError
from tests.contracts.topic import TopicContract

Server = tuple[subprocess.Popen[bytes], str]


def opened(url: str, topic: str) -> Iterator[Topic]:
    made = open_topic(url, topic)
    yield made
    made.close()


class TestRedisTopic(TopicContract):
    @pytest.fixture
    def topic(self, redis: Server) -> Iterator[Topic]:
        server = Redis.from_url(redis[1])
        server.xtrim("t", maxlen=0) if server.xadd("t", {"value": b"first"}) else None
        yield from opened(redis[1], "t")

    @pytest.fixture
    def another(self, redis: Server) -> Iterator[Topic]:
        yield from opened(redis[1], "t")

    @pytest.fixture
    def nowhere(self, redis: Server) -> Iterator[Topic]:
        yield from opened(redis[1], "nowhere")

    @pytest.fixture
    def trim(self, redis: Server) -> Callable[[int], None]:
        server = Redis.from_url(redis[1])
        return lambda left: server.xtrim("t", maxlen=left, approximate=False) and None

    @pytest.fixture
    def renew(self, redis: Server) -> Callable[[], None]:
        server = Redis.from_url(redis[1])
        return lambda: server.delete("t") and None

    def test_a_server_that_is_away(self, redis: Server, topic: Topic) -> None:
        """One plain error, which is worth another attempt."""
        topic.send([b"x"])
        redis[0].kill()
        redis[0].wait()
        with pytest.raises(UnavailableError, match="Redis"):
            topic.seek({"id": "0-0", "added": "0"}, lost="stop")

    def test_an_entry_without_the_field(self, redis: Server, topic: Topic) -> None:
        """It is a message without a body, not a gap."""
        topic.seek(topic.start("latest"), lost="stop")
        Redis.from_url(redis[1]).xadd("t", {"other": "x"})
        assert list(topic.read(10, 1).values) == [None]
