"""How far Spark is with what this thread asks it for, from what it tells the driver of its stages and their tasks."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from components.sql_engine import Watch

LOOK_EVERY = 0.5
"""Seconds between two looks; a server of Spark Connect tells by itself, every two seconds."""


@contextmanager
def watched(session: SparkSession, watch: Watch) -> Iterator[None]:
    """Tell `watch` how far Spark is with what the block asks it for; executors count a task when it is done."""
    from pyspark.sql.utils import is_remote

    with _told_by_server(session, watch) if is_remote() else _looked_at(session.sparkContext, watch):
        yield


def _tell(watch: Watch, stages: Iterable[tuple[int, int, int]]) -> None:
    """Of the stage that it is at, which is the last that has a task done: those before it were needed first."""
    begun = [stage for stage in stages if stage[1]]
    if begun:
        watch(*max(begun))


@contextmanager
def _told_by_server(session: Any, watch: Watch) -> Iterator[None]:
    """A server of Spark Connect tells whoever asked it for something how far that is, in the thread that waits."""
    mine = threading.get_ident()

    def told(stages: Any, **_: object) -> None:
        if threading.get_ident() == mine:
            _tell(watch, [(one.stage_id, one.num_completed_tasks, one.num_tasks) for one in stages or ()])

    session.registerProgressHandler(told)
    try:
        yield
    finally:
        session.removeProgressHandler(told)


@contextmanager
def _looked_at(context: SparkContext, watch: Watch) -> Iterator[None]:
    """The driver is in this process: a second thread looks at the jobs of this one, and a last time when they ended."""
    group, over = uuid.uuid4().hex, threading.Event()

    def look() -> None:
        from py4j.protocol import Py4JError

        ended = False
        while not ended:
            ended = over.wait(LOOK_EVERY)
            try:
                _tell(watch, _stages(context, group))
            except Py4JError:  # the driver has gone, as the thread that waits will say
                return

    context.setJobGroup(group, "what workers make of rows")
    looking = threading.Thread(target=look, name="spark-progress", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
        for name in ("spark.jobGroup.id", "spark.job.description"):
            context.setLocalProperty(name, None)  # type: ignore[arg-type]  # Java's null, which takes it back


def _stages(context: SparkContext, group: str) -> Iterator[tuple[int, int, int]]:
    """Number, tasks that are done, and all tasks, of each stage that Spark has begun with in a group of jobs."""
    tracker = context.statusTracker()
    for job in tracker.getJobIdsForGroup(group):
        about = tracker.getJobInfo(job)
        for stage in about.stageIds if about else ():
            found = tracker.getStageInfo(stage)
            if found:
                yield stage, found.numCompletedTasks, found.numTasks
