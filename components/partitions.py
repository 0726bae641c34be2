"""One partition of a project: on a branch of its own, and from there to `main`, beside others and without them.

What it changes are files that no other partition and no run of the project changes, so that they all merge.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from components.adapters.store_rules import VALIDATION
from components.errors import ConflictError, GateError
from components.ingest import described
from components.ledger import effect_key
from components.partition_settings import By, at, span
from components.publish import check_verdict
from components.records import Commit, Observation, Validation, digest, to_json
from components.source_adapters import open_source
from components.source_settings import AnyTable
from components.tables import (
    MAIN,
    PartitionContents,
    counted,
    data_digest,
    newest_partitions,
    partition_contents,
    partition_manifest,
    partitions,
)
from components.workspace import open_workspace

if TYPE_CHECKING:
    from components.ports import DataStore, Entry
    from components.workspace import Workspace

PARTITION = "partition"
"""The metadata of a commit that says of which partition it is."""


def ingest_partition(
    project: str,
    profile: str,
    partition: str,
    by: By,
    sources: dict[str, AnyTable],
    columns: dict[str, dict[str, str]],
    seen: Observation,
) -> Commit:
    """Commit what was seen of one partition to the branch `ingest/PROJECT/KEY`, in place of what `main` holds of it.

    Args:
        project: the folder in the store.
        profile: names the data store.
        partition: its key, `2013-01`.
        by: how long it is.
        sources: the tables that come by partitions, as project.yaml has them.
        columns: table -> column -> DuckDB type that the other partitions have where a type would be guessed.
        seen: what is there of the partition, from `observe`.

    Raises:
        NotFoundError, ConfigError, GateError, ConflictError, UnavailableError: as `ingest`.
    """
    workspace = open_workspace(profile)
    store, one = workspace.store, span(by, partition)
    with workspace.output() as out:
        puts: dict[str, Path] = {}
        rows: dict[str, int] = {}
        for name, source in sorted(sources.items()):
            folder = out.folder / name
            folder.mkdir()
            told = at(source, by, one)
            typed = told.model_copy(update={"columns": {**columns.get(name, {}), **told.columns}})
            arrived = open_source(workspace, project, name, typed).read(seen.tables[name], None, folder)
            table, _ = described(told, arrived, None)
            digests = {stamp.url: stamp.sha256 for stamp in arrived.stamps}
            made = PartitionContents(
                **{**dict(table), "origin": digest(source), "position": ""},
                stamps=tuple(stamp.model_copy(update={"sha256": digests[stamp.url]}) for stamp in seen.tables[name]),
            )
            rows[name] = made.rows
            path = puts[partition_manifest(project, name, partition)] = out.folder / f"{name}.json"
            path.write_text(made.model_dump_json(indent=1, exclude_defaults=True))
            puts |= {f"{project}/{name}/{partition}/{file}": local for file, local in arrived.files.items()}
        branch = f"ingest/{project}/{effect_key()[:12]}"
        if branch not in store.branches(branch):
            store.branch(branch, MAIN)
        revision = store.commit(
            branch,
            puts,
            deletes=_outdated(store, branch, project, partition, sources, puts),
            message=f"Ingest {project} {partition}: {counted(rows)}",
            metadata={"project": project, PARTITION: partition, "partition-rows": json.dumps(to_json(rows))},
            key=effect_key(),
            move=True,
        )
    files = _files(store, revision.id, project, partition)
    return Commit(id=revision.id, branch=branch, tree=data_digest(project, files), tables=rows)


def publish_partition(project: str, profile: str, partition: str, commit: Commit, validation: Validation) -> Commit:
    """Merge a partition into `main` atomically, and delete its branch; returns the commit of `main` that has it.

    Where `main` has got another state of this partition since, this one replaces it; nothing else is touched.

    Args:
        project: the folder in the store.
        profile: names the data store.
        partition: its key.
        commit: what `ingest_partition` made.
        validation: the verdict on that very data.

    Raises:
        GateError: the verdict is about other data, or other partitions have other columns.
        ConflictError: another machine published this partition in the same moment; nothing was written.
    """
    check_verdict(commit, validation, f"trilha backfill {project} --from {partition} --to {partition}")
    workspace = open_workspace(profile)
    store = workspace.store
    with workspace.lock(f"publish-{project}"):
        head = store.resolve(MAIN).id
        wanted = _files(store, commit.id, project, partition)
        if _files(store, head, project, partition) != wanted:
            _check_columns(store, project, partition, commit.id, head)
            head = _merge(store, project, partition, commit, validation, head, wanted)
    store.delete_branch(commit.branch)
    return Commit(id=head, branch=MAIN, tree=commit.tree, tables=commit.tables)


def tidy(workspace: Workspace, project: str, keys: Collection[str]) -> None:
    """Remove what tries of partitions have left on branches: of those that failed, and of those killed near the end.

    Args:
        workspace: its data store.
        project: the folder in it.
        keys: partitions that `main` holds as they are.
    """
    store = workspace.store
    for branch in store.branches(f"ingest/{project}/"):
        head = store.resolve(branch)  # a merge is main's own: nothing has been committed to the branch yet
        if len(head.parents) == 1 and head.metadata.get(PARTITION) in keys:
            store.delete_branch(branch)


def _merge(
    store: DataStore,
    project: str,
    partition: str,
    commit: Commit,
    validation: Validation,
    head: str,
    wanted: list[Entry],
) -> str:
    """Bring the partition to `main`, whose head is `head`; returns the new head. The key names the head too."""
    key = digest([effect_key(), head])
    message = f"Publish {project} {partition}: {counted(commit.tables)}"
    metadata = {"project": project, PARTITION: partition, VALIDATION: digest(validation), "ingest": commit.id}
    base = store.resolve(commit.id).parents[0]
    if _files(store, base, project, partition) == _files(store, head, project, partition):
        merged = store.merge(commit.id, MAIN, message=message, metadata=metadata, key=key)
        if _files(store, merged.id, project, partition) == wanted:
            return merged.id
        head = merged.id  # the commit is a part of main's history already, and was undone since
    branch = f"ingest/{project}/{key[:12]}"
    if branch not in store.branches(branch):
        store.branch(branch, head)
    there = {entry.path for entry in _files(store, head, project, partition)}
    paths = [entry.path for entry in wanted]
    store.commit(
        branch,
        {path: store.local(commit.id, path) for path in paths},
        deletes=sorted(there.difference(paths)),
        message=f"Bring back {project} {partition} as it was ingested in {commit.id}",
        metadata={"project": project, PARTITION: partition},
        key=key,
    )
    merged = store.merge(branch, MAIN, message=message, metadata=metadata, key=digest([key, "again"]))
    store.delete_branch(branch)
    if _files(store, merged.id, project, partition) != wanted:
        raise ConflictError(
            f"another machine published {project} {partition} in this moment",
            accepted="one backfill of a partition at a time",
            next_step=f"trilha backfill {project} --from {partition} --to {partition}",
        )
    return merged.id


def _files(store: DataStore, ref: str, project: str, partition: str) -> list[Entry]:
    """All that a commit holds of one partition, its tables' own files included."""
    described = [entry for entry in store.ls(ref, partitions(project)) if PurePosixPath(entry.path).stem == partition]
    tables = [PurePosixPath(entry.path).parent.name for entry in described]
    return described + [entry for table in tables for entry in store.ls(ref, f"{project}/{table}/{partition}")]


def _outdated(
    store: DataStore, ref: str, project: str, partition: str, tables: dict[str, AnyTable], puts: dict[str, Path]
) -> list[str]:
    """What goes: files that the partition had before, and those of a time when the table was ingested as a whole."""
    known = {PurePosixPath(entry.path).stem for entry in store.ls(ref, partitions(project))}
    gone = []
    for name in tables:
        folder = f"{project}/{name}/"
        for entry in store.ls(ref, folder.rstrip("/")):
            first, _, rest = entry.path.removeprefix(folder).partition("/")
            if entry.path not in puts and (first == partition or first not in known or not rest):
                gone.append(entry.path)
    return gone


def _check_columns(store: DataStore, project: str, partition: str, commit: str, head: str) -> None:
    """Refuse a partition that cannot be read together with the others."""
    others = newest_partitions(store, head, project, partition)
    for table, parts in partition_contents(store, commit, project, partition).items():
        ours, other = parts[partition].columns, others.get(table)
        if other is None or other.columns == ours:
            continue
        column = min({name for name, _ in ours.items() ^ other.columns.items()}, default="")
        why = f"column {column!r} is {ours.get(column, 'not there')}" if column else "the order is another"
        raise GateError(
            f"partition {partition} of table {table!r} has other columns than the others: {why}",
            accepted=", ".join(f"{name} {type_}" for name, type_ in other.columns.items()),
            next_step=f"correct the source, or `columns` in project.yaml; then trilha backfill {project} again",
        )
