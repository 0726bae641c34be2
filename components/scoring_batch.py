"""One batch of rows: asked of ONNX Runtime or of Triton, and written as a file with its answers and receipts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from components.adapters.triton_config import MAX_ROWS
from components.answers import LABEL, NUMBERS, answer_names, list_column
from components.errors import ConfigError, GateError, NotFoundError, UnavailableError
from components.examples import SQL, array_column
from components.model_inputs import is_array, to_coded, to_tensors, width
from components.scores import RECEIPT

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from components.records import Prepared, Release
    from components.workspace import Workspace

Tensors: TypeAlias = "dict[str, npt.NDArray[Any]]"
Ask: TypeAlias = "Callable[[pa.Table], Tensors]"
"""From rows to the tensors of their answers."""

GROUP: Final = 131_072
"""Rows in one group of a file."""


def asked_for(workspace: Workspace, release: Release, through: str) -> Ask:
    """What answers for a release.

    Raises:
        ConfigError: ONNX Runtime does not run a part of it.
        GateError: Triton refuses the bundle.
        NotFoundError: its files are gone with all that they were made from.
        UnavailableError: Triton does not answer.
    """
    from components.mend import mend

    mend(workspace, release)
    features = release.prepared.features
    if through == "triton":
        from components.serving import stand_by

        stand_by(workspace, release.bundle, release.project)
        return lambda rows: _of_triton(workspace, release, to_tensors(rows, features))
    from components.adapters.onnx_scorer import OnnxScorer
    from components.edge import joined

    try:
        scorer = OnnxScorer(joined(workspace, release))
    except ConfigError as error:
        error.next_step = "scoring: {through: triton} in project.yaml"
        raise
    return lambda rows: scorer(to_coded(rows, features))


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


def answered(
    batch: pa.RecordBatch, release: Release, ask: Ask, keep: tuple[str, ...], prefix: str, first: int, path: Path
) -> None:
    """Write the answers to a batch, whose first row is row `first` of the night, to `path`.

    Raises:
        ConfigError: an input has another type than the model's.
        GateError: an answer is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    prepared = release.prepared
    rows = _typed(pa.Table.from_batches([batch]), prepared)
    answers = ask(rows)
    columns = {name: rows[name] for name in dict.fromkeys([prepared.row, *keep])}
    columns |= _columns(answers, prepared)
    columns[RECEIPT] = _receipts(prefix, first, rows.num_rows)
    repeated = [name for name in (*keep, LABEL) if name in columns and not pa.types.is_nested(columns[name].type)]
    pq.write_table(
        pa.table(columns),
        path,
        row_group_size=GROUP,
        compression="zstd",
        use_dictionary=repeated,
        column_encoding={RECEIPT: "DELTA_BYTE_ARRAY"},  # each is the one before but for its end
    )


def _typed(rows: pa.Table, prepared: Prepared) -> pa.Table:
    """The inputs as the model's types, as `prepare` makes them."""
    import pyarrow as pa

    arrow = {"string": pa.string(), "double": pa.float64(), "bigint": pa.int64()}
    for name, kind in prepared.features.items():
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


def _columns(answers: Tensors, prepared: Prepared) -> dict[str, Any]:
    """The tensors of the task's answer as columns: numbers as the 32-bit floats that they are.

    Raises:
        GateError: a number is none.
    """
    import numpy as np
    import pyarrow as pa

    found: dict[str, Any] = {}
    for name in answer_names(prepared.task):
        tensor = answers[name]
        if name == NUMBERS[prepared.task] and not np.isfinite(tensor).all():
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
