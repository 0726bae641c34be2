"""Start a DAG by a trigger: once for each delivery, with the newest commit of a burst."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.workspace import Workspace
    from flows.triggers.trigger import Started, Trigger


def start(workspace: Workspace, trigger: Trigger) -> Started:
    """Have the profile's engine run the DAG, unless this trigger led to a run before.

    Raises:
        NotFoundError: the project is not deployed.
        UnavailableError: the engine does not answer.
        ConfigError: the profile does not say where the engine is, or the engine needs a commit.
    """
    if workspace.profile.engine == "kubeflow":
        from flows.engines.kubeflow_triggers import start_submitted

        return start_submitted(workspace, trigger)
    from flows.engines.prefect import settle

    settle(workspace)
    from flows.engines.prefect_triggers import start_deployed

    return start_deployed(workspace, trigger)
