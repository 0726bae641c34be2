"""Ingest: the project's sources, as they are now, as Parquet on a branch of their own. Nothing reaches `main` here."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts import sha256
from components.errors import ConflictError
from components.ledger import effect_key
from components.ports import Entry
from components.records import Commit, FileStamp, Observation, to_json
from components.source_settings import Source, Table
from components.sources import find
from components.stream_settings import StreamTable
from components.stream_tables import observe_stream, observed_commit
from components.tables import (
    MAIN,
    Contents,
    TableContents,
    contents,
    counted,
    data_digest,
    fed,
    manifest,
    stream_manifest,
)
from components.workspace import open_workspace

if TYPE_CHECKING:
    from components.ports import DataStore


def observe(project: str, profile: str, sources: dict[str, Source]) -> Observation:
    """The files behind every table right now. It looks and does not read; it runs every time.

    Of a table that is fed by a stream, it is what `main` holds.

    Raises:
        ConfigError: a path is not accepted.
        NotFoundError: a path means no file, or nothing has come through a stream yet.
        UnavailableError: a remote file system does not answer.
    """
    return Observation(
        tables={
            name: observe_stream(open_workspace(profile).store, project, name)
            if isinstance(source, StreamTable)
            else find(name, source)
            for name, source in sources.items()
        }
    )


def ingest(project: str, profile: str, sources: dict[str, Source], seen: Observation) -> Commit:
    """Commit the files that were seen as Parquet to the branch `ingest/PROJECT/KEY`.

    Tables are streamed one after the other: memory does not grow with them. The same files give the same bytes. Where
    `main` holds those bytes already, its newest commit is the result and nothing is written. Tables that are fed by
    streams stay as they were seen.

    Args:
        project: the folder in the store; what it held before and is not produced any more is deleted.
        profile: names the data store.
        sources: table -> where it comes from.
        seen: the files, from `observe`.

    Raises:
        NotFoundError: a file is gone.
        ConfigError: a format, a declared type or a partition column is not accepted.
        GateError: a file cannot be read as what it should be; names file, line and column.
        ConflictError: a file changed while it was read.
        UnavailableError: a file system does not answer, or the disk is full.
    """
    workspace = open_workspace(profile)
    live = {name: seen.tables[name] for name, source in sources.items() if isinstance(source, StreamTable)}
    base = observed_commit(workspace.store, project, live)
    with workspace.output() as out:
        files: dict[str, Path] = {}
        tables, read = {}, dict(live)
        whole = {name: source for name, source in sources.items() if isinstance(source, Table)}
        for name in sorted(whole):
            tables[name], written, read[name] = _table(name, whole[name], seen.tables[name], out.folder / name)
            files |= {f"{project}/{name}/{file}": path for file, path in written.items()}
        now = {name: find(name, source) for name, source in whole.items()}
        if {**now, **live} != seen.tables:
            raise ConflictError(
                f"{_changed(seen.tables, {**now, **live})} changed while it was read",
                accepted="files that stay as they are during the run",
                next_step="run again when it is complete",
            )
        path = out.folder / manifest(project)
        path.write_text(Contents(tables=tables).model_dump_json(indent=1))
        made, read_files = Contents(tables=tables), Observation(tables=read)
        return commit_tables(workspace.store, project, made, files, path, read_files, base=base, move=True)


def _table(
    name: str, source: Table, stamps: tuple[FileStamp, ...], folder: Path
) -> tuple[TableContents, dict[str, Path], tuple[FileStamp, ...]]:
    """One table as Parquet below `folder`: what it is, file name -> file, and the digests of what it was read from."""
    from components.adapters.duckdb_reader import to_parquet
    from components.staging import digests, stage

    staged = folder / "staged"
    staged.mkdir(parents=True)
    local = stage(name, source, stamps, staged)
    with ThreadPoolExecutor(1) as beside:  # reading is slower than hashing, and both read the same pages
        hashing = beside.submit(digests, stamps, staged)
        converted = to_parquet(name, source, local, folder)
        read = tuple(
            stamp.model_copy(update={"sha256": digest}) for stamp, digest in zip(stamps, hashing.result(), strict=True)
        )
    files = {file: converted.files[file] for file in sorted(converted.files)}
    described = TableContents(
        rows=converted.rows,
        columns=converted.columns,
        declared=tuple(sorted(source.columns)),
        files={file: sha256(path) for file, path in files.items()},
    )
    return described, files, read


def _changed(seen: dict[str, tuple[FileStamp, ...]], now: dict[str, tuple[FileStamp, ...]]) -> str:
    before, after = ({stamp for stamps in found.values() for stamp in stamps} for found in (seen, now))
    return min(stamp.url for stamp in before ^ after)


def commit_tables(
    store: DataStore,
    project: str,
    made: Contents,
    files: dict[str, Path],
    described: Path,
    seen: Observation,
    *,
    base: str = MAIN,
    move: bool,
) -> Commit:
    """Write to `ingest/PROJECT/KEY` what `main` does not hold yet. Done again after a crash, it finds its own commit.

    Args:
        store: where to.
        project: the folder in it.
        made: what the tables are; those that are fed by streams are not among them, and stay as `base` has them.
        files: path in the store -> file.
        described: a file with `made`.
        seen: where the tables come from, with digests.
        base: the commit of `main` to begin from.
        move: the files may be taken over.
    """
    base = store.resolve(base).id
    before = fed(store, base, project)
    live = {name: table for name, table in before.items() if name in seen.tables.keys() - made.tables}
    digests = {
        f"{project}/{name}/{file}": digest
        for name, table in made.tables.items()
        for file, digest in table.files.items()
    }
    there = {entry.path: entry for entry in store.ls(base, project)}
    kept = {path: entry for path, entry in there.items() if path.split("/")[1] in live}
    written = [Entry(path, digest, files[path].stat().st_size) for path, digest in digests.items()]
    tree = data_digest(project, [*written, *kept.values()])
    whole = Contents(tables={**made.tables, **live})
    if contents(store, base, project) == whole:
        return Commit(id=base, branch=MAIN, tree=tree, tables=whole.rows)
    branch = f"ingest/{project}/{effect_key()[:12]}"
    if branch not in store.branches(branch):
        store.branch(branch, base)
    revision = store.commit(
        branch,
        {
            manifest(project): described,
            **{path: file for path, file in files.items() if path not in there or there[path].sha256 != digests[path]},
        },
        deletes=[
            *sorted(there.keys() - digests.keys() - kept.keys()),
            *(stream_manifest(project, name) for name in sorted(before.keys() - live)),
        ],
        message=f"Ingest {project}: {counted(made.rows)}",
        metadata={
            "project": project,
            "sources": json.dumps(to_json(seen.tables)),
            "rows": json.dumps(made.rows),
        },
        key=effect_key(),
        move=move,
    )
    return Commit(id=revision.id, branch=branch, tree=tree, tables=whole.rows)
