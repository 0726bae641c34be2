"""Train, valid and test: which rows go where, and the file that each becomes, batch by batch."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import ConfigError, GateError
from components.examples import SQL
from components.project import Features, RandomSplit, TimeSplit

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

SIDES = ("train", "valid", "test")
MOST_CLASSES = 1000
"""A target of more is a key or a number."""
GROUP = 131_072
"""Rows of a file that are written at a time."""


class Sides:
    """Writes each row to the side that it is on.

    Args:
        folder: where `train.parquet`, `valid.parquet` and `test.parquet` go.
        features: what the target means.
        split: which rows go where.
        seed: draws a random split.
    """

    def __init__(self, folder: Path, features: Features, split: TimeSplit | RandomSplit, seed: int) -> None:
        self._features = features
        self._split = split
        self._seed = seed
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="sides")
        self._sides = {side: Side(folder / f"{side}.parquet", features, self._writing) for side in SIDES}

    def write(self, rows: pa.Table) -> None:
        """Rows in the order of their keys.

        Raises:
            ConfigError, GateError: they cannot be split so.
        """
        import pyarrow as pa

        split = self._split
        of = _by_time(rows, split) if isinstance(split, TimeSplit) else _by_hash(rows, split, self._seed)
        for number, side in enumerate(self._sides.values()):
            side.write(rows.filter(pa.array(of == number)))

    def close(self) -> None:
        """Finish the files."""
        with self._writing:
            for side in self._sides.values():
                side.close()

    def classes(self) -> tuple[int | str, ...]:
        """What the target may be, in ascending order.

        Raises:
            GateError: that is one class, or so many that it is none.
        """
        if self._features.task == "binary":
            return (0, 1)
        if self._features.task == "regression":
            return ()
        found: list[Any] = sorted({one for side in self._sides.values() for one in side.targets})
        if not 2 <= len(found) <= MOST_CLASSES:
            raise GateError(
                f"{SQL}: {self._features.target!r} has {len(found)} classes",
                accepted=f"2 to {MOST_CLASSES:,}",
                next_step="gather the rare ones in one there, or make it a regression",
            )
        return tuple(found)

    def checked(self) -> dict[str, Side]:
        """The sides, if something can be learned from the first and judged by the others.

        Raises:
            GateError: one is empty, has one class alone, or lacks one to learn from.
        """
        classes, target = self.classes(), self._features.target
        counts = ", ".join(f"{name} {side.rows}" for name, side in self._sides.items())
        for name, side in self._sides.items():
            if side.rows == 0:
                raise GateError(
                    f"the split leaves {name} empty ({counts} rows)", next_step="correct `split` in project.yaml"
                )
            if self._features.task == "regression":
                continue
            if len(side.targets) == 1:
                binary = self._features.task == "binary"
                raise GateError(
                    f"{target!r} is {next(iter(side.targets))} in all {side.rows} rows of {name}",
                    accepted="both classes in train, valid and test" if binary else "several classes",
                    next_step="correct `split` in project.yaml, or bring more data",
                )
            lacking = [one for one in classes if one not in side.targets]
            if name == "train" and lacking:
                raise GateError(
                    f"{target!r} is never {lacking[0]} in the rows of train",
                    accepted="every class in train",
                    next_step=f"correct `split` in project.yaml, or gather rare classes in one in {SQL}",
                )
        return self._sides


class Side:
    """One side: its file, its rows, and what is to be predicted there.

    Args:
        path: the file.
        features: which column is the target, and of what task.
        writing: the thread that encodes and writes, while the next rows are made ready.
    """

    def __init__(self, path: Path, features: Features, writing: Executor) -> None:
        self.path = path
        self.rows = 0
        self.targets: Counter[int | str] = Counter()
        """Rows by class; none in a regression."""
        self._features = features
        self._sums: list[float] = []
        self._waiting: list[pa.Table] = []
        self._writing = writing
        self._written: Future[None] | None = None
        self._writer: Any = None

    def write(self, rows: pa.Table) -> None:
        """Add rows; what does not fill a group yet waits for more."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        target = rows[self._features.target]
        self.rows += rows.num_rows
        if self._features.task == "regression":
            self._sums.append(pc.sum(target).as_py() or 0.0)
        elif len(self.targets) <= MOST_CLASSES:  # else it is refused anyway
            self.targets.update({one["values"]: one["counts"] for one in pc.value_counts(target).to_pylist()})
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, rows.schema, use_dictionary=self._repeating(rows.schema))
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= GROUP:
            table = pa.concat_tables(self._waiting)
            self._write(table.slice(0, GROUP))
            self._waiting = [table.slice(GROUP)]

    def _repeating(self, schema: pa.Schema) -> list[str]:
        """Columns whose values come again: all but the key, of which a dictionary would cost a third of the writing."""
        import pyarrow.types as kinds

        names = [field.name + ".list.element" * kinds.is_nested(field.type) for field in schema]
        return [name for name in names if name != self._features.row]

    def _write(self, group: pa.Table) -> None:
        """Have one group written; no more than one waits."""
        if self._written is not None:
            self._written.result()
        self._written = self._writing.submit(self._writer.write_table, group, row_group_size=GROUP)

    def close(self) -> None:
        """Write what waits, and finish the file."""
        import pyarrow as pa

        if self._writer is not None:
            self._write(pa.concat_tables(self._waiting))
            if self._written is not None:
                self._written.result()
            self._writer.close()

    @property
    def summary(self) -> dict[str, Any]:
        """What a split says of its target."""
        if self._features.task == "regression":
            return {"mean": math.fsum(self._sums) / self.rows}
        if self._features.task == "binary":
            return {"positives": self.targets[1] / self.rows}
        return {"classes": dict(sorted((str(one), rows) for one, rows in self.targets.items()))}


def _by_time(rows: pa.Table, split: TimeSplit) -> npt.NDArray[np.int64]:
    """Of each row, the number of its side."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    column = rows[split.column]
    if column.null_count:
        raise GateError(
            f"{SQL}: {split.column!r} is missing in {column.null_count} rows, which cannot be split by time",
            accepted="a time in every row",
        )
    try:
        times = pc.cast(column, pa.timestamp("us"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:  # text that is no time; a type that never is one
        raise ConfigError(
            f"{SQL}: {split.column!r} is {column.type}: {error}",
            accepted="a date, a timestamp, or text in ISO 8601",
            next_step=f"cast it in {SQL}",
        ) from error
    edges = pa.array(map(datetime.fromisoformat, (split.valid_from, split.test_from)), pa.timestamp("us"))
    found: npt.NDArray[np.int64] = np.searchsorted(edges.to_numpy(), times.to_numpy(), side="right")
    return found


def _by_hash(rows: pa.Table, split: RandomSplit, seed: int) -> npt.NDArray[np.int64]:
    """Of each row, the number of its side: each key has a place in [0, 1) of its own, whatever other rows there are."""
    import numpy as np
    import pyarrow.types as kinds

    column = rows[split.key]
    if column.null_count or not (kinds.is_string(column.type) or kinds.is_integer(column.type)):
        raise GateError(
            f"{SQL}: the split's key {split.key!r} is {column.type}, missing in {column.null_count} rows",
            accepted="text or a whole number in every row",
        )
    keys = column.combine_chunks().dictionary_encode()
    places = np.array([_place(key, seed) for key in keys.dictionary.to_pylist()])[keys.indices.to_numpy()]
    sides = np.searchsorted(np.array([split.valid, split.valid + split.test]), places, side="right")
    found: npt.NDArray[np.int64] = np.array([1, 2, 0])[sides]  # the first places are valid's, then test's
    return found


def _place(key: object, seed: int) -> float:
    return int.from_bytes(hashlib.md5(f"{seed}:{key}".encode(), usedforsecurity=False).digest()[:8]) / 2**64
