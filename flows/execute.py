"""Put a project, a profile and an engine together and run a DAG."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from components import config
from components.errors import ConfigError
from components.records import Record
from components.runs import Header, Run, Watcher, new_header
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

    unused = FROM_SOURCES if found else FROM_COMMIT
    policies = {step: policy for step, policy in {**POLICIES, **settings.file.policy}.items() if step not in unused}
    placement = {step: pool for step, pool in settings.file.placement.items() if step not in unused}
    dag = trace(lifecycle, settings, profile, found, policies=policies, placement=placement)
    return until(dag, last) if last else dag


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
    """Run `dag` to its result.

    Args:
        dag: from `lifecycle_of`.
        project: its name, for the run's header.
        profile: its name.
        engine: in place of the profile's own.
        watch: is told of each change of a node's state.
        begun: is told the run's header before anything runs.

    Raises:
        DagError: a policy that the engine cannot honour; nothing ran.
        TrilhaError: the first failure of a node.
    """
    workspace: Workspace = open_workspace(profile)
    name = engine or workspace.profile.engine
    schedule = engine_named(name)
    header = new_header(dag.name, project, profile, name)
    here = name != "kubeflow"  # whose nodes run elsewhere: what this process has loaded is of no use to them
    run = Run(workspace, header, getting_ready(dag, watch) if here else watch)
    begun(header)
    run.announce(dag.nodes)
    return schedule(dag, run)[dag.result]
