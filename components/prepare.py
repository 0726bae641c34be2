"""Prepare: run `features.sql` on the published commit, split its rows, and profile what the model will learn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ConfigError, GateError, nearest
from components.model_inputs import RESERVED
from components.project import Features, RandomSplit, TimeSplit
from components.records import Commit, Prepared, Split
from components.reference import reference_profile
from components.workspace import open_workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from components.ports import DataStore

SQL = "features.sql"
SIDES = ("train", "valid", "test")


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
    tables = _tables(workspace.store, commit, project)
    by = split.column if isinstance(split, TimeSplit) else split.key
    examples = _examples(workspace.profile.sql, tables, features, by)
    inputs = _input_types(examples, features, by)
    examples = _checked(_cast(examples, inputs, features), inputs, features)
    sides = _by_time(examples, split) if isinstance(split, TimeSplit) else _by_hash(examples, split, seed)
    _check_sides(sides, features.target)
    with workspace.output() as out:
        _write(sides, inputs, out.folder)
        files = out.publish()
    made = {
        side: Split(
            file=files[f"{side}.parquet"],
            rows=table.num_rows,
            positives=_count(table[features.target]) / table.num_rows,
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
    )


# --- the query --------------------------------------------------------------------------------------------------------


def _tables(store: DataStore, commit: Commit, project: str) -> dict[str, list[Path]]:
    """Each table's Parquet files: the store keeps `PROJECT/TABLE/...parquet`."""
    found: dict[str, list[Path]] = {}
    for entry in store.ls(commit.id, project):
        table = entry.path.removeprefix(f"{project}/").split("/", 1)[0]
        found.setdefault(table, []).append(store.local(commit.id, entry.path))
    return found


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
    inputs = {field.name: _input_type(field) for field in examples.schema if field.name not in others}
    taken = sorted(RESERVED & set(inputs))
    if taken:
        raise ConfigError(
            f"{SQL}: an input cannot be called {taken[0]!r}",
            accepted="a name other than " + ", ".join(sorted(RESERVED)),
            next_step="rename it with `as`, or list it under `exclude`",
        )
    if not inputs:
        raise ConfigError(f"{SQL} yields nothing to learn from", accepted="at least one column that is not excluded")
    return inputs


def _input_type(field: pa.Field) -> str:
    import pyarrow.types as kinds

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
        f"{SQL}: input {field.name!r} is {field.type}", accepted="string, double, bigint", next_step=known
    )


# --- the rows ---------------------------------------------------------------------------------------------------------


def _cast(examples: pa.Table, inputs: Mapping[str, str], features: Features) -> pa.Table:
    """Every input in its type, the target as 0 and 1."""
    import pyarrow as pa

    arrow = {"string": pa.string(), "double": pa.float64(), "bigint": pa.int64()}
    wanted = {**{name: arrow[kind] for name, kind in inputs.items()}, features.target: pa.int64()}
    try:
        return examples.cast(
            pa.schema([pa.field(field.name, wanted.get(field.name, field.type)) for field in examples.schema])
        )
    except pa.ArrowInvalid as error:
        raise GateError(
            f"{SQL}: {error}", accepted="whole numbers of 64 bits, and a target of 0 and 1", next_step=f"cast in {SQL}"
        ) from error


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
    target = examples[features.target]
    strays = _count(pc.invert(pc.or_(pc.equal(target, 0), pc.equal(target, 1))))
    if strays:
        raise GateError(f"{SQL}: {features.target!r} is neither 0 nor 1 in {strays} rows", accepted="0 or 1")
    for name, kind in inputs.items():
        infinite = _count(pc.is_inf(examples[name])) if kind == "double" else 0
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


def _check_sides(sides: Mapping[str, pa.Table], target: str) -> None:
    counts = ", ".join(f"{side} {table.num_rows}" for side, table in sides.items())
    for side, table in sides.items():
        positives = _count(table[target])
        if table.num_rows == 0:
            raise GateError(
                f"the split leaves {side} empty ({counts} rows)", next_step="correct `split` in project.yaml"
            )
        if positives in (0, table.num_rows):
            raise GateError(
                f"{target!r} is {int(positives > 0)} in all {table.num_rows} rows of {side}",
                accepted="both classes in train, valid and test",
                next_step="correct `split` in project.yaml, or bring more data",
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
