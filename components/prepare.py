"""Prepare: run `features.sql` on the published commit, split its rows, and profile what the model will learn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.answers import list_column
from components.errors import ConfigError, GateError, nearest
from components.model_inputs import is_array, reserved, width
from components.project import Features, RandomSplit, TimeSplit
from components.records import Commit, Prepared, Split
from components.reference import reference_profile
from components.tables import local_files
from components.workspace import open_workspace

if TYPE_CHECKING:
    import pyarrow as pa

SQL = "features.sql"
SIDES = ("train", "valid", "test")
MOST_CLASSES = 1000
"""A target of more is a key or a number."""


def prepare(
    project: str, profile: str, commit: Commit, features: Features, split: TimeSplit | RandomSplit, seed: int
) -> Prepared:
    """Model-ready train, valid and test rows of one commit, ordered by their key.

    Args:
        project: the folder of the commit that the tables lie in, one folder a table.
        profile: names the data store and the SQL engine.
        commit: the published data.
        features: the query, and which of its columns mean what.
        split: which rows are learned from, and which are held out.
        seed: draws a random split; a split by time does not depend on it.

    Raises:
        ConfigError: the engine refuses the query, or it does not yield the columns that project.yaml names.
        GateError: the rows are not fit to learn from; names the column and counts.
    """
    with _in_its_folder(project):
        return _prepared(project, profile, commit, features, split, seed)


@contextmanager
def _in_its_folder(project: str) -> Iterator[None]:
    """Errors name `features.sql` with its folder, which what finds them does not know."""
    try:
        yield
    except (ConfigError, GateError) as error:
        where = f"config/projects/{project}/{SQL}"
        error.problem, error.next_step = (text.replace(SQL, where) for text in (error.problem, error.next_step))
        raise


def _prepared(
    project: str, profile: str, commit: Commit, features: Features, split: TimeSplit | RandomSplit, seed: int
) -> Prepared:
    workspace = open_workspace(profile)
    tables = local_files(workspace.store, commit.id, project)
    by = split.column if isinstance(split, TimeSplit) else split.key
    examples = _examples(workspace.profile.sql, tables, features, by)
    inputs = _input_types(examples, features, by)
    examples = _checked(_cast(examples, inputs, features), inputs, features)
    classes = _classes(examples, features)
    sides = _by_time(examples, split) if isinstance(split, TimeSplit) else _by_hash(examples, split, seed)
    _check_sides(sides, features, classes)
    with workspace.output() as out:
        _write(sides, inputs, out.folder)
        files = out.publish()
    made = {
        side: Split(
            file=files[f"{side}.parquet"],
            rows=table.num_rows,
            **_summary(table[features.target], features.task),
        )
        for side, table in sides.items()
    }
    return Prepared(
        tree=commit.tree,
        commit=commit.id,
        row=features.row,
        target=features.target,
        features=inputs,
        train=made["train"],
        valid=made["valid"],
        test=made["test"],
        reference=files["reference.json"],
        task=features.task,
        classes=classes,
    )


# --- the query --------------------------------------------------------------------------------------------------------


def _examples(url: str, tables: Mapping[str, list[Path]], features: Features, by: str) -> pa.Table:
    """What `features.sql` yields, if it has every column that project.yaml names.

    Raises:
        ConfigError: the engine refuses the query, or a column is missing.
    """
    from components.adapters.ibis_sql import run_sql

    examples = run_sql(url, tables, features.sql, source=SQL)
    roles = {"row": features.row, "target": features.target, "split": by}
    roles |= {f"exclude {name!r}": name for name in features.exclude}
    roles |= {f"evaluate.slices {name!r}": name for name in features.slices}
    for role, name in roles.items():
        if name not in examples.column_names:
            raise ConfigError(
                f"{SQL} yields no column {name!r} (`{role}` in project.yaml){nearest(name, examples.column_names)}",
                accepted=", ".join(examples.column_names),
                next_step=f"select it in {SQL}, or correct project.yaml",
            )
    return examples


def _input_types(examples: pa.Table, features: Features, by: str) -> dict[str, str]:
    """Each input column and its type: every column that has no other role."""
    others = {features.row, features.target, by, *features.exclude}
    inputs = {
        field.name: _input_type(field, examples[field.name]) for field in examples.schema if field.name not in others
    }
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
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    kind = field.type.value_type
    lengths = pc.list_value_length(column)
    shortest, longest = pc.min(lengths).as_py(), pc.max(lengths).as_py()
    if not (kinds.is_integer(kind) or kinds.is_floating(kind)) or shortest != longest or not shortest:
        raise ConfigError(
            f"{SQL}: input {field.name!r} is {field.type}, of {shortest} to {longest} items",
            accepted="arrays of numbers, all of one length",
            next_step="pad or cut them there, and cast them: such as pixels::double[64]",
        )
    return f"double[{shortest}]"


# --- the rows ---------------------------------------------------------------------------------------------------------


def _cast(examples: pa.Table, inputs: Mapping[str, str], features: Features) -> pa.Table:
    """Every input in its type, the target in its task's: 0 and 1, a whole number or a text, a number."""
    import pyarrow as pa
    import pyarrow.types as kinds

    arrow = {"string": pa.string(), "double": pa.float64(), "bigint": pa.int64()}
    wanted = {name: arrow[kind] for name, kind in inputs.items() if not is_array(kind)}
    given = examples.schema.field(features.target).type
    texts = features.task == "multiclass" and (kinds.is_string(given) or kinds.is_large_string(given))
    target = pa.string() if texts else pa.float64() if features.task == "regression" else pa.int64()
    wanted[features.target] = target
    for name, kind in inputs.items():
        if is_array(kind):
            column = examples.column_names.index(name)
            examples = examples.set_column(column, name, array_column(examples[name], width(kind)))
    try:
        return examples.cast(
            pa.schema([pa.field(field.name, wanted.get(field.name, field.type)) for field in examples.schema])
        )
    except pa.ArrowInvalid as error:
        accepted = {"binary": "a target of 0 and 1", "multiclass": "a target of whole numbers or texts"}
        raise GateError(
            f"{SQL}: {error}",
            accepted=f"whole numbers of 64 bits, and {accepted.get(features.task, 'a target of numbers')}",
            next_step=f"cast in {SQL}",
        ) from error


def array_column(column: pa.ChunkedArray, length: int) -> pa.FixedSizeListArray:
    """Arrays of one length as such; a missing one, or a missing number in one, is NaN."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = np.full((len(column), length), np.nan)
    there = pc.is_valid(column).to_numpy()
    flat = pc.cast(pc.list_flatten(column.drop_null()), pa.float64())
    rows[there] = flat.to_numpy(zero_copy_only=False).reshape(-1, length)
    return list_column(rows)


def _checked(examples: pa.Table, inputs: Mapping[str, str], features: Features) -> pa.Table:
    """`examples` ordered by `row`, if each has a key of its own, a target, and finite numbers.

    Raises:
        GateError: some have not.
    """
    import pyarrow.compute as pc

    if examples.num_rows == 0:
        raise GateError(f"{SQL} yields no rows", next_step="look at its joins and at `where`")
    for column in (features.row, features.target):
        if examples[column].null_count:
            raise GateError(
                f"{SQL}: {column!r} is missing in {examples[column].null_count} of {examples.num_rows} rows",
                accepted="a value in every row",
                next_step=f"leave those rows out in {SQL}",
            )
    _check_target(examples[features.target], features)
    for name, kind in inputs.items():
        numbers = pc.list_flatten(examples[name]) if is_array(kind) else examples[name]
        infinite = _count(pc.is_inf(numbers)) if kind not in {"string", "bigint"} else 0
        if infinite:
            raise GateError(f"{SQL}: {name!r} is infinite in {infinite} rows", accepted="finite numbers, or null")
    examples = examples.sort_by(features.row).combine_chunks()
    keys = examples[features.row]
    again = pc.equal(keys[1:], keys[:-1])
    if _count(again):
        raise GateError(
            f"{SQL}: {features.row!r} is not unique: {_count(again)} rows repeat a key, such as "
            f"{keys[1:].filter(again)[0].as_py()!r}",
            accepted="one row a key",
            next_step="look at the joins: does the right side have one row a key?",
        )
    return examples


def _check_target(target: pa.ChunkedArray, features: Features) -> None:
    import pyarrow.compute as pc

    if features.task == "binary":
        strays = _count(pc.invert(pc.or_(pc.equal(target, 0), pc.equal(target, 1))))
        if strays:
            raise GateError(f"{SQL}: {features.target!r} is neither 0 nor 1 in {strays} rows", accepted="0 or 1")
    elif features.task == "regression":
        strays = _count(pc.invert(pc.is_finite(target)))
        if strays:
            raise GateError(f"{SQL}: {features.target!r} is not finite in {strays} rows", accepted="finite numbers")


def _classes(examples: pa.Table, features: Features) -> tuple[int | str, ...]:
    """What the target may be, in ascending order.

    Raises:
        GateError: that is one class, or so many that it is none.
    """
    import pyarrow.compute as pc

    if features.task == "binary":
        return (0, 1)
    if features.task == "regression":
        return ()
    found: list[int | str] = sorted(pc.unique(examples[features.target]).to_pylist())
    if not 2 <= len(found) <= MOST_CLASSES:
        raise GateError(
            f"{SQL}: {features.target!r} has {len(found)} classes",
            accepted=f"2 to {MOST_CLASSES:,}",
            next_step="gather the rare ones in one there, or make it a regression",
        )
    return tuple(found)


def _summary(target: pa.ChunkedArray, task: str) -> dict[str, Any]:
    """What a split says of its target."""
    import pyarrow.compute as pc

    if task == "binary":
        return {"positives": _count(target) / len(target)}
    if task == "regression":
        return {"mean": float(pc.mean(target).as_py())}
    counted = {str(one["values"]): one["counts"] for one in pc.value_counts(target).to_pylist()}
    return {"classes": dict(sorted(counted.items()))}


def _by_time(examples: pa.Table, split: TimeSplit) -> dict[str, pa.Table]:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = examples[split.column]
    if column.null_count:
        raise GateError(
            f"{SQL}: {split.column!r} is missing in {column.null_count} rows, which cannot be split by time",
            accepted="a time in every row",
        )
    try:
        times = pc.cast(column, pa.timestamp("us"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(
            f"{SQL}: {split.column!r} is {column.type}: {error}",
            accepted="a date, a timestamp, or text in ISO 8601",
            next_step=f"cast it in {SQL}",
        ) from error
    valid_from, test_from = (
        pa.scalar(datetime.fromisoformat(text), pa.timestamp("us")) for text in (split.valid_from, split.test_from)
    )
    train, test = pc.less(times, valid_from), pc.greater_equal(times, test_from)
    valid = pc.invert(pc.or_(train, test))
    return {side: examples.filter(mask) for side, mask in zip(SIDES, (train, valid, test), strict=True)}


def _by_hash(examples: pa.Table, split: RandomSplit, seed: int) -> dict[str, pa.Table]:
    """Each key has a place in [0, 1) of its own, whatever other rows there are."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.types as kinds

    column = examples[split.key]
    if column.null_count or not (kinds.is_string(column.type) or kinds.is_integer(column.type)):
        raise GateError(
            f"{SQL}: the split's key {split.key!r} is {column.type}, missing in {column.null_count} rows",
            accepted="text or a whole number in every row",
        )
    keys = column.combine_chunks().dictionary_encode()
    places = np.array([_place(key, seed) for key in keys.dictionary.to_pylist()])[keys.indices.to_numpy()]
    edges = [split.valid, split.valid + split.test]
    valid, test = places < edges[0], (places >= edges[0]) & (places < edges[1])
    masks = (~(valid | test), valid, test)
    return {side: examples.filter(pa.array(mask)) for side, mask in zip(SIDES, masks, strict=True)}


def _place(key: object, seed: int) -> float:
    return int.from_bytes(hashlib.md5(f"{seed}:{key}".encode(), usedforsecurity=False).digest()[:8]) / 2**64


def _check_sides(sides: Mapping[str, pa.Table], features: Features, classes: tuple[int | str, ...]) -> None:
    import pyarrow.compute as pc

    target = features.target
    counts = ", ".join(f"{side} {table.num_rows}" for side, table in sides.items())
    for side, table in sides.items():
        if table.num_rows == 0:
            raise GateError(
                f"the split leaves {side} empty ({counts} rows)", next_step="correct `split` in project.yaml"
            )
        if features.task == "regression":
            continue
        found = pc.unique(table[target]).to_pylist()
        if len(found) == 1:
            raise GateError(
                f"{target!r} is {found[0]} in all {table.num_rows} rows of {side}",
                accepted="both classes in train, valid and test" if features.task == "binary" else "several classes",
                next_step="correct `split` in project.yaml, or bring more data",
            )
        if side == "train" and len(found) < len(classes):
            raise GateError(
                f"{target!r} is never {next(one for one in classes if one not in found)} in the rows of train",
                accepted="every class in train",
                next_step=f"correct `split` in project.yaml, or gather rare classes in one in {SQL}",
            )


def _count(flags: pa.ChunkedArray) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(flags).as_py() or 0)


# --- the files --------------------------------------------------------------------------------------------------------


def _write(sides: Mapping[str, pa.Table], inputs: Mapping[str, str], folder: Path) -> None:
    import pyarrow.parquet as pq

    for side, table in sides.items():
        pq.write_table(table, folder / f"{side}.parquet")
    profile = reference_profile(sides["train"], inputs)
    (folder / "reference.json").write_text(json.dumps(profile, indent=1))
