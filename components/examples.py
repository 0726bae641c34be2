"""The rows that `features.sql` yields, made ready batch by batch: in the types that models take, and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from components.answers import list_column
from components.errors import ConfigError, GateError
from components.model_inputs import is_array, reserved, width
from components.project import Features

if TYPE_CHECKING:
    import pyarrow as pa

SQL = "features.sql"


class Examples:
    """Takes the batches of a query in the order of the rows' keys, and yields them as examples.

    What is amiss in single rows is counted, and told at the end, of all rows.

    Args:
        features: which of the columns mean what.
        by: the column that rows are split by.
        first: the first batch, which shows the types, arrays' lengths too.
    """

    def __init__(self, features: Features, by: str, first: pa.Table) -> None:
        self.inputs = _input_types(first, features, by)
        self.rows = 0
        self._features = features
        self._types = {field.name: plain(field.type) for field in first.schema}
        self._missing: Counter[str] = Counter()
        self._infinite: Counter[str] = Counter()
        self._strays = 0
        self._repeated = 0
        self._repeats: object = None
        self._last: pa.Table | None = None

    def take(self, rows: pa.Table) -> pa.Table:
        """These rows, in their types.

        Raises:
            GateError, ConfigError: a value that its column's type cannot hold, an array of another length.
        """
        rows = _cast(rows, self.inputs, self._types, self._features)
        self.rows += rows.num_rows
        for column in (self._features.row, self._features.target):
            self._missing[column] += rows[column].null_count
        self._strays += _strays(rows[self._features.target], self._features.task)
        for name, kind in self.inputs.items():
            self._infinite[name] += _infinite(rows[name], kind)
        self._count_repeats(rows[self._features.row])
        return rows

    @property
    def fit(self) -> bool:
        """Whether nothing was amiss so far."""
        return not (self._strays or self._repeated or self._missing.total() or self._infinite.total())

    def _count_repeats(self, keys: pa.ChunkedArray) -> None:
        """Keys come in order: one that is there again follows itself."""
        import pyarrow as pa
        import pyarrow.compute as pc

        chunks = keys.chunks if self._last is None else [self._last, *keys.chunks]
        keys = pa.chunked_array(chunks, keys.type).combine_chunks()
        again = pc.equal(keys[1:], keys[:-1])
        found = int(pc.sum(again).as_py() or 0)
        if found and not self._repeated:
            self._repeats = keys[1:].filter(again)[0].as_py()
        self._repeated += found
        self._last = keys[-1:]

    def check(self) -> None:
        """Raise what the rows, all together, are not fit for.

        Raises:
            GateError: there are none, or some lack a key of their own, a target, or finite numbers.
        """
        features = self._features
        if self.rows == 0:
            raise GateError(f"{SQL} yields no rows", next_step="look at its joins and at `where`")
        for column in (features.row, features.target):
            if self._missing[column]:
                raise GateError(
                    f"{SQL}: {column!r} is missing in {self._missing[column]} of {self.rows} rows",
                    accepted="a value in every row",
                    next_step=f"leave those rows out in {SQL}",
                )
        if self._strays:
            binary = features.task == "binary"
            what, accepted = ("neither 0 nor 1", "0 or 1") if binary else ("not finite", "finite numbers")
            raise GateError(f"{SQL}: {features.target!r} is {what} in {self._strays} rows", accepted=accepted)
        for name, count in self._infinite.items():
            if count:
                raise GateError(f"{SQL}: {name!r} is infinite in {count} rows", accepted="finite numbers, or null")
        if self._repeated:
            raise GateError(
                f"{SQL}: {features.row!r} is not unique: {self._repeated} rows repeat a key, such as {self._repeats!r}",
                accepted="one row a key",
                next_step="look at the joins: does the right side have one row a key?",
            )


def in_batches(batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` each, but for the last: what is made of them depends on no engine's habits.

    There is always one table, without rows where there are none.
    """
    import pyarrow as pa

    waiting, count, made = [], 0, False
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(waiting, schema)
            yield table.slice(0, rows).combine_chunks()
            made, waiting, count = True, table.slice(rows).to_batches(), count - rows
    if count or not made:
        yield pa.Table.from_batches(waiting, schema).combine_chunks()


# --- types ------------------------------------------------------------------------------------------------------------


def _input_types(first: pa.Table, features: Features, by: str) -> dict[str, str]:
    """Each input column and its type: every column that has no other role."""
    others = {features.row, features.target, by, *features.exclude}
    inputs = {field.name: _input_type(field, first[field.name]) for field in first.schema if field.name not in others}
    taken = sorted(reserved(features.task) & set(inputs))
    if taken:
        raise ConfigError(
            f"{SQL}: an input cannot be called {taken[0]!r}",
            accepted="a name other than " + ", ".join(sorted(reserved(features.task))),
            next_step="rename it with `as`, or list it under `exclude`",
        )
    if not inputs:
        raise ConfigError(f"{SQL} yields nothing to learn from", accepted="at least one column that is not excluded")
    return inputs


def _input_type(field: pa.Field, column: pa.ChunkedArray) -> str:
    import pyarrow.types as kinds

    if kinds.is_list(field.type) or kinds.is_large_list(field.type) or kinds.is_fixed_size_list(field.type):
        return _array_type(field, column)
    if kinds.is_string(field.type) or kinds.is_large_string(field.type):
        return "string"
    if kinds.is_integer(field.type):
        return "bigint"
    if kinds.is_floating(field.type):
        return "double"
    if kinds.is_decimal(field.type):
        return "double" if field.type.scale else "bigint"
    advice = {
        "bool": f"cast({field.name} as bigint)",
        "date": f"extract a number, such as month({field.name}), or list it under `exclude`",
        "timestamp": f"extract a number, such as hour({field.name}), or list it under `exclude`",
    }
    known = next((text for name, text in advice.items() if str(field.type).startswith(name)), "cast it")
    raise ConfigError(
        f"{SQL}: input {field.name!r} is {field.type}",
        accepted="string, double, bigint, or an array of numbers",
        next_step=known,
    )


def _array_type(field: pa.Field, column: pa.ChunkedArray) -> str:
    """`double[N]`, if every array has N numbers.

    Raises:
        ConfigError: it has not.
    """
    import pyarrow.types as kinds

    kind = field.type.value_type
    shortest, longest = _lengths(column)
    if not (kinds.is_integer(kind) or kinds.is_floating(kind)) or shortest != longest or not shortest:
        raise _other_lengths(field, shortest, longest)
    return f"double[{shortest}]"


def _lengths(column: pa.ChunkedArray) -> tuple[int | None, int | None]:
    """Of the shortest array, and of the longest; None where all are missing."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column)
    return pc.min(lengths).as_py(), pc.max(lengths).as_py()


def _other_lengths(field: pa.Field, shortest: int | None, longest: int | None) -> ConfigError:
    return ConfigError(
        f"{SQL}: input {field.name!r} is {field.type}, of {shortest} to {longest} items",
        accepted="arrays of numbers, all of one length",
        next_step="pad or cut them there, and cast them: such as pixels::double[64]",
    )


def plain(kind: pa.DataType) -> pa.DataType:
    """The type that a column is kept in, whichever way an engine has it."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_integer(kind) or (kinds.is_decimal(kind) and not kind.scale):
        return pa.int64()
    if kinds.is_floating(kind) or kinds.is_decimal(kind):
        return pa.float64()
    if kinds.is_large_string(kind):
        return pa.string()
    return pa.timestamp("us") if kinds.is_timestamp(kind) else kind


# --- values -----------------------------------------------------------------------------------------------------------


def _cast(rows: pa.Table, inputs: Mapping[str, str], types: Mapping[str, pa.DataType], features: Features) -> pa.Table:
    """Every column in its type, the target in its task's: 0 and 1, a whole number or a text, a number."""
    import pyarrow as pa
    import pyarrow.types as kinds

    given = rows.schema.field(features.target).type
    texts = features.task == "multiclass" and (kinds.is_string(given) or kinds.is_large_string(given))
    target = pa.string() if texts else pa.float64() if features.task == "regression" else pa.int64()
    wanted = {**types, features.target: target}
    for name, kind in inputs.items():
        if is_array(kind):
            place = rows.column_names.index(name)
            rows = rows.set_column(place, name, array_column(rows.schema.field(name), rows[name], width(kind)))
            wanted[name] = rows.schema.field(name).type
    try:
        return rows.cast(pa.schema([pa.field(name, wanted[name]) for name in rows.column_names]))
    except pa.ArrowInvalid as error:
        accepted = {"binary": "a target of 0 and 1", "multiclass": "a target of whole numbers or texts"}
        raise GateError(
            f"{SQL}: {error}",
            accepted=f"whole numbers of 64 bits, and {accepted.get(features.task, 'a target of numbers')}",
            next_step=f"cast in {SQL}",
        ) from error


def array_column(field: pa.Field, column: pa.ChunkedArray, length: int) -> pa.FixedSizeListArray:
    """Arrays of one length as such; a missing one, or a missing number in one, is NaN.

    Raises:
        ConfigError: one has another length.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    shortest, longest = _lengths(column)
    if shortest is not None and not shortest == longest == length:
        raise _other_lengths(field, min(shortest, length), max(longest or 0, length))
    rows = np.full((len(column), length), np.nan)
    there = pc.is_valid(column).to_numpy()
    flat = pc.cast(pc.list_flatten(column.drop_null()), pa.float64())
    rows[there] = flat.to_numpy(zero_copy_only=False).reshape(-1, length)
    return list_column(rows)


def _strays(target: pa.ChunkedArray, task: str) -> int:
    """Rows whose target is none that the task has."""
    import pyarrow.compute as pc

    if task == "binary":
        return count(pc.invert(pc.or_(pc.equal(target, 0), pc.equal(target, 1))))
    return count(pc.invert(pc.is_finite(target))) if task == "regression" else 0


def _infinite(column: pa.ChunkedArray, kind: str) -> int:
    """Numbers of an input without an end."""
    import pyarrow.compute as pc

    if kind in {"string", "bigint"}:
        return 0
    return count(pc.is_inf(pc.list_flatten(column) if is_array(kind) else column))


def count(flags: pa.ChunkedArray) -> int:
    """How many of them are true."""
    import pyarrow.compute as pc

    return int(pc.sum(flags).as_py() or 0)
