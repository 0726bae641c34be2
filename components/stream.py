"""A topic into a table, for as long as nobody says stop: reads one batch while the one before becomes a commit."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

from components.connections import url_of
from components.errors import ConfigError, UnavailableError
from components.stream_batch import Batch, Reader, moment
from components.stream_commit import StreamTable
from components.stream_log import Fed

if TYPE_CHECKING:
    from components.data_ports import Topic
    from components.project import Expectation
    from components.stream_metrics import StreamMetrics
    from components.stream_settings import Stream
    from components.workspace import Workspace

TOPICS: Final[Mapping[str, str]] = {
    "kafka": "components.adapters.kafka_stream:open_topic",
    "redis": "components.adapters.redis_stream:open_topic",
    "rediss": "components.adapters.redis_stream:open_topic",
}
"""Scheme of a connection's URL -> the function that opens a topic there; imported when it is first needed."""
LOOK: Final = 2.0
"""Seconds between two looks at the lag."""
LONGEST: Final = 30.0
"""Seconds between two attempts to reach a server that is away."""


def open_topic(workspace: Workspace, settings: Stream) -> Topic:
    """The topic that feeds a table.

    Raises:
        ConfigError: the profile does not say where it is, or not as a server that streams are read from.
    """
    url = url_of(workspace, settings.connection)
    scheme = url.partition("://")[0]
    if scheme not in TOPICS:
        raise ConfigError(
            f"connection {settings.connection!r} of topic {settings.topic!r} is {scheme}://...",
            accepted=", ".join(f"{known}://" for known in TOPICS),
            next_step=f"correct it under `connections` in config/profiles/{workspace.name}.yaml",
        )
    module, function = TOPICS[scheme].split(":")
    try:
        topic: Topic = getattr(importlib.import_module(module), function)(url, settings.topic)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed, which topics of {scheme}:// are read with",
            next_step=f"install the extra `{scheme}`",
        ) from error
    return topic


class Feed:
    """The loop of one table.

    Args:
        workspace: where it goes.
        project: whose table it is.
        table: its name.
        settings: its `stream`.
        expectations: the table's.
        metrics: are told what happens.
        over: is set when it is to end after the batch in hand.
        say: is told what a person should know.
    """

    def __init__(
        self,
        workspace: Workspace,
        project: str,
        table: str,
        settings: Stream,
        expectations: tuple[Expectation, ...],
        metrics: StreamMetrics,
        over: threading.Event,
        say: Callable[[str], object],
    ) -> None:
        self._workspace = workspace
        self._table = StreamTable(workspace, project, table, settings, expectations)
        self._name = table
        self._settings = settings
        self._metrics = metrics
        self._over = over
        self._say = say
        self._told: set[str] = set()
        self._batches = 0

    def run(self) -> None:
        """Feed until it is over. A server or a store that is away is waited for.

        Raises:
            TrilhaError: what a person has to see to.
        """
        pause = 0.5
        while not self._over.is_set():
            clock, batches = time.monotonic(), self._batches
            try:
                self._feed()
            except UnavailableError as error:
                self._metrics.up(self._name, well=False)
                if self._batches > batches or time.monotonic() - clock > LONGEST:  # it was there meanwhile
                    pause = 0.5
                self._say(f"{self._name}: {error}; trying again in {pause:g} s")
                self._over.wait(pause)
                pause = min(2 * pause, LONGEST)

    def _feed(self) -> None:
        topic, broken = open_topic(self._workspace, self._settings), threading.Event()

        def over() -> bool:
            return self._over.is_set() or broken.is_set()

        try:
            at = self._table.position(topic)
            reader = Reader(topic, self._settings, at.next, moment(at.newest))
            self._metrics.up(self._name, well=True)
            self._metrics.lag(self._name, topic.lag(at.next))
            self._say(f"{self._name}: goes on after batch {at.number}, at {at.next}")
            with ThreadPoolExecutor(1, f"reader of {self._name}") as beside:
                try:
                    waiting = beside.submit(reader.next, over)
                    while (batch := self._wait(waiting, topic, at)) is not None:
                        waiting = beside.submit(reader.next, over)
                        at = self._commit(batch, at)
                        self._tell_unknown(reader)
                finally:
                    broken.set()  # the reader's thread is waited for
        finally:
            topic.close()

    def _wait(self, waiting: Future[Batch | None], topic: Topic, at: Fed) -> Batch | None:
        """The next batch; the lag is looked at meanwhile."""
        while True:
            if wait([waiting], LOOK).done:
                return waiting.result()
            self._metrics.lag(self._name, topic.lag(at.next))

    def _commit(self, batch: Batch, at: Fed) -> Fed:
        clock = time.perf_counter()
        done = self._table.commit(batch, at)
        self._metrics.committed(done, time.perf_counter() - clock)
        self._batches += 1
        return done

    def _tell_unknown(self, reader: Reader) -> None:
        new = [name for name in reader.unknown if name not in self._told]
        self._told.update(new)
        self._metrics.unknown(self._name, len(reader.unknown))
        if new:
            names = ", ".join(map(repr, new))
            self._say(f"{self._name}: messages have fields that are no columns: {names}; add them to `columns`, or not")
