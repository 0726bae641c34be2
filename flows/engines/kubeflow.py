"""The engine on Kubeflow Pipelines: the DAG is compiled, and each node is a container.

With `kubeflow.host` in the profile the pipeline runs on that cluster; without, in containers on this machine. Either
way the containers write the record of the run themselves, and this process reads it.

Kubeflow's local runner does one task after the other and ends with the first that fails, whatever needs it. So parts of
a DAG that need nothing of each other, as a backfill's partitions, are pipelines of their own there, side by side.
"""

from __future__ import annotations

from components.errors import TrilhaError, UnavailableError, rebuilt
from components.records import Record
from components.runs import NodeState, Run, output_of
from flows.dag import Dag, apart


def run(dag: Dag, run: Run) -> dict[str, Record]:
    """Run `dag` as a pipeline and wait for it.

    On this machine the nodes of a part run one after the other, and none of it after the first that fails; on a cluster
    all run that do not need the failed one.

    Raises:
        ConfigError: the profile names no image, or a host that does not take its token.
        UnavailableError: no host, no Docker, no image, or the pipeline ended and no node says why.
    """
    from flows.engines.kubeflow_compile import compile_dag

    header, settings = run.header, run.workspace.profile.kubeflow
    following = Following(run)
    if settings.host:
        from flows.engines.kubeflow_cluster import run_there

        package = compile_dag(dag, header.project, header.profile, settings)
        said = run_there(package, header, settings, following.look)
    else:
        from flows.engines.kubeflow_containers import image_here, run_here

        here = settings.model_copy(update={"image": image_here(header.profile, settings)})
        packages = [compile_dag(part, header.project, header.profile, here) for part in apart(dag)]
        said = run_here(packages, dag, run, following.look)
    states = following.look()
    for node in dag.nodes:
        state = states.get(node.name)
        if state and state.status == "failed":
            raise _error(state)
    missing = [node for node in dag.nodes if node.name not in states or states[node.name].output is None]
    if missing:
        raise UnavailableError(
            f"step {missing[0].name!r} ended without a word: {said or 'its container was killed'}",
            next_step=f"trilha kubeflow status {header.id} --profile {header.profile}"
            if settings.host
            else f"read {run.workspace.home}/kubeflow/{header.id}/log.txt",
        )
    return {node.name: output_of(node, states[node.name]) for node in dag.nodes}


class Following:
    """Tells a run's watcher what the containers wrote down since the last look."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: dict[str, NodeState] = {}

    def look(self) -> dict[str, NodeState]:
        """The nodes as they are now; changes are told in the order in which the nodes began."""
        now = self._run.log.nodes(self._run.header.id)
        changed = [state for name, state in now.items() if state != self._seen.get(name) and state.status != "waiting"]
        for state in sorted(changed, key=lambda state: state.started or "9"):
            self._run.watch(state)
        self._seen = now
        return now


def _error(state: NodeState) -> TrilhaError:
    """What a node failed with."""
    if state.failure:
        return rebuilt(state.failure)
    return TrilhaError(f"step {state.name!r}: {state.error}", next_step="look into its container's log")
