"""One batch of rows: asked of ONNX Runtime or of Triton, and written as a file with its answers and receipts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from components.adapters.triton_config import MAX_ROWS
from components.answers import LABEL, NUMBERS, Task, answer_names, list_column
from components.errors import ConfigError, GateError, NotFoundError, UnavailableError
from components.examples import SQL, array_column, plain
from components.model_inputs import is_array, to_coded, to_tensors, width
from components.records import Record
from components.scores import RECEIPT

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from components.records import Release
    from components.workspace import Workspace

Tensors: TypeAlias = "dict[str, npt.NDArray[Any]]"
Ask: TypeAlias = "Callable[[pa.Table], Tensors]"
"""From rows to the tensors of their answers."""

GROUP: Final = 131_072
"""Rows in one group of a file."""


class Asked(Record):
    """What rows are asked, and which of their columns stand beside the answers."""

    row: str
    keep: tuple[str, ...]
    features: dict[str, str]
    task: Task

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that the query has to yield."""
        return tuple(dict.fromkeys([*self.beside, *self.features]))

    @property
    def beside(self) -> tuple[str, ...]:
        """Those that stand beside the answers, the key first."""
        return tuple(dict.fromkeys([self.row, *self.keep]))


def asked_of(release: Release, keep: tuple[str, ...]) -> Asked:
    """What the rows of a night are asked."""
    prepared = release.prepared
    return Asked(row=prepared.row, keep=keep, features=prepared.features, task=prepared.task)


def graph_of(workspace: Workspace, release: Release) -> bytes:
    """The release's graphs as one, for ONNX Runtime.

    Raises:
        ConfigError: ONNX Runtime does not run a part of it.
        NotFoundError: its files are gone with all that they were made from.
    """
    from components.edge import joined
    from components.mend import mend

    mend(workspace, release)
    try:
        return joined(workspace, release)
    except ConfigError as error:
        error.next_step = "scoring: {through: triton} in project.yaml"
        raise


def in_process(graph: bytes, asked: Asked) -> Ask:
    """ONNX Runtime in this process, for as many threads as ask it."""
    from components.adapters.onnx_scorer import OnnxScorer

    scorer = OnnxScorer(graph)
    return lambda rows: scorer(to_coded(rows, asked.features))


def through_triton(workspace: Workspace, release: Release) -> Ask:
    """The profile's server.

    Raises:
        GateError: it refuses the bundle.
        NotFoundError: the bundle's files are gone with all that they were made from.
        UnavailableError: it does not answer.
    """
    from components.mend import mend
    from components.serving import stand_by

    mend(workspace, release)
    stand_by(workspace, release.bundle, release.project)
    return lambda rows: _of_triton(workspace, release, to_tensors(rows, release.prepared.features))


def _of_triton(workspace: Workspace, release: Release, tensors: Tensors) -> Tensors:
    """The answers of the server, which has a limit of rows for one question."""
    import numpy as np

    parts: list[Tensors] = []
    for begin in range(0, len(next(iter(tensors.values()))), MAX_ROWS):
        some = {name: tensor[begin : begin + MAX_ROWS] for name, tensor in tensors.items()}
        try:
            parts.append(workspace.server.infer(release.bundle.model, some, settings=release.bundle.triton))
        except NotFoundError as error:  # a roll-out or a person dropped it meanwhile
            raise UnavailableError(f"{release.bundle.model}: {error.problem}", next_step="run it again") from error
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def answers(batch: pa.RecordBatch, asked: Asked, ask: Ask) -> pa.Table:
    """The answers to a batch, with what stands beside them.

    Raises:
        ConfigError: an input has another type than the model's.
        GateError: an answer is none.
    """
    import pyarrow as pa

    rows = _typed(pa.Table.from_batches([batch]), asked.features)
    said = ask(rows)
    columns = {name: rows[name].cast(plain(rows.schema.field(name).type)) for name in asked.beside}
    return pa.table(columns | _columns(said, asked.task))


def write(answered: pa.Table, asked: Asked, prefix: str, first: int, path: Path) -> None:
    """Write answers, whose first row is row `first` of the night, to `path`, with a receipt for each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = dict(zip(answered.column_names, answered.columns, strict=True))
    columns[RECEIPT] = _receipts(prefix, first, answered.num_rows)
    repeated = [name for name in (*asked.keep, LABEL) if name in columns and not pa.types.is_nested(columns[name].type)]
    pq.write_table(
        pa.table(columns),
        path,
        row_group_size=GROUP,
        compression="zstd",
        use_dictionary=repeated,
        column_encoding={RECEIPT: "DELTA_BYTE_ARRAY"},  # each is the one before but for its end
    )


def _typed(rows: pa.Table, features: Mapping[str, str]) -> pa.Table:
    """The inputs as the model's types, as `prepare` makes them."""
    import pyarrow as pa

    arrow = {"string": pa.string(), "double": pa.float64(), "bigint": pa.int64()}
    for name, kind in features.items():
        column = rows.column_names.index(name)
        try:
            field = rows.schema.field(name)
            fitted = array_column(field, rows[name], width(kind)) if is_array(kind) else rows[name].cast(arrow[kind])
        except (pa.ArrowException, ValueError) as error:
            raise ConfigError(
                f"{SQL}: input {name!r} is {rows.schema.field(name).type}: {error}",
                accepted=f"{kind}, as the release takes it",
                next_step="cast it in the query",
            ) from error
        rows = rows.set_column(column, name, fitted)
    return rows


def _columns(said: Tensors, task: Task) -> dict[str, Any]:
    """The tensors of the task's answer as columns: numbers as the 32-bit floats that they are.

    Raises:
        GateError: a number is none.
    """
    import numpy as np
    import pyarrow as pa

    found: dict[str, Any] = {}
    for name in answer_names(task):
        tensor = said[name]
        if name == NUMBERS[task] and not np.isfinite(tensor).all():
            strays = int((~np.isfinite(tensor)).any(axis=1).sum())
            raise GateError(f"{strays} of {len(tensor)} answers are no numbers", next_step="look at the rows' inputs")
        found[name] = list_column(tensor) if tensor.shape[1] > 1 else pa.array(tensor.ravel())
    return found


def _receipts(prefix: str, first: int, count: int) -> pa.Array:
    """The receipts of rows that follow on each other."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.cast(pa.array(np.arange(first, first + count)), pa.string())
    return pc.binary_join_element_wise(prefix, places, "")
