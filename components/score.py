"""score: the answers of a release to every row of a query, file by file; what a killed run finished stays finished.

One thread reads, in an order that is the same each time, and cuts the rows into parts; as many as there are cores
answer and write, each a part. No more parts are in memory than that, however many rows there are. What is written is
noted down at once with a digest of its rows' keys, by which the next attempt knows it. Where the SQL engine has workers
of its own, they answer, and what comes here to be written are answers.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from components import sql_engine
from components.adapters.sql_order import is_row_by_row
from components.errors import ConfigError, GateError, nearest
from components.examples import SQL
from components.ledger import effect_key
from components.place import Place
from components.progress import Progress, StageProgress
from components.scores import Part, Picked, Scored, prefix_of
from components.scoring_batch import Asked, answers, asked_of, graph_of, in_process, through_triton, write
from components.scoring_worker import work_of
from components.tables import local_files
from components.workspace import open_workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from components.records import Release
    from components.sql_engine import Rows
    from components.workspace import Workspace

FILE: Final = "part.parquet"


def score(
    project: str,
    profile: str,
    picked: Picked,
    query: str,
    keep: tuple[str, ...],
    part: int,
    through: str,
    shard: int,
    shards: int,
) -> Scored:
    """The answers to every row of the query that belongs to this shard.

    Args:
        project: whose.
        profile: names the stores, the SQL engine and the server.
        picked: the release that answers, and the data.
        query: yields the rows: their key, the model's inputs, and what is kept.
        keep: columns that stand beside the answers.
        part: rows in one file.
        through: `onnxruntime`, in this process; `triton`, the profile's server.
        shard: of `shards`, counted from 0: each takes the parts that come round to it; of an engine with workers of its
            own, the first one takes all.
        shards: how many.

    Raises:
        ConfigError: the query is refused, or lacks a column; a worker of the SQL engine lacks what answers.
        GateError: it yields no rows, or the model has no answer for some.
        UnavailableError: the server does not answer, or the disk is full.
    """
    clock, workspace, key = time.perf_counter(), open_workspace(profile), effect_key()
    asked = asked_of(picked.release, keep)
    tables = local_files(workspace.store, picked.commit.id, project)
    # Every pass has to see the rows in one order. To sort them costs, and many a query has its table's for nothing.
    order = None if is_row_by_row(query) else asked.row
    with (
        workspace.artifacts.folder(f"{key}-spill") as spill,
        sql_engine.query(workspace.profile.sql, tables, query, order=order, source=SQL, scratch=spill) as rows,
    ):
        _check(rows.schema.names, asked.columns)
        count = rows.count()
        if count == 0:
            raise GateError(f"the rows of {project}: {SQL} yields none", next_step="look at the query, and at --commit")
        batches, answer, own = _answering(workspace, asked, rows, picked.release, through, shard, shards)
        mine = sum(min(part, count - first) for index, first in enumerate(range(0, count, part)) if own(index))
        progress = Progress("score" if shards == 1 else f"score-{shard:02}", mine)
        parts = _Parts(workspace, key, progress)
        prefix = f"{prefix_of(picked)}."

        def written(batch: pa.RecordBatch, first: int, path: Path) -> None:
            write(answer(batch), asked, prefix, first, path)

        since_first = progress.since_first(batches)  # for which workers of an engine may take long
        cut = ((index, index * part, batch) for index, batch in enumerate(_cut(since_first, part)) if own(index))
        done = parts.run(cut, written, asked.row)
    if sum(one.rows for one in done) != mine:
        raise GateError(
            f"{sum(one.rows for one in done):,} rows were answered, and the query counts {mine:,}",
            next_step="run it again; if it stays so, the query yields other rows each time",
        )
    return Scored(rows=count, parts=tuple(done), seconds=time.perf_counter() - clock)


def _answering(
    workspace: Workspace, asked: Asked, rows: Rows, release: Release, through: str, shard: int, shards: int
) -> tuple[Iterator[pa.RecordBatch], Callable[[pa.RecordBatch], pa.Table], Callable[[int], bool]]:
    """Batches, what makes a table of answers of one, and which parts are this shard's.

    Where the SQL engine has workers they answer, and what comes are answers. They are side by side already: the first
    shard takes it all.
    """
    import pyarrow as pa

    if through == "triton":
        ask = through_triton(workspace, release)
    else:
        graph = graph_of(workspace, release)
        stages = StageProgress("score")
        answered = rows.worked(work_of(asked, graph), stages)
        if answered is not None:
            mine = stages.until_first(answered) if shard == 0 else iter(())
            return mine, lambda batch: pa.Table.from_batches([batch]), lambda _: shard == 0
        ask = in_process(graph, asked)
    wanted = (batch.select(asked.columns) for batch in rows)
    return wanted, lambda batch: answers(batch, asked, ask), lambda index: index % shards == shard


def _cut(batches: Iterator[pa.RecordBatch], part: int) -> Iterator[pa.RecordBatch]:
    """The rows in batches of `part` each, the last one shorter."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= part:
            whole = pa.concat_batches(held)
            yield whole.slice(0, part)
            held, count = [whole.slice(part)], count - part
    if count:
        yield pa.concat_batches(held)


def _check(names: list[str], wanted: tuple[str, ...]) -> None:
    """See that the query yields what is needed.

    Raises:
        ConfigError: it lacks a column.
    """
    for name in wanted:
        if name not in names:
            raise ConfigError(
                f"{SQL} yields no column {name!r}, which the release takes{nearest(name, names)}",
                accepted=", ".join(names),
                next_step="select it in the query of `scoring.rows`, or score with a release that does not take it",
            )


class _Parts:
    """The parts of one step: those that an earlier attempt finished, and those that are under way."""

    def __init__(self, workspace: Workspace, key: str, progress: Progress) -> None:
        self._artifacts, self._key, self._progress = workspace.artifacts, key, progress
        self._place = Place(f"{workspace.state}/scoring/{key}")
        self._known = {part.index: part for part in self._read()}

    def run(
        self,
        batches: Iterator[tuple[int, int, pa.RecordBatch]],
        written: Callable[[pa.RecordBatch, int, Path], None],
        row: str,
    ) -> list[Part]:
        """Have every batch answered and written, as many at a time as there are cores."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        done: list[Part] = []
        waiting: set[Future[Part]] = set()
        with ThreadPoolExecutor(cores, thread_name_prefix="score") as pool:
            try:
                for index, first, batch in batches:
                    waiting.add(pool.submit(self._one, index, first, batch, row, written))
                    if len(waiting) > cores:
                        ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        done += [one.result() for one in ready]
                done += [one.result() for one in waiting]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                self._progress.end()
        return sorted(done, key=lambda part: part.index)

    def _one(
        self,
        index: int,
        first: int,
        batch: pa.RecordBatch,
        row: str,
        written: Callable[[pa.RecordBatch, int, Path], None],
    ) -> Part:
        key = hashlib.sha256(batch.select([row]).serialize()).hexdigest()
        known = self._known.get(index)
        same = known is not None and (known.first, known.rows, known.key) == (first, batch.num_rows, key)
        if known is not None and same and self._artifacts.has(known.file):
            self._progress.add(known.rows, found=True)
            return known
        name = f"{self._key}-{index:05}"
        with self._artifacts.folder(name) as folder:
            written(batch, first, folder / FILE)
            file = self._artifacts.publish(name, folder)[FILE]
        part = Part(index=index, first=first, rows=batch.num_rows, key=key, file=file)
        self._place.write(f"{index:05}.json", part.model_dump_json().encode())
        self._progress.add(part.rows)
        return part

    def _read(self) -> Iterator[Part]:
        """What an earlier attempt noted down."""
        for name in self._place.names():
            try:
                yield Part.model_validate_json(self._place.read(name) or b"")
            except ValidationError:  # by another version
                continue
