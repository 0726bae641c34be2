"""Put a project, a profile and an engine together and run a DAG."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from components import config, strict_yaml
from components.errors import ConfigError, nearest
from components.project import Policy, Project
from components.reconcile import look_after
from components.records import Record
from components.runs import Header, NodeState, Run, Status, Watcher, new_header
from components.workspace import Workspace, open_workspace
from flows.ahead import getting_ready
from flows.dag import Dag, trace, until
from flows.engines import Engine

ENGINES = {
    "kubeflow": "flows.engines.kubeflow:run",
    "local": "flows.engines.local:run",
    "prefect": "flows.engines.prefect:run",
}
"""Engine -> its function; imported when it is first needed."""

LAST = "release"
"""The step that a whole lifecycle ends with."""

LIFECYCLE, SCORING = DAGS = ("lifecycle", "scoring")
"""What a project has runs of."""

BACKFILL = "backfill"
"""What a project that comes by partitions has runs of beside."""


def lifecycle_of(project: str, profile: str, last: str | None = None, commit: str | None = None) -> Dag:
    """The traced lifecycle of a project, or the part of it up to the step `last`.

    Args:
        project: its name.
        profile: its name.
        last: the step to stop after.
        commit: a branch, tag or commit of the data store; its tables are taken in place of the sources.

    Raises:
        ConfigError, NotFoundError: there is no such project, profile, commit or step.
    """
    settings = config.load_project(project)
    found = open_workspace(profile).store.resolve(commit).id if commit else None
    from flows.lifecycle import FROM_COMMIT, FROM_SOURCES, POLICIES, lifecycle  # not before the project is known

    unused = {*(FROM_SOURCES if found else FROM_COMMIT), *(() if settings.file.features.sinks else ("load",))}
    dag = _traced(
        lifecycle,
        (settings, profile, found),
        POLICIES,
        lambda step: step not in unused and not _scores(step) and not _of_partitions(step),
    )
    return until(dag, last) if last else dag


def scoring_of(project: str, profile: str, release: int | None = None, commit: str | None = None) -> Dag:
    """The traced scoring of a project.

    Args:
        project: its name.
        profile: its name.
        release: the number of the one that answers; None: the one that serves when it runs.
        commit: a branch, tag or commit of the data store; None: what `main` holds when it runs.

    Raises:
        ConfigError, NotFoundError: there is no such project or profile.
    """
    settings = config.load_project(project)
    config.load_profile(profile)
    from flows.scoring import POLICIES, scoring, unused_by

    unused = unused_by(settings)
    return _traced(
        scoring,
        (settings, profile, release, commit),
        POLICIES,
        lambda step: _scores(step) and step.partition("-")[0] not in unused,
    )


def backfill_of(project: str, profile: str, keys: tuple[str, ...]) -> Dag:
    """The traced backfill of some partitions of a project.

    Args:
        project: its name.
        profile: its name.
        keys: of the partitions, one at least.

    Raises:
        ConfigError, NotFoundError: there is no such project or profile, or it is not partitioned.
    """
    settings, workspace = config.load_project(project), open_workspace(profile)
    from flows.backfill import POLICIES, STEPS, backfill, known_columns

    columns = known_columns(workspace, settings)
    arguments = (settings, profile, keys, columns, workspace.profile.workers)
    return _traced(backfill, arguments, POLICIES, lambda step: step in STEPS)


def backfill_left(project: str, profile: str, first: str | None, last: str | None) -> Dag | None:
    """The traced backfill of what `main` does not hold as its sources are; None where nothing is left to do.

    Args:
        project: its name.
        profile: its name.
        first: the first partition, or a date in it; None: the first that `main` holds.
        last: the last one; None: the last that `main` holds.

    Raises:
        ConfigError, NotFoundError: there is no such project or profile, it is not partitioned, or `main` holds nothing
            of it where an end is not said.
    """
    settings, workspace = config.load_project(project), open_workspace(profile)
    from flows.backfill import left_to_do, spans_asked, states_of

    keys = left_to_do(states_of(workspace, settings, spans_asked(workspace, settings, first, last)))
    return backfill_of(project, profile, keys) if keys else None


def dag_named(name: str, project: str, profile: str, last: str | None = None, commit: str | None = None) -> Dag:
    """The traced DAG of that name; each takes a commit's data where it is given one.

    Raises:
        ConfigError, NotFoundError: there is no such DAG, project, profile, commit or step.
    """
    if name not in DAGS:
        raise ConfigError(f"DAG {name!r}{nearest(name, DAGS)}", accepted=", ".join(DAGS))
    if name == SCORING:
        dag = scoring_of(project, profile, commit=commit)
        return until(dag, last) if last else dag
    return lifecycle_of(project, profile, last, commit)


def _of_partitions(step: str) -> bool:
    """Whether a step is of the DAG `backfill` alone."""
    return step.endswith("_partition")


def _scores(step: str) -> bool:
    """Whether a step, or a node by its name, is of the DAG `scoring`."""
    from flows.scoring import STEPS

    return step.partition("-")[0] in STEPS


def _traced(
    dag: Callable[..., object],
    arguments: tuple[Any, ...],
    policies: Mapping[str, Policy],
    has: Callable[[str], bool],
) -> Dag:
    """`dag` with what project.yaml says of the steps that it `has`: there are others, of other DAGs."""
    project: Project = arguments[0]
    return trace(
        dag,
        *arguments,
        policies={step: policy for step, policy in {**policies, **project.file.policy}.items() if has(step)},
        placement={step: pool for step, pool in project.file.placement.items() if has(step)},
        line_of=lambda what, name: strict_yaml.place(config.project_folder(project.name) / "project.yaml", what, name),
    )


def engine_named(name: str) -> Engine:
    """The engine's function.

    Raises:
        ConfigError: there is no such engine.
    """
    if name not in ENGINES:
        raise ConfigError(f"engine {name!r}", accepted=", ".join(sorted(ENGINES)))
    module, function = ENGINES[name].split(":")
    return cast("Engine", getattr(importlib.import_module(module), function))


def execute(
    dag: Dag,
    *,
    project: str,
    profile: str,
    engine: str | None = None,
    watch: Watcher = lambda _: None,
    begun: Callable[[Header], None] = lambda _: None,
) -> Record:
    """Run `dag` to its result. Where a whole lifecycle makes no new release, the newest one is seen to serve.

    Args:
        dag: from `lifecycle_of` or `scoring_of`.
        project: its name, for the run's header.
        profile: its name.
        engine: in place of the profile's own.
        watch: is told of each change of a node's state.
        begun: is told the run's header before anything runs.

    Raises:
        DagError: a policy that the engine cannot honour; nothing ran.
        TrilhaError: the first failure of a node, or the newest release does not serve.
    """
    ends: dict[str, Status] = {}

    def seen(state: NodeState) -> None:
        ends[state.name] = state.status
        watch(state)

    workspace: Workspace = open_workspace(profile)
    name = engine or workspace.profile.engine
    schedule = engine_named(name)
    header = new_header(dag.name, project, profile, name)
    here = name != "kubeflow"  # whose nodes run elsewhere: what this process has loaded is of no use to them
    run = Run(workspace, header, getting_ready(dag, seen) if here else seen)
    begun(header)
    run.announce(dag.nodes)
    record = schedule(dag, run)[dag.result]
    if dag.result == LAST and ends.get(LAST) != "done":
        look_after(workspace, project)
    return record
