"""`trilha backfill`: partitions of a project, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, emit, note
from flows.cli.run import EngineOption, FromOption, ProjectArgument, ToOption, ensure_services

if TYPE_CHECKING:
    from components.partition_calendar import PartitionState
    from components.partition_settings import Span
    from components.project import Project
    from components.runs import NodeState
    from components.workspace import Workspace

StatusOption = Annotated[bool, typer.Option("--status", help="Show the calendar, and change nothing.")]


@app.command()
def backfill(
    project: ProjectArgument,
    first: FromOption = None,
    last: ToOption = None,
    status: StatusOption = False,
    profile: ProfileOption = "local",
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ingest, validate and publish each partition by itself; what is there is skipped, what failed is tried again."""
    from components import config
    from components.partitions import tidy
    from components.workspace import open_workspace
    from flows.backfill import left_to_do, spans_asked, states_of

    settings, workspace = config.load_project(project), open_workspace(profile)
    spans = spans_asked(workspace, settings, first, last)
    states = states_of(workspace, settings, spans)
    runs: list[str] = []
    if not status:
        todo = left_to_do(states)
        note(f"{project}: {len(todo)} of {len(spans)} partitions to do")
        if todo:
            runs.append(_fill(workspace, settings, todo, engine))
            states = states_of(workspace, settings, spans)
        tidy(workspace, project, {state.key for state in states if state.state == "there"})
    emit(
        {"project": project, "run": runs[0] if runs else None, "partitions": states},
        _lines(settings, spans, states),
        as_json=as_json,
    )
    if not status and (code := _exit_code(states)):
        raise typer.Exit(code)


def _fill(workspace: Workspace, project: Project, keys: tuple[str, ...], engine: str | None) -> str:
    """Run the DAG over the partitions; what fails of one is in the calendar, and stops no other. Returns the run."""
    from components.errors import TrilhaError
    from flows.execute import backfill_of, execute

    chosen = engine or workspace.profile.engine
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
