"""What a topic has to hold to, whatever kind of server it is at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from components.data_ports import Polled, Topic
from components.errors import ConfigError, GateError, NotFoundError


class TopicContract:
    """Inherited with a fixture `topic`, an empty one, and `another`, a second client of it."""

    def test_messages_are_read_once_from_the_offsets_on(self, topic: Topic, another: Topic) -> None:
        """In the order in which they were sent, as far as the topic has one; the lag counts those that are left."""
        first = topic.start("earliest")
        topic.send(numbered(10))
        another.seek(first, lost="stop")
        assert another.lag(first) == 10
        seen: list[Polled] = []
        read(another, 10, seen.append)
        assert sorted(values(seen)) == numbered(10)
        assert another.lag(seen[-1].next) == 0
        assert not another.read(10, 0.2).values

    def test_any_offsets_are_a_place_to_go_on(self, topic: Topic, another: Topic) -> None:
        """Each `next` that was ever given: what was read before it and what is read after it are all there is."""
        topic.send(numbered(30))
        topic.seek(topic.start("earliest"), lost="stop")
        seen: list[Polled] = []
        read(topic, 30, seen.append, limit=7)
        for index, polled in enumerate(seen):
            after: list[Polled] = []
            another.seek(polled.next, lost="stop")
            read(another, 30 - len(values(seen[: index + 1])), after.append)
            assert sorted(values(seen[: index + 1]) + values(after)) == numbered(30)

    def test_the_latest(self, topic: Topic, another: Topic) -> None:
        """What was there before is not read."""
        topic.send([b"old"])
        topic.seek(topic.start("latest"), lost="stop")
        another.send([b"new"])
        seen: list[Polled] = []
        read(topic, 1, seen.append)
        assert values(seen) == [b"new"]

    def test_where_a_message_is(self, topic: Topic) -> None:
        """Partition and offset, no two alike."""
        topic.send(numbered(20))
        topic.seek(topic.start("earliest"), lost="stop")
        seen: list[Polled] = []
        read(topic, 20, seen.append)
        places = [polled.place(index) for polled in seen for index in range(len(polled.values))]
        assert len(set(places)) == 20

    def test_messages_that_are_gone(self, topic: Topic, another: Topic, trim: Callable[[int], None]) -> None:
        """Told, or passed over where that is said; those that were read before they went are no matter."""
        topic.send(numbered(10))
        begin = topic.start("earliest")
        topic.seek(begin, lost="stop")
        seen: list[Polled] = []
        read(topic, 10, seen.append)
        trim(4)
        topic.send([b"more"])
        read(topic, 1, seen.append)
        assert values(seen)[-1] == b"more"
        with pytest.raises(GateError, match="before they were read"):
            another.seek(begin, lost="stop")
        another.seek(begin, lost="continue")
        after: list[Polled] = []
        read(another, 5, after.append)
        assert sorted(values(after)) == sorted([*numbered(10)[6:], b"more"])

    def test_another_topic_of_the_same_name(self, topic: Topic, another: Topic, renew: Callable[[], None]) -> None:
        """One that was made anew has no messages of those offsets: it is told, not waited for."""
        topic.send(numbered(10))
        end = topic.start("latest")
        renew()
        topic.send([b"x"])
        with pytest.raises(GateError, match="before"):
            another.seek(end, lost="stop")

    def test_offsets_of_another_kind(self, topic: Topic) -> None:
        """They are refused."""
        topic.send([b"x"])
        with pytest.raises(ConfigError, match="which are not"):
            topic.seek({"elsewhere": "x"}, lost="stop")

    def test_no_such_topic(self, nowhere: Topic) -> None:
        """It is named."""
        with pytest.raises(NotFoundError, match="nowhere"):
            nowhere.start("earliest")


def numbered(count: int) -> list[bytes]:
    return [f"{number:04}".encode() for number in range(count)]


def values(seen: Sequence[Polled]) -> list[bytes]:
    return [value for polled in seen for value in polled.values if value is not None]


def read(topic: Topic, count: int, take: Callable[[Polled], None], limit: int = 1000) -> None:
    """Read until there are so many."""
    left = count
    for _ in range(100):
        if left <= 0:
            return
        polled = topic.read(min(limit, left), 0.2)
        if polled.values:
            take(polled)
            left -= len(polled.values)
    raise AssertionError(f"{left} of {count} messages did not come")
