from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from components.adapters import kafka_stream
from components.adapters.kafka_stream import open_topic
from components.data_ports import Polled, Topic
from components.errors import ConfigError, UnavailableError
from tests.contracts.topic import TopicContract, numbered, read, values
from tests.kafka import Kafka

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kafka")]  # one broker for all of them


class TestKafkaTopic(TopicContract):
    @pytest.fixture
    def name(self, one_kafka: Kafka) -> str:
        name = f"t-{uuid.uuid4().hex[:8]}"
        one_kafka.make(name)
        return name

    @pytest.fixture
    def topic(self, one_kafka: Kafka, name: str) -> Iterator[Topic]:
        made = open_topic(one_kafka.url, name)
        yield made
        made.close()

    @pytest.fixture
    def another(self, one_kafka: Kafka, name: str) -> Iterator[Topic]:
        made = open_topic(one_kafka.url, name)
        yield made
        made.close()

    @pytest.fixture
    def nowhere(self, one_kafka: Kafka) -> Iterator[Topic]:
        made = open_topic(one_kafka.url, "nowhere")
        yield made
        made.close()

    @pytest.fixture
    def trim(self, one_kafka: Kafka, name: str, another: Topic) -> Callable[[int], None]:
        def delete(left: int) -> None:
            admin, end = one_kafka.admin, int(another.start("latest")["0"])
            admin.delete_records([TopicPartition(name, 0, end - left)])[TopicPartition(name, 0)].result(30)

        return delete

    @pytest.fixture
    def renew(self, one_kafka: Kafka, name: str) -> Callable[[], None]:
        def again() -> None:
            admin = one_kafka.admin
            admin.delete_topics([name])[name].result(30)
            time.sleep(0.5)
            one_kafka.make(name)

        return again

    def test_a_partition_that_is_added(
        self, one_kafka: Kafka, name: str, topic: Topic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is read from its first message on, without a restart."""
        monkeypatch.setattr(kafka_stream, "LOOK", 0.1)
        topic.seek(topic.start("earliest"), lost="stop")
        admin = one_kafka.admin
        admin.create_partitions([NewPartitions(name, 3)])[name].result(30)
        time.sleep(0.5)
        other: Any = open_topic(one_kafka.url, name)
        other.send(numbered(300))
        other.close()
        seen: list[Polled] = []
        read(topic, 300, seen.append)
        assert sorted(values(seen)) == numbered(300)
        assert set(seen[-1].next) == {"0", "1", "2"}


def test_a_url_that_is_not_accepted() -> None:
    """Settings of librdkafka beside the known ones are refused by name, and no password is shown."""
    with pytest.raises(ConfigError, match=r"the setting 'plugin\.library\.paths'") as caught:
        open_topic("kafka://me:secret@127.0.0.1:9/?plugin.library.paths=/x.so", "t")
    assert "secret" not in str(caught.value)


def test_brokers_that_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """One plain error, which is worth another attempt."""
    monkeypatch.setattr(kafka_stream, "PATIENCE", 0.5)
    topic = open_topic("kafka://127.0.0.1:9", "t")
    with pytest.raises(UnavailableError, match="Kafka, topic 't'"):
        topic.start("earliest")
    topic.close()
