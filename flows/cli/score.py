"""`trilha score`: predictions for every row of a query, in one commit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, emit, note
from flows.cli.run import EngineOption, ProjectArgument

if TYPE_CHECKING:
    from components.runs import Header
    from components.scores import Predictions
    from components.workspace import Workspace

ReleaseOption = Annotated[int | None, typer.Option("--release", help="Its number; default: the one that serves.")]
CommitOption = Annotated[
    str | None,
    typer.Option("--commit", metavar="REF", help="Of the data store, whose rows are answered; default: main."),
]


@app.command()
def score(
    project: ProjectArgument,
    release: ReleaseOption = None,
    commit: CommitOption = None,
    profile: ProfileOption = "local",
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer for every row: a release and a commit of the data make one commit of predictions."""
    from components.scores import Predictions
    from components.workspace import open_workspace
    from flows.cli.run import Progress, ensure_services
    from flows.execute import execute, scoring_of
    from flows.placement import notes

    clock = time.perf_counter()
    dag = scoring_of(project, profile, release, commit)
    workspace = open_workspace(profile)
    chosen = engine or workspace.profile.engine
    for line in notes(dag, workspace.profile, profile, chosen):
        note(line)
    ensure_services(workspace, dag, chosen)
    progress = Progress(dag)
    headers: list[Header] = []
    record = execute(dag, project=project, profile=profile, engine=chosen, watch=progress, begun=headers.append)
    summary = {
        "run": headers[0].id,
        "engine": chosen,
        "seconds": round(time.perf_counter() - clock, 2),
        "steps": progress.counts(),
        "result": record,
    }
    lines = _closing(summary, workspace, record, progress.counts()) if isinstance(record, Predictions) else []
    emit(summary, lines, as_json=as_json)


def _closing(summary: dict[str, object], workspace: Workspace, made: Predictions, counts: dict[str, int]) -> list[str]:
    """Where the predictions are, and how to get back from one of them."""
    from components.runs import RunLog

    nodes = RunLog(workspace).nodes(str(summary["run"]))
    delivered = [nodes[name].output for name in sorted(nodes) if name.startswith("deliver-")]
    ends = ", ".join(f"{number} {status}" for status, number in counts.items())
    said = workspace.store.resolve(made.id).metadata
    return [
        f"run {summary['run']}: {ends}, {summary['seconds']} s",
        f"{made.rows:,} rows with release {made.project}/{said['release']}, on data {said['data'][:12]}",
        f"commit {made.id[:12]} on branch {made.branch}: {made.project}/part-*.parquet",
        *(f"{one['sink']} holds them: {one['where']}" for one in delivered if one),
        f"back from a row:  trilha trail {said['receipts'].removesuffix('ROW')}0",
    ]
