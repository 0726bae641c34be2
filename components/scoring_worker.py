"""What a worker of the SQL engine makes of rows: the answers of a release's graph, as this process would make them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from components.adapters.onnx_scorer import version
from components.errors import ConfigError
from components.records import Record
from components.scoring_batch import Ask, Asked, answers, in_process
from components.sql_engine import Work

if TYPE_CHECKING:
    import pyarrow as pa


class Told(Record):
    """What is asked, and by which version of ONNX Runtime: with another one, the last digits may be others."""

    asked: Asked
    runtime: str


def work_of(asked: Asked, graph: bytes) -> Work:
    """The work that yields what `scoring_batch.answers` does, by the graph in ONNX Runtime."""
    told = Told(asked=asked, runtime=version())
    return Work(columns=asked.columns, function=worker, told=told.model_dump_json(), data=graph)


def worker(told: str, graph: bytes) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Makes answers of a batch, where the rows are.

    Raises:
        ConfigError: another ONNX Runtime is there.
    """
    import pyarrow as pa

    about = Told.model_validate_json(told)
    if about.runtime != version():
        raise ConfigError(
            f"a worker of the SQL engine has ONNX Runtime {version()}",
            accepted=f"{about.runtime}, as here, so that answers are the same bit for bit",
            next_step="let workers have the same image",
        )
    ask = asking(graph, about.asked.model_dump_json())

    def made(batch: pa.RecordBatch) -> pa.RecordBatch:
        table = answers(batch, about.asked, ask)
        columns = [column.combine_chunks() for column in table.columns]
        return pa.RecordBatch.from_arrays(columns, schema=table.schema)

    return made


@lru_cache(maxsize=1)
def asking(graph: bytes, asked: str) -> Ask:
    """One session a process, of one thread: an engine has as many processes on a machine as it takes cores."""
    return in_process(graph, Asked.model_validate_json(asked))
