"""Triggers on Kubeflow: one pipeline run for each commit. Its id follows from the commit, so it is found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.errors import ConfigError, NotFoundError
from components.runs import header_of, id_of
from flows.engines.kubeflow_cluster import Cluster, Status
from flows.engines.kubeflow_compile import compile_dag
from flows.execute import dag_named
from flows.triggers.trigger import Started, Trigger

if TYPE_CHECKING:
    from components.workspace import Workspace


def start_submitted(workspace: Workspace, trigger: Trigger) -> Started:
    """The run of a trigger: the one that is there, or a new one. Kubeflow lets no run wait, so bursts are not merged.

    Raises:
        ConfigError: the trigger names no commit, or the profile no cluster.
        UnavailableError: the cluster does not answer.
    """
    project, commit, settings = trigger.project, trigger.commit, workspace.profile.kubeflow
    if commit is None:
        raise ConfigError(
            "no commit",
            accepted="a commit: on Kubeflow a run is known by it",
            next_step=f"trilha kubeflow submit {project}",
        )
    cluster = Cluster(settings, workspace.name)
    run = id_of(project, workspace.store.resolve(commit).created, trigger.keys[0][:32])
    try:
        return _started(trigger, cluster.find(run), new=False)
    except NotFoundError:
        dag = dag_named(trigger.dag, project, workspace.name, commit=commit)
        package = compile_dag(dag, project, workspace.name, settings)
        header = header_of(run, dag.name, project, workspace.name, "kubeflow")
        return _started(trigger, cluster.submit(package, header), new=True)


def _started(trigger: Trigger, status: Status, *, new: bool) -> Started:
    return Started(project=trigger.project, run=status.run, url=status.url, commit=trigger.commit, new=new)
