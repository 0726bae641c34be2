"""Features known by entity: a table of them goes with each release, and into a store that answers at once.

The table is made of the very rows that the model learned from and was judged by, so what completes a request is what
`features.sql` said. It lies in the store under its own digest, which the release's manifest names: whoever answers with
a release reads that release's table, and the same table is written once, however many releases have it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from components.answers import matrix
from components.errors import ConfigError, GateError
from components.online_settings import OnlineFeatures
from components.project import RandomSplit, TimeSplit
from components.records import OnlineTable, Prepared, Release
from components.releases import releases
from components.serving import whole
from components.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

FILE: Final = "online.parquet"
_pack, _unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[Any]).decode


def materialize(
    project: str, profile: str, prepared: Prepared, features: OnlineFeatures, split: TimeSplit | RandomSplit
) -> OnlineTable:
    """The features of each entity as a file, and in the store of features, where nobody looks for it yet.

    Args:
        project: whose they are.
        profile: names the files and the store.
        prepared: the rows.
        features: which columns name an entity, and which are known of it.
        split: the column of time that says which row is an entity's latest.

    Raises:
        ConfigError: a column is not there, or is none that can be known so.
        GateError: rows of one entity do not agree, and no time says which is the latest.
        UnavailableError: the store does not answer.
    """
    import pyarrow.parquet as pq

    workspace = open_workspace(profile)
    rows, entity = _rows(workspace, prepared, features, split)
    rows = rows.take(_latest(rows, features, split)).select([*features.key, *features.columns])
    with workspace.output() as out:
        pq.write_table(rows, out.folder / FILE)
        file = out.publish()[FILE]
    table = OnlineTable(entity=entity, columns=features.columns, rows=rows.num_rows, file=file)
    _place(workspace, project, table)
    return table


# --- the rows ---------------------------------------------------------------------------------------------------------


def _rows(
    workspace: Workspace, prepared: Prepared, features: OnlineFeatures, split: TimeSplit | RandomSplit
) -> tuple[pa.Table, dict[str, str]]:
    """All rows that name an entity, by time, and the entity's columns with their types."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for name in features.columns:
        if name not in prepared.features:
            raise ConfigError(
                f"online.features: {name!r} is no input of the model", accepted=", ".join(prepared.features)
            )
    paths = [workspace.artifacts.local(one.file) for one in (prepared.train, prepared.valid, prepared.test)]
    entity = _entity(pq.read_schema(paths[0]), features)
    by = [split.column] if isinstance(split, TimeSplit) else []
    wanted = list(dict.fromkeys([*features.key, *features.columns, prepared.row, *by]))
    rows = pa.concat_tables([pq.read_table(path, columns=wanted) for path in paths]).combine_chunks()
    for name, kind in entity.items():
        plain = pc.cast(rows[name], pa.string() if kind == "string" else pa.int64())
        rows = rows.set_column(wanted.index(name), name, plain).filter(pc.is_valid(plain))
    for name in by:
        rows = rows.set_column(wanted.index(name), name, pc.cast(rows[name], pa.timestamp("us")))
    return rows.sort_by([(name, "ascending") for name in (*by, prepared.row)]), entity


def _entity(schema: pa.Schema, features: OnlineFeatures) -> dict[str, str]:
    """The columns of the entity, with their types as features have them.

    Raises:
        ConfigError: one is not there, or is neither text nor whole numbers.
    """
    import pyarrow.types as kinds

    entity = {}
    for name in features.key:
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and (kinds.is_string(kind) or kinds.is_large_string(kind)):
            entity[name] = "string"
        elif kind is not None and kinds.is_integer(kind) and not kinds.is_uint64(kind):
            entity[name] = "bigint"
        else:
            raise ConfigError(
                f"online.features: the entity's column {name!r} is {kind or 'not there'}",
                accepted="text or whole numbers that features.sql yields",
                next_step="select it there, with a cast to varchar or bigint",
            )
    return entity


def _latest(rows: pa.Table, features: OnlineFeatures, split: TimeSplit | RandomSplit) -> npt.NDArray[np.int64]:
    """The place of each entity's latest row, in the order of the entities.

    Raises:
        GateError: there is no time, and an entity has rows that differ.
    """
    import numpy as np
    import pyarrow as pa

    by_entity = [(name, "ascending") for name in features.key]
    keys = rows.select(list(features.key)).append_column("place", pa.array(np.arange(rows.num_rows)))
    if isinstance(split, RandomSplit):
        order = keys.sort_by(by_entity)["place"].to_numpy()
        _check_agreement(rows.take(order), features)
    grouped = keys.group_by(list(features.key), use_threads=False).aggregate([("place", "max")])
    latest: npt.NDArray[np.int64] = grouped.sort_by(by_entity)["place_max"].to_numpy()
    return latest


def _check_agreement(rows: pa.Table, features: OnlineFeatures) -> None:
    """Without time, all rows of an entity have to say the same; they come entity by entity."""
    import numpy as np

    same = np.logical_and.reduce([_as_before(rows[name]) for name in features.key])
    for name in features.columns:
        odd = np.flatnonzero(same & ~_as_before(rows[name]))
        if len(odd):
            named = ", ".join(f"{key} {rows[key][int(odd[0])].as_py()!r}" for key in features.key)
            first, second = (rows[name][int(odd[0]) + step].as_py() for step in (0, 1))
            raise GateError(
                f"online.features: of {named}, {name!r} is {first!r} in one row and {second!r} in another",
                accepted="one value an entity, or a split by time, by which the latest row counts",
                next_step=f"leave {name!r} out, or make it one value an entity in features.sql",
            )


def _as_before(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Of each row but the first, whether it holds what the row before holds; missing is missing."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_fixed_size_list(column.type):
        numbers = matrix(column)
        return np.asarray(
            ((numbers[1:] == numbers[:-1]) | (np.isnan(numbers[1:]) & np.isnan(numbers[:-1]))).all(axis=1)
        )
    gone = pc.is_null(column, nan_is_null=True)
    equal = pc.fill_null(pc.equal(column[1:], column[:-1]), False)
    return np.asarray(pc.or_(equal, pc.and_(gone[1:], gone[:-1])))


# --- the store --------------------------------------------------------------------------------------------------------


def ensure(workspace: Workspace, release: Release) -> None:
    """See that the release's table is in the store: that may be another one by now, or have lost what it had.

    Raises:
        NotFoundError: the table's file is gone.
        UnavailableError: the store does not answer.
    """
    if release.online is not None:
        _place(workspace, release.project, release.online)


def tidy(workspace: Workspace, release: Release) -> None:
    """Drop the tables of releases that no gateway asks any more.

    The newest ones stay, `release`, which serves, and whatever answers beside it, however old that is.

    Raises:
        UnavailableError: the store does not answer.
    """
    from components.gateway.catalogue import KEPT
    from components.versions import answering

    project = release.project
    known = list(islice(releases(workspace.store, project), KEPT + 1))
    if not any(one.online for one in known):
        return
    asked = [*known[:KEPT], release, *answering(workspace.store, release)]
    kept = {one.online.digest for one in asked if one.online is not None}
    for digest in workspace.features.tables(project) - kept:
        workspace.features.drop(project, digest)


def _place(workspace: Workspace, project: str, table: OnlineTable) -> None:
    """Write the table into the store, whole or not at all, where it is not there."""
    store = workspace.features
    if not store.has(project, table.digest):
        store.write(project, table.digest, _pairs(whole(workspace, table.file), table))


def _pairs(path: Path, table: OnlineTable) -> Iterator[tuple[bytes, bytes]]:
    """Each entity's key and what is known of it, as bytes; one pass over the file."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches():
        keys = zip(*(batch[name].to_pylist() for name in table.entity), strict=True)
        values = zip(*(batch[name].to_pylist() for name in table.columns), strict=True)
        for key, value in zip(keys, values, strict=True):
            yield key_of(key), _pack(value)


def key_of(values: Sequence[Any]) -> bytes:
    """The key of an entity, from the values of its columns: text, or a whole number in whatever form it came."""
    plain = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def known(value: bytes) -> list[Any]:
    """What is known of an entity, in the order of the table's columns."""
    return _unpack(value)
