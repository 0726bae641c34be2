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
from components.source_settings import Table
from components.sources import find
from components.tables import MAIN, Contents, TableContents, contents, counted, data_digest, manifest
from components.workspace import open_workspace

if TYPE_CHECKING:
    from components.ports import DataStore


def observe(sources: dict[str, Table]) -> Observation:
    """The files behind every table right now. It looks and does not read; it runs every time.

    Raises:
        ConfigError: a path is not accepted.
        NotFoundError: a path means no file.
        UnavailableError: a remote file system does not answer.
    """
    return Observation(tables={table: find(table, source) for table, source in sources.items()})


def ingest(project: str, profile: str, sources: dict[str, Table], seen: Observation) -> Commit:
    """Commit the files that were seen as Parquet to the branch `ingest/PROJECT/KEY`.

    Tables are streamed one after the other: memory does not grow with them. The same files give the same bytes. Where
    `main` holds those bytes already, its newest commit is the result and nothing is written.

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
    with workspace.output() as out:
        files: dict[str, Path] = {}
        tables, read = {}, {}
        for name in sorted(sources):
            tables[name], written, read[name] = _table(name, sources[name], seen.tables[name], out.folder / name)
            files |= {f"{project}/{name}/{file}": path for file, path in written.items()}
        now = observe(sources)
        if now != seen:
            raise ConflictError(
                f"{_changed(seen, now)} changed while it was read",
                accepted="files that stay as they are during the run",
                next_step="run again when it is complete",
            )
        path = out.folder / manifest(project)
        path.write_text(Contents(tables=tables).model_dump_json(indent=1))
        made, read_files = Contents(tables=tables), Observation(tables=read)
        return commit_tables(workspace.store, project, made, files, path, read_files, move=True)


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


def _changed(seen: Observation, now: Observation) -> str:
    before, after = ({stamp for stamps in found.tables.values() for stamp in stamps} for found in (seen, now))
    return min(stamp.url for stamp in before ^ after)


def commit_tables(
    store: DataStore,
    project: str,
    made: Contents,
    files: dict[str, Path],
    described: Path,
    seen: Observation,
    *,
    move: bool,
) -> Commit:
    """Write to `ingest/PROJECT/KEY` what `main` does not hold yet. Done again after a crash, it finds its own commit.

    Args:
        store: where to.
        project: the folder in it.
        made: what the tables are.
        files: path in the store -> file.
        described: a file with `made`.
        seen: where the tables come from, with digests.
        move: the files may be taken over.
    """
    digests = {
        f"{project}/{name}/{file}": digest
        for name, table in made.tables.items()
        for file, digest in table.files.items()
    }
    tree = data_digest(project, [Entry(path, digest, files[path].stat().st_size) for path, digest in digests.items()])
    if contents(store, MAIN, project) == made:
        return Commit(id=store.resolve(MAIN).id, branch=MAIN, tree=tree, tables=made.rows)
    branch = f"ingest/{project}/{effect_key()[:12]}"
    if branch not in store.branches(branch):
        store.branch(branch, MAIN)
    there = {entry.path: entry.sha256 for entry in store.ls(branch, project)}
    revision = store.commit(
        branch,
        {
            manifest(project): described,
            **{path: file for path, file in files.items() if there.get(path) != digests[path]},
        },
        deletes=sorted(there.keys() - digests),
        message=f"Ingest {project}: {counted(made.rows)}",
        metadata={
            "project": project,
            "sources": json.dumps(to_json(seen.tables)),
            "rows": json.dumps(made.rows),
        },
        key=effect_key(),
        move=move,
    )
    return Commit(id=revision.id, branch=branch, tree=tree, tables=made.rows)
