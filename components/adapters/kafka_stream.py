"""Topics of Kafka, through librdkafka. Offsets are partition -> the next message's; none is ever left at the server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from components.data_ports import Polled
from components.errors import ConfigError, GateError, NotFoundError, UnavailableError

PATIENCE: Final = 10.0
"""Seconds for the brokers to answer a question."""
LOOK: Final = 30.0
"""Seconds between two looks for partitions that were added."""
HELD: Final = 16_384
"""KiB of messages that librdkafka fetches ahead."""
SETTINGS: Final = ("sasl.mechanism", "security.protocol", "ssl.ca.location")
"""What a URL may say beside the brokers and who we are: librdkafka's own names."""
GONE: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001  # its names for local errors
NO_TOPIC: Final = (KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART)  # noqa: SLF001


def open_topic(url: str, topic: str) -> KafkaTopic:
    """The topic `topic` at the brokers of `url`: `kafka://[USER:PASSWORD@]HOST:PORT[,HOST:PORT][?SETTING=VALUE]`."""
    return KafkaTopic(_settings(url, topic), topic)


def _settings(url: str, topic: str) -> dict[str, Any]:
    place, _, query = url.partition("://")[2].partition("?")
    who, _, brokers = place.rstrip("/").rpartition("@")
    said = dict(parse_qsl(query))
    odd = sorted(said.keys() - set(SETTINGS))
    if odd or not brokers:
        raise ConfigError(
            f"the URL of topic {topic!r} has {f'the setting {odd[0]!r}' if odd else 'no broker'}",
            accepted=f"kafka://HOST:PORT, and {', '.join(SETTINGS)} behind a `?`",
            next_step="correct the connection in the profile, or the variable that it names",
        )
    if who:
        user, _, password = who.partition(":")
        said = {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"} | said
        said |= {"sasl.username": unquote(user), "sasl.password": unquote(password)}
    return {"bootstrap.servers": brokers, "allow.auto.create.topics": "false", **said}


class KafkaTopic:
    """A `Topic`; it is nobody's group: where to go on is known elsewhere."""

    def __init__(self, settings: dict[str, Any], topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._next: dict[str, str] = {}
        self._lost: Literal["continue", "stop"] = "stop"
        self._looked = time.monotonic()
        self._reads: Consumer | None = None
        self._sends: Producer | None = None
        self._asks = self._consumer()

    def start(self, where: Literal["earliest", "latest"]) -> dict[str, str]:
        bounds = {partition: self._bounds(partition) for partition in self._partitions()}
        return {str(partition): str(bound[where == "latest"]) for partition, bound in sorted(bounds.items())}

    def seek(self, offsets: Mapping[str, str], *, lost: Literal["continue", "stop"]) -> None:
        if not all(partition.isdecimal() for partition in offsets):
            raise ConfigError(
                f"the commits of topic {self._topic!r} have offsets {dict(offsets)}, which are not Kafka's",
                accepted="the kind of server that the table was fed from before",
                next_step="give the topic another name, and it begins anew",
            )
        self._lost, self._next = lost, dict(offsets)
        self._assign()

    def _assign(self) -> None:
        """Read every partition from where it stands; one that is new, from its first message."""
        there = self._partitions()
        missing = sorted(int(partition) for partition in self._next if int(partition) not in there)
        if missing:
            raise GateError(
                f"topic {self._topic!r} has no partition {missing[0]} any more: it is another one than before",
                accepted="the topic that the table was fed from",
                next_step="name another `topic` in project.yaml",
            )
        for partition in there:
            low, high = self._bounds(partition)
            position = int(self._next.setdefault(str(partition), str(low)))
            if position > high:
                raise GateError(
                    f"topic {self._topic!r}, partition {partition} ends at offset {high}, and {position} was the next "
                    "one: it is another topic than before",
                    accepted="the topic that the table was fed from",
                    next_step="name another `topic` in project.yaml",
                )
            if position < low:
                self._lose(partition, low - position)
                self._next[str(partition)] = str(low)
        with _plainly(self._topic):
            if self._reads is None:
                self._reads = self._consumer()
            self._reads.assign(
                [TopicPartition(self._topic, int(name), int(offset)) for name, offset in self._next.items()]
            )

    def _lose(self, partition: int, count: int) -> None:
        if self._lost == "stop":
            raise GateError(
                f"topic {self._topic!r}, partition {partition}: {count:,} messages were deleted before they were read",
                accepted=f"all messages from offset {self._next[str(partition)]}",
                next_step="keep messages longer (retention.ms); `lost: continue` in project.yaml goes on without them",
            )

    def read(self, limit: int, seconds: float) -> Polled:
        assert self._reads is not None, "seek comes first"
        if time.monotonic() > self._looked + LOOK:
            self._looked = time.monotonic()
            if len(self._partitions()) > len(self._next):
                self._assign()
        with _plainly(self._topic):
            messages = self._reads.consume(limit, seconds)
        kept = []
        for message in messages:
            error = message.error()
            if error is None:
                kept.append(message)
            elif error.code() in GONE:
                self._assign()  # says what is gone, or goes on behind it
            elif error.code() in NO_TOPIC:
                raise self._no_topic()
            elif not error.retriable() or error.fatal():
                raise UnavailableError(f"Kafka, topic {self._topic!r}: {error.str()}", next_step="see that it runs")
        ends = {message.partition(): message.offset() for message in kept}
        for partition, offset in ends.items():
            self._next[str(partition)] = str((offset or 0) + 1)
        return Polled(
            values=[message.value() for message in kept],
            place=lambda index: (str(kept[index].partition()), str(kept[index].offset())),
            next=dict(self._next),
        )

    def lag(self, offsets: Mapping[str, str]) -> int:
        ends = {partition: self._bounds(partition) for partition in self._partitions()}
        return sum(max(0, high - int(offsets.get(str(name), low))) for name, (low, high) in ends.items())

    def send(self, values: Sequence[bytes]) -> None:
        said: list[KafkaError] = []
        with _plainly(self._topic):
            producer = self._sends = self._sends or Producer(
                {**self._settings, "enable.idempotence": True}, logger=_silent()
            )
            for value in values:
                while True:
                    try:
                        producer.produce(
                            self._topic, value, on_delivery=lambda error, _: said.append(error) if error else None
                        )
                        break
                    except BufferError:  # it is full
                        producer.poll(0.1)
            left = producer.flush(PATIENCE * 3)
        if left or said:
            raise UnavailableError(
                f"Kafka did not take {left or len(said):,} messages for topic {self._topic!r}"
                + (f": {said[0].str()}" if said else ""),
                next_step="see that it runs, and that the topic is there",
            )

    def close(self) -> None:
        for consumer in filter(None, (self._reads, self._asks)):
            consumer.close()

    def _consumer(self) -> Consumer:
        ours = {
            "group.id": "trilha",  # the client wants one, and nothing is ever committed to it
            "enable.auto.commit": False,
            "auto.offset.reset": "error",  # what is gone is said, not passed over
            "queued.max.messages.kbytes": HELD,
            "fetch.error.backoff.ms": 100,
            "reconnect.backoff.max.ms": 2000,
        }
        try:
            return Consumer({**self._settings, **ours}, logger=_silent())
        except KafkaException as error:
            raise ConfigError(
                f"the URL of topic {self._topic!r} is refused: {error.args[0].str()}",
                next_step="correct the connection in the profile, or the variable that it names",
            ) from error

    def _partitions(self) -> list[int]:
        with _plainly(self._topic):
            found = self._asks.list_topics(self._topic, PATIENCE).topics[self._topic]
        if found.error is not None or not found.partitions:
            raise self._no_topic()
        return sorted(found.partitions)

    def _no_topic(self) -> NotFoundError:
        return NotFoundError(
            f"Kafka has no topic {self._topic!r}", next_step="make it there, with as many partitions as it is to have"
        )

    def _bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that is there, and the one behind the last."""
        with _plainly(self._topic):
            low, high = self._asks.get_watermark_offsets(TopicPartition(self._topic, partition), PATIENCE)
        return low, high


@contextmanager
def _plainly(topic: str) -> Iterator[None]:
    """Turn whatever Kafka's client raises inside into one line."""
    try:
        yield
    except KafkaException as error:
        words = error.args[0].str() if error.args and isinstance(error.args[0], KafkaError) else str(error)
        raise UnavailableError(f"Kafka, topic {topic!r}: {words}", next_step="see that it runs") from error


def _silent() -> Any:
    """A logger for what librdkafka would write to standard error at each attempt to connect."""
    import logging

    logger = logging.getLogger("trilha.kafka")
    logger.setLevel(logging.CRITICAL)
    logger.addHandler(logging.NullHandler())
    return logger
