"""`trilha run | plan | why | runs`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit, note

if TYPE_CHECKING:
    from components.runs import Header, NodeState
    from components.workspace import Workspace
    from flows.dag import Dag

ProjectArgument = Annotated[str, typer.Argument(help="A folder under config/projects.")]
EngineOption = Annotated[str | None, typer.Option(help="kubeflow, local or prefect; default: the profile's.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="Stop after this step.")]
CommitOption = Annotated[
    str | None,
    typer.Option("--commit", metavar="REF", help="Take the tables of this commit of the data store, not the sources."),
]
DagOption = Annotated[str, typer.Option("--dag", help="lifecycle, scoring or backfill.")]
FromOption = Annotated[
    str | None,
    typer.Option("--from", help="The first partition: 2013-01, say, or a date in it; default: main's first."),
]
ToOption = Annotated[str | None, typer.Option("--to", help="The last one; default: main's last.")]


@app.command()
def run(
    project: ProjectArgument,
    profile: ProfileOption = "local",
    engine: EngineOption = None,
    until: UntilOption = None,
    commit: CommitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the lifecycle of a project; what is done already is found in the ledger."""
    from components.workspace import open_workspace
    from flows.execute import lifecycle_of

    clock = time.perf_counter()
    workspace = open_workspace(profile)
    summary = executed(lifecycle_of(project, profile, until, commit), workspace, project, engine, clock)
    emit(summary, _closing(summary, workspace, project), as_json=as_json)


def dag_asked(
    name: str, project: str, profile: str, until: str | None, commit: str | None, first: str | None, last: str | None
) -> Dag | None:
    """The DAG that a command names by `--dag`; of a backfill, what is left to do, None where that is nothing.

    Raises:
        ConfigError, NotFoundError: there is none of that name, or it does not take one of the options; and as
            `flows.execute` says of each.
    """
    from components.errors import ConfigError, nearest
    from flows.execute import BACKFILL, DAGS, backfill_left, dag_named

    known = (*DAGS, BACKFILL)
    if name not in known:
        raise ConfigError(f"DAG {name!r}{nearest(name, known)}", accepted=", ".join(known))
    options = {"--until": until, "--commit": commit, "--from": first, "--to": last}
    taken = ("--from", "--to") if name == BACKFILL else ("--until", "--commit")
    for option, value in options.items():
        if value is not None and option not in taken:
            raise ConfigError(f"{option} {value} with the DAG {name}", accepted=", ".join(taken))
    if name == BACKFILL:
        return backfill_left(project, profile, first, last)
    return dag_named(name, project, profile, until, commit)


def executed(dag: Dag, workspace: Workspace, project: str, engine: str | None, clock: float) -> dict[str, Any]:
    """Run a DAG with a line a node; returns what is said of it, its `result` among that.

    Args:
        dag: of the project.
        workspace: whose services it needs.
        project: its name.
        engine: in place of the profile's.
        clock: when the command began, by `time.perf_counter`.
    """
    from flows.execute import execute
    from flows.placement import notes

    chosen = engine or workspace.profile.engine
    for line in notes(dag, workspace.profile, workspace.name, chosen):
        note(line)
    ensure_services(workspace, dag, chosen)
    progress = Progress(dag)
    headers: list[Header] = []
    record = execute(dag, project=project, profile=workspace.name, engine=chosen, watch=progress, begun=headers.append)
    return {
        "run": headers[0].id,
        "engine": chosen,
        "seconds": round(time.perf_counter() - clock, 2),
        "steps": progress.counts(),
        "result": record,
    }


def counted(summary: Mapping[str, Any]) -> str:
    """The run, how many nodes ended how, and how long it took."""
    counts = ", ".join(f"{number} {status}" for status, number in summary["steps"].items())
    return f"run {summary['run']}: {counts}, {summary['seconds']} s"


def ensure_services(workspace: Workspace, dag: Dag, engine: str) -> None:
    """Start what the run needs and is not up; it stays up for the next run."""
    from flows.readiness import make_ready, needed_by

    make_ready(workspace, needed_by(dag, engine), note)


class Progress:
    """One line a node on standard error, as it ends."""

    def __init__(self, dag: Dag) -> None:
        self._width = max(len(node.name) for node in dag.nodes)
        self._states: dict[str, str] = {}

    def __call__(self, state: NodeState) -> None:
        self._states[state.name] = state.status
        if state.status == "running":
            if sys.stderr.isatty():
                note(f"  {state.name:<{self._width}}  ...")
            return
        detail = {
            "waiting": state.error,
            "done": f"{state.seconds:.1f} s",
            "found": f"nothing changed since {state.started[:16].replace('T', ' ')}",
            "skipped": state.output["skipped"] if state.status == "skipped" else "",
            "failed": state.error,
        }[state.status]
        note(f"  {state.name:<{self._width}}  {state.status:<7}  {detail}")

    def counts(self) -> dict[str, int]:
        """How many nodes ended how."""
        ends = list(self._states.values())
        return {status: ends.count(status) for status in ("done", "found", "skipped") if status in ends}


def _closing(summary: Mapping[str, Any], workspace: Workspace, project: str) -> list[str]:
    """Where to look, and what to try next."""
    from components.records import Release, Skipped

    lines = [counted(summary)]
    result = summary["result"]
    if isinstance(result, Skipped):
        lines.append(f"no release: {result.skipped}; see `trilha why last evaluate`")
    if isinstance(result, Release):
        lines += _where_to_look(workspace, project)
    return lines


def _where_to_look(workspace: Workspace, project: str) -> list[str]:
    """The pages of a release, and the command that asks it."""
    from components.releases import newest
    from components.rollouts import under_way
    from flows.page import write_page

    release = newest(workspace.store, project)
    page = write_page(workspace, release)
    services = {
        name: workspace.endpoint(name) for name in ("prefect", "mlflow", "tensorboard") if _is_up(workspace, name)
    }
    rollout = under_way(workspace.store, project)
    return [
        f"release {project}/{release.number}  {page.as_uri()}",
        *([f"roll-out {rollout.told}; next: trilha rollout status {project}"] if rollout else []),
        *(f"{name:<12} {url}" for name, url in services.items()),
        f"ask it:  trilha predict {project} --row '{json.dumps(release.bundle.example)}'",
    ]


def _is_up(workspace: Workspace, name: str) -> bool:
    from components.errors import UnavailableError

    try:
        workspace.endpoint(name)
    except UnavailableError:
        return False
    return True


@app.command()
def plan(
    project: ProjectArgument,
    profile: ProfileOption = "local",
    until: UntilOption = None,
    commit: CommitOption = None,
    dag_name: DagOption = "lifecycle",
    first: FromOption = None,
    last: ToOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a run, a night of predictions or a backfill would do and why, and change nothing."""
    from dataclasses import asdict

    from components.workspace import open_workspace
    from flows.plan import plan as foresee

    dag = dag_asked(dag_name, project, profile, until, commit, first, last)
    rows = [asdict(row) for row in foresee(dag, open_workspace(profile), project)] if dag else []
    said = columns(rows, ["name", "action", "why"]) if rows else f"nothing of {project} is left to do"
    emit(rows, said, as_json=as_json)


@app.command()
def why(
    run: Annotated[str, typer.Argument(help="A run's id, the beginning of one, or `last`.")],
    step: Annotated[str, typer.Argument(help="A step of it, as `trilha runs RUN` names it.")],
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Say why a run did, found or skipped a step: which part of its key changed."""
    from components.runs import RunLog
    from components.workspace import open_workspace
    from flows.execute import BACKFILL, backfill_of, dag_named
    from flows.plan import why as explain

    workspace = open_workspace(profile)
    header = RunLog(workspace).header(run)
    if header.dag == BACKFILL:
        from flows.backfill import keys_of

        dag = backfill_of(header.project, header.profile, keys_of(RunLog(workspace).nodes(header.id)))
    else:
        dag = dag_named(header.dag, header.project, header.profile)
    lines = explain(workspace, dag, header, step)
    emit({"run": header.id, "step": step, "why": lines}, lines, as_json=as_json)


@app.command()
def runs(
    run: Annotated[str | None, typer.Argument(help="Show the steps of this run.")] = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List the runs of a profile, newest first, or the steps of one."""
    from components.runs import RunLog
    from components.workspace import open_workspace

    log = RunLog(open_workspace(profile))
    if run is None:
        rows = [log.header(name).model_dump() for name in log.ids()]
        emit(rows, columns(rows, ["id", "dag", "engine", "started"]), as_json=as_json)
        return
    header = log.header(run)
    states = sorted(log.nodes(header.id).values(), key=lambda state: state.started or "9")
    rows = [state.model_dump() for state in states]
    shown = [{**row, "seconds": f"{row['seconds']:.1f}"} for row in rows]
    emit(
        {**header.model_dump(), "nodes": rows}, columns(shown, ["name", "status", "seconds", "error"]), as_json=as_json
    )
