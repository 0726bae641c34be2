"""`trilha kubeflow compile | submit | schedule | status`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.output import JsonOption, ProfileOption, columns, emit, save
from flows.cli.run import DagOption, FromOption, ProjectArgument, ToOption, UntilOption, dag_asked

if TYPE_CHECKING:
    from components.profile import Kubeflow
    from components.schedule import Schedule
    from flows.dag import Dag

kubeflow_app = typer.Typer(help="Run a project on Kubeflow Pipelines.", no_args_is_help=True)

ScheduledDagOption = Annotated[str, typer.Option("--dag", help="lifecycle or scoring.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Default: deploy/kubeflow/PROJECT.yaml, or PROJECT-DAG.yaml.")
]


@kubeflow_app.command("compile")
def compile_(
    project: ProjectArgument,
    profile: ProfileOption = "onprem",
    output: OutputOption = None,
    until: UntilOption = None,
    dag_name: DagOption = "lifecycle",
    first: FromOption = None,
    last: ToOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a DAG of a project as one Kubeflow pipeline; of a backfill, what is left to do now."""
    from components import config

    dag = _asked(dag_name, project, profile, until, first, last)
    package = _compiled(dag, project, profile)
    name = project if dag_name == "lifecycle" else f"{project}-{dag.name}"
    path = output or config.root() / "deploy" / "kubeflow" / f"{name}.yaml"
    if output is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    save(path, package, "--output")
    facts = {"path": str(path), "nodes": [node.name for node in dag.nodes], "profile": profile}
    emit(facts, f"{path}: {len(dag.nodes)} nodes, for profile {profile}", as_json=as_json)


@kubeflow_app.command()
def submit(
    project: ProjectArgument,
    profile: ProfileOption = "onprem",
    until: UntilOption = None,
    dag_name: DagOption = "lifecycle",
    first: FromOption = None,
    last: ToOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a DAG of a project on the profile's cluster, and do not wait."""
    from components.runs import new_header
    from flows.engines.kubeflow_cluster import Cluster

    dag = _asked(dag_name, project, profile, until, first, last)
    header = new_header(dag.name, project, profile, "kubeflow")
    status = Cluster(_settings(profile), profile).submit(_compiled(dag, project, profile), header)
    lines = [f"run {status.run}  {status.url}", f"trilha kubeflow status {status.run} --profile {profile}"]
    emit(status, lines, as_json=as_json)


@kubeflow_app.command()
def schedule(
    project: ProjectArgument,
    profile: ProfileOption = "onprem",
    dag_name: ScheduledDagOption = "lifecycle",
    as_json: JsonOption = False,
) -> None:
    """Have a DAG of a project run as `schedule`, or `scoring.schedule`, says; replaces the schedule before.

    It is active where the profile's engine is Kubeflow: a schedule of two engines would do everything twice.
    """
    from components import config
    from flows.engines.kubeflow_cluster import Cluster
    from flows.execute import dag_named

    engine = config.load_profile(profile).engine
    dag = dag_named(dag_name, project, profile)
    wanted = _schedule_of(project, dag_name)
    wanted = wanted.model_copy(update={"active": wanted.active and engine == "kubeflow"})
    name = f"{project}-{dag.name}"
    package = _compiled(dag, project, profile)
    made = Cluster(_settings(profile), profile).schedule(package, name, project, wanted)
    said = "active" if wanted.active else "not active"
    line = f"schedule {name}: {wanted.cron} (UTC), {said}, {made}"
    emit({"schedule": name, "id": made, "cron": wanted.cron, "active": wanted.active}, line, as_json=as_json)


@kubeflow_app.command()
def status(
    run: Annotated[str, typer.Argument(help="A run's id, as `submit` printed it, or Kubeflow's own.")],
    profile: ProfileOption = "onprem",
    as_json: JsonOption = False,
) -> None:
    """Say what Kubeflow says of a run; `trilha runs RUN` has our own record of it."""
    from flows.engines.kubeflow_cluster import Cluster

    found = Cluster(_settings(profile), profile).find(run)
    lines = [f"run {found.run}: {found.state}  {found.url}"]
    if found.error:
        lines.append(found.error)
    if found.tasks:
        lines.append(columns([task.model_dump() for task in found.tasks], ["name", "state", "error"]))
    emit(found, lines, as_json=as_json)


def _asked(name: str, project: str, profile: str, until: str | None, first: str | None, last: str | None) -> Dag:
    """The DAG of that name.

    Raises:
        NotFoundError: it is a backfill, and nothing is left to do.
    """
    from components.errors import NotFoundError

    dag = dag_asked(name, project, profile, until, None, first, last)
    if dag is None:
        raise NotFoundError(
            f"nothing of {project} is left to do: its partitions are there, or their sources are not",
            next_step=f"trilha backfill {project} --status --profile {profile}",
        )
    return dag


def _compiled(dag: Dag, project: str, profile: str) -> str:
    from flows.engines.kubeflow_compile import compile_dag

    return compile_dag(dag, project, profile, _settings(profile))


def _settings(profile: str) -> Kubeflow:
    from components import config

    return config.load_profile(profile).kubeflow


def _schedule_of(project: str, dag: str) -> Schedule:
    """The project's schedule for a DAG.

    Raises:
        ConfigError: it has none, or one that Kubeflow would run at other times.
    """
    from components import config
    from components.errors import ConfigError

    file, where = config.load_project(project).file, f"config/projects/{project}/project.yaml"
    scores = dag == "scoring"
    wanted = (file.scoring.schedule if file.scoring else None) if scores else file.schedule
    if wanted is None:
        raise ConfigError(
            f"{where}: no {'scoring.' if scores else ''}schedule",
            accepted='`schedule: {cron: "0 5 * * *", timezone: UTC}`',
            next_step="add one",
        )
    if wanted.timezone not in {"UTC", "Etc/UTC"}:
        raise ConfigError(
            f"{where}: schedule in {wanted.timezone}: Kubeflow's schedules are in UTC",
            accepted="timezone: UTC",
            next_step="write the cron in UTC, or schedule with Prefect (`prefect deploy --all`)",
        )
    return wanted
