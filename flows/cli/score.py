"""`trilha score`: predictions for every row of a query, in one commit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, emit
from flows.cli.run import EngineOption, ProjectArgument, counted, executed

if TYPE_CHECKING:
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
    from flows.execute import scoring_of

    clock = time.perf_counter()
    workspace = open_workspace(profile)
    summary = executed(scoring_of(project, profile, release, commit), workspace, project, engine, clock)
    made = summary["result"]
    emit(summary, _closing(summary, workspace, made) if isinstance(made, Predictions) else [], as_json=as_json)


def _closing(summary: Mapping[str, Any], workspace: Workspace, made: Predictions) -> list[str]:
    """Where the predictions are, and how to get back from one of them."""
    from components.runs import RunLog

    nodes = RunLog(workspace).nodes(str(summary["run"]))
    delivered = [nodes[name].output for name in sorted(nodes) if name.startswith("deliver-")]
    said = workspace.store.resolve(made.id).metadata
    return [
        counted(summary),
        f"{made.rows:,} rows with release {made.project}/{said['release']}, on data {said['data'][:12]}",
        f"commit {made.id[:12]} on branch {made.branch}: {made.project}/part-*.parquet",
        *(f"{one['sink']} holds them: {one['where']}" for one in delivered if one),
        f"back from a row:  trilha trail {said['receipts'].removesuffix('ROW')}0",
    ]
