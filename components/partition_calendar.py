"""Which partitions of a project are there, and which are missing, failed or stale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from components.errors import ConfigError, GateError, NotFoundError
from components.partition_settings import By, Span, at, per_partition
from components.records import FileStamp, Observation, Record, digest
from components.source_adapters import open_source
from components.tables import MAIN, PartitionContents, partition_contents

if TYPE_CHECKING:
    from components.project import Project
    from components.runs import NodeState
    from components.source_settings import AnyTable
    from components.workspace import Workspace

State = Literal["there", "stale", "failed", "missing"]
"""`there`: `main` holds it as the source is now. `stale`: the source, or what project.yaml says of it, has changed
since. `failed`: the last try did not get it to `main`. `missing`: `main` does not hold it."""
SIGNS: Mapping[State, str] = {"there": "#", "stale": "~", "failed": "x", "missing": "."}
SIDE_BY_SIDE = 8
"""Partitions whose sources are looked at in the same moment."""


class PartitionState(Record):
    """One partition. `ready`: its sources are there, so that it can be ingested."""

    key: str
    state: State
    ready: bool
    rows: int
    why: str = ""
    failure: dict[str, object] | None = None
    """Of `failed`: the error for machines."""


def partitioned(project: Project) -> tuple[By, dict[str, AnyTable]]:
    """How long a project's partitions are, and the tables that come so.

    Raises:
        ConfigError: there are none.
    """
    by = project.file.partition
    if by is None:
        raise ConfigError(
            f"project {project.name} is not partitioned",
            accepted="a project with `partition`, in project.yaml",
            next_step="docs/how-to/backfill.md",
        )
    return by, {name: source for name, source in project.file.sources.items() if per_partition(source)}


def calendar(
    workspace: Workspace, project: Project, spans: Sequence[Span], failed: Mapping[str, NodeState]
) -> list[PartitionState]:
    """How each of `spans` stands right now; sources are looked at and not read.

    Args:
        workspace: its data store.
        project: its sources.
        spans: the partitions.
        failed: key -> the step that failed, where the last try of a partition did.

    Raises:
        ConfigError, UnavailableError: a source cannot be looked at.
    """
    by, sources = partitioned(project)
    held = partition_contents(workspace.store, MAIN, project.name)

    def state(one: Span) -> PartitionState:
        parts = {table: held.get(table, {}).get(one.key) for table in sources}
        rows = sum(part.rows for part in parts.values() if part)
        seen, why = _seen(workspace, project.name, {table: at(source, by, one) for table, source in sources.items()})
        stale = _stale(sources, parts, seen)
        if not stale:
            return PartitionState(key=one.key, state="there", ready=seen is not None, rows=rows, why=why)
        some = any(parts.values())
        last = failed.get(one.key)
        if last is not None:
            beside = f"; {MAIN} holds it as it was before" if some else ""
            words = f"{last.step.rpartition(':')[2]}: {last.error}{beside}"
            return PartitionState(
                key=one.key, state="failed", ready=seen is not None, rows=rows, why=words, failure=last.failure
            )
        told = stale if some else why or "its source is there"
        return PartitionState(
            key=one.key, state="stale" if some else "missing", ready=seen is not None, rows=rows, why=told
        )

    with ThreadPoolExecutor(SIDE_BY_SIDE, "look") as pool:
        return list(pool.map(state, spans))


def _seen(workspace: Workspace, project: str, sources: dict[str, AnyTable]) -> tuple[Observation | None, str]:
    """What is behind the tables of one partition; or why there is not all of it."""
    tables: dict[str, tuple[FileStamp, ...]] = {}
    for name, source in sources.items():
        try:
            tables[name] = open_source(workspace, project, name, source).look()
        except (GateError, NotFoundError) as error:  # no file, no rows
            return None, error.problem
    return Observation(tables=tables), ""


def _stale(
    sources: Mapping[str, AnyTable], parts: Mapping[str, PartitionContents | None], seen: Observation | None
) -> str:
    """Why a partition has to be ingested; empty where it has not. A source that is gone takes nothing back."""
    for table, source in sources.items():
        part = parts[table]
        if part is None:
            return f"{MAIN} holds nothing of table {table!r}"
        if part.origin != digest(source):
            return f"project.yaml says something else of table {table!r}"
        if seen is not None:
            before = {(stamp.url, stamp.size, stamp.stamp) for stamp in part.stamps}
            now = {(stamp.url, stamp.size, stamp.stamp) for stamp in seen.tables[table]}
            if before != now:
                return f"{min(url for url, _, _ in before ^ now)} changed"
    return ""


def grid(by: By, states: Sequence[tuple[Span, PartitionState]]) -> list[str]:
    """A calendar in plain text: one sign a partition, and what the signs mean."""
    cells: dict[str, dict[str, str]] = {}
    for one, state in states:
        row, column = _place(by, one)
        cells.setdefault(row, {})[column] = SIGNS[state.state]
    names = sorted({column for row in cells.values() for column in row})
    side = max(map(len, cells))
    lines = [" " * side + "  " + " ".join(names)]
    lines += [
        f"{row:<{side}}  " + " ".join(f"{signs.get(name, ' '):>{len(name)}}" for name in names)
        for row, signs in cells.items()
    ]
    counts = {kind: sum(state.state == kind for _, state in states) for kind in SIGNS}
    return [*(line.rstrip() for line in lines), ", ".join(f"{SIGNS[kind]} {counts[kind]} {kind}" for kind in SIGNS)]


def _place(by: By, one: Span) -> tuple[str, str]:
    """In which row and column of the calendar a partition stands."""
    forms = {
        "hour": ("%Y-%m-%d", "%H"),
        "day": ("%Y-%m", "%d"),
        "week": ("%G", "%V"),
        "month": ("%Y", "%m"),
        "year": ("", "%Y"),
    }
    row, column = forms[by]
    return one.start.strftime(row), one.start.strftime(column)
