"""A real Kafka for tests: one node in KRaft mode on loopback, from Apache's own jars, which `.ci/run` gets from Maven."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.children import dying_with_us
from tests.triton import free_ports

JARS = Path(os.environ.get("TRILHA_TEST_KAFKA") or Path.home() / ".cache" / "trilha" / "kafka")
ID = "MkU3OEVBNTcwNTJENDM2Qg"
"""A cluster's, in base64."""


class Kafka:
    """A broker that a test may kill and start again, with what it holds."""

    def __init__(self, folder: Path) -> None:
        self.port, controller = free_ports(2)
        self._properties = folder / "server.properties"
        self._log = folder / "kafka.out"
        self._properties.write_text(f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}
log.dirs={folder / "logs"}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.check.interval.ms=500
log.initial.task.delay.ms=500
log.segment.delete.delay.ms=0
""")
        self._java("kafka.tools.StorageTool", "format", "-t", ID, "-c", str(self._properties)).wait(60)
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    @property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}", "socket.timeout.ms": 5000})

    def start(self) -> None:
        """Return once it answers."""
        self._server = self._java("kafka.Kafka", str(self._properties))
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert self._server.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < deadline, "Kafka does not start"
            time.sleep(0.1)
        self.admin.list_topics(timeout=30)

    def kill(self) -> None:
        """End it at once."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def make(self, topic: str, partitions: int = 1, **settings: str) -> None:
        """Make a topic."""
        made = NewTopic(
            topic, partitions, 1, config={name.replace("_", "."): value for name, value in settings.items()}
        )
        admin = self.admin
        admin.create_topics([made])[topic].result(30)
        ends = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(partitions)}
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # until every partition has found its leader
            with suppress(KafkaException):
                for found in admin.list_offsets(ends).values():
                    found.result(5)
                return

    def _java(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = ["java", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*", *arguments]
        with self._log.open("ab") as log:
            return subprocess.Popen(dying_with_us(command), stdout=log, stderr=log, cwd=self._log.parent)


@pytest.fixture(scope="session")
def one_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker that all tests of a process share."""
    yield from _kafka(tmp_path_factory.mktemp("kafka"))


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A broker that the test may kill."""
    (tmp_path / "kafka").mkdir()
    yield from _kafka(tmp_path / "kafka")


def _kafka(folder: Path) -> Iterator[Kafka]:
    if shutil.which("java") is None or not any(JARS.glob("kafka_*.jar")):
        pytest.skip(f"no Kafka: java, and its jars in {JARS}; see .ci/run")
    kafka = Kafka(folder)
    kafka.start()
    yield kafka
    kafka.kill()
