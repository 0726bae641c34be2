"""`trilha backfill`: partitions of a project, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, emit, note
from flows.cli.run import ProjectArgument, ensure_services

if TYPE_CHECKING:
    from components.partition_calendar import PartitionState
    from components.partition_settings import Span
    from components.project import Project
    from components.runs import NodeState
    from components.workspace import Workspace

FromOption = Annotated[
    str | None,
    typer.Option("--from", help="The first partition: 2013-01, say, or a date in it; default: main's first."),
]
ToOption = Annotated[str | None, typer.Option("--to", help="The last one; default: main's last.")]
StatusOption = Annotated[bool, typer.Option("--status", help="Show the calendar, and change nothing.")]
BackfillEngineOption = Annotated[str | None, typer.Option("--engine", help="local or prefect; default: the profile's.")]


@app.command()
def backfill(
    project: ProjectArgument,
    first: FromOption = None,
    last: ToOption = None,
    status: StatusOption = False,
    profile: ProfileOption = "local",
    engine: BackfillEngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ingest, validate and publish each partition by itself; what is there is skipped, what failed is tried again."""
    from components import config
    from components.partitions import tidy
    from components.workspace import open_workspace

    settings, workspace = config.load_project(project), open_workspace(profile)
    spans = _spans(workspace, settings, first, last)
    states = _look(workspace, settings, spans)
    runs: list[str] = []
    if not status:
        todo = tuple(state.key for state in states if state.state != "there" and state.ready)
        note(f"{project}: {len(todo)} of {len(spans)} partitions to do")
        if todo:
            runs.append(_fill(workspace, settings, todo, engine))
            states = _look(workspace, settings, spans)
        tidy(workspace, project, {state.key for state in states if state.state == "there"})
    emit(
        {"project": project, "run": runs[0] if runs else None, "partitions": states},
        _lines(settings, spans, states),
        as_json=as_json,
    )
    if not status and (code := _exit_code(states)):
        raise typer.Exit(code)


def _spans(workspace: Workspace, project: Project, first: str | None, last: str | None) -> list[Span]:
    """What is asked for; an end that is not said is that of what `main` holds."""
    from components.errors import NotFoundError
    from components.partition_calendar import partitioned
    from components.partition_settings import spans
    from components.tables import MAIN, partition_contents

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


def _look(workspace: Workspace, project: Project, spans: list[Span]) -> list[PartitionState]:
    from components.partition_calendar import calendar
    from flows.backfill import failures

    failed = failures(workspace, project.name, [one.key for one in spans])
    return calendar(workspace, project, spans, failed)


def _fill(workspace: Workspace, project: Project, keys: tuple[str, ...], engine: str | None) -> str:
    """Run the DAG over the partitions; what fails of one is in the calendar, and stops no other. Returns the run."""
    from components.errors import ConfigError, TrilhaError
    from flows.execute import backfill_of, execute

    chosen = engine or workspace.profile.engine
    if chosen == "kubeflow":
        raise ConfigError("a backfill on engine kubeflow", accepted="local, prefect", next_step="--engine prefect")
    dag = backfill_of(project.name, workspace.name, keys)
    ensure_services(workspace, dag, chosen)
    begun: list[str] = []
    progress = Progress()
    try:
        execute(
            dag,
            project=project.name,
            profile=workspace.name,
            engine=chosen,
            watch=progress,
            begun=lambda header: begun.append(header.id),
        )
    except TrilhaError:
        if not progress.failed:  # it is not of a partition
            raise
    return begun[0]


class Progress:
    """One line a partition on standard error, as it ends."""

    def __init__(self) -> None:
        self.failed: set[str] = set()

    def __call__(self, state: NodeState) -> None:
        step, _, key = state.name.partition("-")
        if state.status == "failed" and key not in self.failed:
            self.failed.add(key)
            note(f"  {key}  failed  {step}: {state.error}")
        elif step == "publish" and state.status in {"done", "found"}:
            self.failed.discard(key)  # a further attempt
            rows = sum(state.output["tables"].values())
            note(f"  {key}  there   {rows:,} rows")


def _lines(project: Project, spans: list[Span], states: list[PartitionState]) -> list[str]:
    """The calendar, and what is to be said of partitions that are not there."""
    from components.partition_calendar import grid, partitioned

    by, _ = partitioned(project)
    lines = grid(by, list(zip(spans, states, strict=True)))
    return lines + [f"{state.key}  {state.state}: {state.why}" for state in states if state.state != "there"]


def _exit_code(states: list[PartitionState]) -> int:
    """That of the first failure; of what is missing, where nothing failed."""
    from components.errors import NotFoundError, TrilhaError

    failed = [state for state in states if state.state in {"failed", "stale"}]
    for state in failed:
        code: Any = (state.failure or {}).get("exit_code", TrilhaError.exit_code)
        return int(code)
    return NotFoundError.exit_code if any(state.state == "missing" for state in states) else 0
