"""Adopt: the project's tables, as a commit of the data store holds them, on a branch of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.errors import GateError
from components.ingest import commit_tables
from components.records import Commit, FileStamp, Observation
from components.source_settings import AnyTable, Table
from components.tables import COMMIT, Contents, TableContents, manifest
from components.workspace import open_workspace

if TYPE_CHECKING:
    from pathlib import Path

    from components.ports import DataStore, Entry


def adopt(project: str, profile: str, sources: dict[str, AnyTable], commit: str) -> Commit:
    """Commit the tables that others committed to the branch `ingest/PROJECT/KEY`, on top of `main`.

    The Parquet files stay as they are, byte for byte; what else the commit holds is left out. Where `main` holds the
    same tables already, its newest commit is the result and nothing is written.

    Args:
        project: the folder in the store: `PROJECT/TABLE/*.parquet`.
        profile: names the data store.
        sources: table -> its declared types; where a table usually comes from makes no difference here.
        commit: the id of the commit.

    Raises:
        NotFoundError: the commit, or the bytes of a file, are not there.
        ConfigError: a declared type does not exist.
        GateError: a table is missing, or its files are not what project.yaml says.
        UnavailableError: the store cannot be reached, or the disk is full.
    """
    from components.adapters.duckdb_reader import described

    workspace = open_workspace(profile)
    store = workspace.store
    listed = {name: _files(store, project, name, commit) for name in sorted(sources)}
    missing = sorted(name for name, entries in listed.items() if not entries)
    if missing:
        raise GateError(
            f"commit {commit[:12]} has no table {missing[0]!r} of {project}: no {project}/{missing[0]}/*.parquet",
            accepted=f"a commit with {', '.join(listed)}",
            next_step=f"trilha data ls {commit[:12]} {project}; commit every table that project.yaml names",
        )
    with workspace.output() as out:
        tables: dict[str, TableContents] = {}
        files: dict[str, Path] = {}
        for name, entries in listed.items():
            folder = f"{project}/{name}/"
            local = {entry.path.removeprefix(folder): store.local(commit, entry.path) for entry in entries}
            found = described(name, Table(path=commit, columns=sources[name].columns), local, out.folder)
            tables[name] = TableContents(
                rows=found.rows,
                columns=found.columns,
                declared=tuple(sorted(sources[name].columns)),
                files={file: entry.sha256 for file, entry in zip(local, entries, strict=True)},
            )
            files |= {f"{folder}{file}": path for file, path in local.items()}
        path = out.folder / manifest(project)
        path.write_text(Contents(tables=tables).text())
        seen = Observation(tables={name: _stamps(commit, entries) for name, entries in listed.items()})
        wanted = {entry.path: entry.sha256 for entries in listed.values() for entry in entries}
        return commit_tables(store, project, Contents(tables=tables), wanted, files, path, seen)


def _files(store: DataStore, project: str, table: str, commit: str) -> list[Entry]:
    return [entry for entry in store.ls(commit, f"{project}/{table}") if entry.path.endswith(".parquet")]


def _stamps(commit: str, entries: list[Entry]) -> tuple[FileStamp, ...]:
    """Where a table comes from, for the trail."""
    return tuple(
        FileStamp(url=f"{COMMIT}{commit}/{entry.path}", size=entry.size, stamp=entry.sha256, sha256=entry.sha256)
        for entry in entries
    )
