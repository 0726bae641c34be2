"""Ingest: the project's sources, as they are now, as Parquet on a branch of their own. Nothing reaches `main` here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts import sha256
from components.data_ports import Held
from components.ledger import effect_key
from components.ports import NOWHERE, Address
from components.records import Commit, Observation, digest, to_json
from components.source_adapters import open_source
from components.source_settings import AnyTable
from components.stream_tables import grows, observed_commit
from components.tables import (
    MAIN,
    Contents,
    TableContents,
    contents,
    counted,
    data_digest,
    fed,
    manifest,
    outlived,
)
from components.workspace import open_workspace

if TYPE_CHECKING:
    from components.data_ports import Arrived
    from components.ports import DataStore, Entry


def observe(project: str, profile: str, sources: dict[str, AnyTable]) -> Observation:
    """What is behind every table right now. It looks and does not read; it runs every time.

    Of a table that is fed by a stream, or by partitions, it is what `main` holds.

    Raises:
        ConfigError: a source's settings are not accepted.
        NotFoundError: there is nothing where one says.
        GateError: there are no rows.
        UnavailableError: a file system or a database does not answer.
    """
    workspace = open_workspace(profile)
    return Observation(
        tables={table: open_source(workspace, project, table, one).look() for table, one in sources.items()}
    )


def ingest(project: str, profile: str, sources: dict[str, AnyTable], seen: Observation) -> Commit:
    """Commit what was seen as Parquet to the branch `ingest/PROJECT/KEY`.

    Tables are streamed one after the other: memory does not grow with them. The same sources give the same bytes; of
    one that says how far it was read, only what came since is read, and lies beside what `main` holds of it. Where
    `main` holds all of it already, its newest commit is the result and nothing is written. Tables that are fed by
    streams, or by partitions, stay as they were seen.

    Args:
        project: the folder in the store; what it held before and is not produced any more is deleted.
        profile: names the data store.
        sources: table -> where it comes from.
        seen: what is there, from `observe`.

    Raises:
        NotFoundError: a source is gone.
        ConfigError: a format, a declared type or a partition column is not accepted.
        GateError: something cannot be read as what it should be; names file, line and column.
        ConflictError: a source changed while it was read.
        UnavailableError: a source does not answer, or the disk is full.
    """
    workspace = open_workspace(profile)
    store = workspace.store
    live = {name: seen.tables[name] for name, source in sources.items() if grows(source)}
    base = observed_commit(store, project, live)
    before = contents(store, base, project) or Contents(tables={})
    with workspace.output() as out:
        tables, read = {}, {}
        wanted: dict[str, str] = {}
        addresses: dict[str, Address] = {}
        files: dict[str, Path] = {}
        for name in sorted(sources):
            there = {entry.path: entry for entry in store.ls(base, f"{project}/{name}")}
            held = _held(f"{project}/{name}/", sources[name], before.tables.get(name), there)
            folder = out.folder / name
            folder.mkdir()
            arrived = open_source(workspace, project, name, sources[name]).read(seen.tables[name], held, folder)
            tables[name], digests = described(sources[name], arrived, held)
            wanted |= {f"{project}/{name}/{file}": sha for file, sha in digests.items()}
            new = {**arrived.files, **{file: path for file, (path, _) in arrived.objects.items()}}
            files |= {f"{project}/{name}/{file}": path for file, path in new.items()}
            addresses |= {f"{project}/{name}/{file}": one for file, one in arrived.addresses.items()}
            read[name] = arrived.stamps
        made = Contents(tables={name: table for name, table in tables.items() if name not in live})
        path = out.folder / manifest(project)
        path.write_text(made.text())
        start = base if live else MAIN
        return commit_tables(
            store, project, made, wanted, files, path, Observation(tables=read), base, start, addresses
        )


def _held(folder: str, source: AnyTable, table: TableContents | None, there: Mapping[str, Entry]) -> Held | None:
    """What `main` holds of a table, for its source."""
    if table is None:
        return None
    return Held(
        entries={path.removeprefix(folder): entry for path, entry in there.items()},
        columns=table.columns,
        rows=table.rows,
        position=table.position if table.origin == digest(source) else "",
    )


def described(source: AnyTable, arrived: Arrived, held: Held | None) -> tuple[TableContents, dict[str, str]]:
    """What the table is, and SHA-256 by name of all that lies in its folder."""
    kept = {name: held.entries[name].sha256 for name in arrived.kept} if held else {}
    own = {**kept, **{name: sha256(path) for name, path in arrived.files.items()}}
    table = TableContents(
        rows=arrived.rows,
        columns=dict(arrived.columns),
        declared=tuple(sorted(source.columns)),
        files={name: own[name] for name in sorted(own) if name.endswith(".parquet")},
        origin=digest(source) if arrived.position else "",
        position=arrived.position,
    )
    return table, own | {name: sha for name, (_, sha) in arrived.objects.items()}


def commit_tables(
    store: DataStore,
    project: str,
    made: Contents,
    wanted: Mapping[str, str],
    files: Mapping[str, Path],
    described: Path,
    seen: Observation,
    base: str | None = None,
    start: str = MAIN,
    addresses: Mapping[str, Address] = NOWHERE,
) -> Commit:
    """Write to `ingest/PROJECT/KEY` what `main` does not hold yet. Done again after a crash, it finds its own commit.

    Args:
        store: where to.
        project: the folder in it.
        made: what the tables are, but for those that are fed by streams or by partitions.
        wanted: path in the store -> SHA-256.
        files: path in the store -> file. Where there is a `base`, they may be taken over.
        described: a file with `made`, in a folder for more.
        seen: where the tables come from, with digests.
        base: the commit that has the files of `wanted` that are not among `files`.
        start: the commit of `main` to begin from.
        addresses: where the store has some of `files` already.
    """
    live = {
        name: table for name, table in fed(store, start, project).items() if name in seen.tables.keys() - made.tables
    }
    whole = Contents(tables={**made.tables, **live})
    if contents(store, start, project) == whole:
        return _commit(store, project, store.resolve(start).id, MAIN, whole)
    branch = f"ingest/{project}/{effect_key()[:12]}"
    if branch not in store.branches(branch):
        store.branch(branch, start)
    there = {entry.path: entry.sha256 for entry in store.ls(branch, project)}
    lacking = [path for path, sha in wanted.items() if there.get(path) != sha]
    revision = store.commit(
        branch,
        {manifest(project): described}
        | {path: files[path] if path in files else _copied(store, base, path, described) for path in lacking},
        deletes=[
            *sorted(there.keys() - wanted),
            *outlived(store, branch, project, live),
        ],
        message=f"Ingest {project}: {counted(made.rows)}",
        metadata={
            "project": project,
            "sources": json.dumps(to_json(seen.tables)),
            "rows": json.dumps(made.rows),
        },
        key=effect_key(),
        move=base is not None,
        addresses=addresses,
    )
    return _commit(store, project, revision.id, branch, contents(store, revision.id, project) or whole)


def _copied(store: DataStore, base: str | None, path: str, beside: Path) -> Path:
    """A copy of a file that `base` has and the branch has not: it is of an attempt before, or of a newer main."""
    assert base is not None
    return Path(shutil.copyfile(store.local(base, path), beside.with_name(path.replace("/", "+"))))


def _commit(store: DataStore, project: str, revision: str, branch: str, made: Contents) -> Commit:
    tree = data_digest(project, store.ls(revision, project))
    return Commit(id=revision, branch=branch, tree=tree, tables=made.rows)
