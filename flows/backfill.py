"""Partitions of a project to `main`, side by side: the DAG of a backfill, and what was done by earlier ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from components.errors import NotFoundError
from components.ingest import observe
from components.partition_calendar import PartitionState, calendar, partitioned
from components.partition_settings import Span, at, span, spans
from components.partitions import ingest_partition, publish_partition
from components.project import Policy, Project
from components.records import Commit
from components.runs import NodeState, RunLog
from components.source_settings import SqlTable, Table
from components.tables import MAIN, fed, partition_contents
from components.validate import validate
from flows.dag import Do

if TYPE_CHECKING:
    from components.workspace import Workspace

STEPS = ("observe", "ingest_partition", "validate", "publish_partition")
POLICIES = {
    "observe": Policy(cache=False),
    "ingest_partition": Policy(retries=2),
    "publish_partition": Policy(retries=2, cache=False),
}
"""What holds unless `policy:` in project.yaml says otherwise."""
NODES = ("observe", "ingest", "validate", "publish")
"""How the names of a partition's nodes begin, in their order."""


def backfill(
    do: Do, project: Project, profile: str, keys: tuple[str, ...], columns: dict[str, dict[str, str]], workers: int
) -> Commit:
    """Ingest, gate and publish each of the partitions `keys` by itself.

    Nodes come in waves of as many partitions as there are `workers`, so that an engine which takes them in order has
    one of each for every worker, and what is published early does not wait for what comes late.
    """
    name = project.name
    by, sources = partitioned(project)
    expectations = {table: listed for table, listed in project.expectations.items() if table in sources}
    for begin in range(0, len(keys), workers):
        wave, seen = keys[begin : begin + workers], {}
        for key in wave:
            parts = {table: at(source, by, span(by, key)) for table, source in sources.items()}
            seen[key] = do.named(f"observe-{key}")(observe, project=name, profile=profile, sources=parts)
        raw = {
            key: do.named(f"ingest-{key}")(
                ingest_partition,
                project=name,
                profile=profile,
                partition=key,
                by=by,
                sources=sources,
                columns=columns,
                seen=seen[key],
            )
            for key in wave
        }
        reports = {
            key: do.named(f"validate-{key}")(
                validate, project=name, profile=profile, commit=raw[key], expectations=expectations, partition=key
            )
            for key in wave
        }
        for key in wave:
            last = do.named(f"publish-{key}")(
                publish_partition,
                project=name,
                profile=profile,
                partition=key,
                commit=raw[key],
                validation=reports[key],
            )
    return last


def known_columns(workspace: Workspace, project: Project) -> dict[str, dict[str, str]]:
    """Table -> its types on `main`, of tables whose types would be guessed: each partition on its own could differ."""
    _, sources = partitioned(project)
    held = fed(workspace.store, MAIN, project.name)
    return {name: dict(held[name].columns) for name, source in sources.items() if name in held and _guessed(source)}


def _guessed(source: object) -> bool:
    if isinstance(source, Table):
        return source.format not in {"avro", "parquet"} and not source.path.lower().endswith((".avro", ".parquet"))
    return isinstance(source, SqlTable)


def spans_asked(workspace: Workspace, project: Project, first: str | None, last: str | None) -> list[Span]:
    """The partitions from the one to the other; an end that is not said is that of what `main` holds.

    Raises:
        ConfigError: the project is not partitioned, or there are no such partitions.
        NotFoundError: an end is not said, and `main` holds none.
    """
    by, _ = partitioned(project)
    if first is None or last is None:
        held = sorted(key for of in partition_contents(workspace.store, MAIN, project.name).values() for key in of)
        if not held:
            raise NotFoundError(
                f"{MAIN} holds no partition of {project.name} yet",
                next_step=f"trilha backfill {project.name} --from ... --to ...",
            )
        first, last = first or held[0], last or held[-1]
    return spans(by, first, last)


def states_of(workspace: Workspace, project: Project, asked: list[Span]) -> list[PartitionState]:
    """How each of the partitions stands right now."""
    return calendar(workspace, project, asked, failures(workspace, project.name, [one.key for one in asked]))


def left_to_do(states: Iterable[PartitionState]) -> tuple[str, ...]:
    """The partitions that `main` does not hold as their sources are, and that can be ingested."""
    return tuple(state.key for state in states if state.state != "there" and state.ready)


def keys_of(nodes: Iterable[str]) -> tuple[str, ...]:
    """The partitions that nodes of a backfill are of, in order."""
    return tuple(sorted({key for begin, _, key in (name.partition("-") for name in nodes) if begin in NODES}))


def failures(workspace: Workspace, project: str, keys: Collection[str]) -> dict[str, NodeState]:
    """Of the partitions `keys`, those whose last try failed, with the node that did."""
    log, left = RunLog(workspace), set(keys)
    failed: dict[str, NodeState] = {}
    for run in log.ids():
        if not left:
            break
        if f"-{project}-" not in run or log.header(run).dag != backfill.__name__ or log.header(run).project != project:
            continue
        nodes = log.nodes(run)
        for key in sorted(left.intersection(keys_of(nodes))):
            states = [nodes[f"{begin}-{key}"] for begin in NODES if f"{begin}-{key}" in nodes]
            if all(state.status == "waiting" for state in states) and not any(state.error for state in states):
                continue  # that run did not come to it
            left.discard(key)
            failed.update((key, state) for state in states if state.status == "failed")
    return failed
