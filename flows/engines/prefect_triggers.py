"""Triggers on Prefect: a run of the deployment `DAG/PROJECT`, once a delivery, moved to the newest commit.

A run is scheduled a little ahead. While it waits, later triggers of the same project give it their commit; each leaves
its keys on the run as tags, by which it is known when it comes a second time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.states import Scheduled

from components.endpoints import prefect_api
from components.errors import NotFoundError, UnavailableError
from flows.engines.prefect_flow import talking_to
from flows.engines.prefect_pools import hindrance
from flows.triggers.trigger import Started, Trigger

if TYPE_CHECKING:
    from components.workspace import Workspace

TAG = "trigger"
"""What every run has that was started by one."""


def start_deployed(workspace: Workspace, trigger: Trigger) -> Started:
    """The flow run of a trigger: the one that it led to before, the one that waits, or a new one.

    Raises:
        NotFoundError: the project is not deployed.
        UnavailableError: Prefect does not answer.
    """
    url = workspace.endpoint("prefect")
    try:
        with talking_to(prefect_api(url)), get_client(sync_client=True) as client:
            deployment = _deployment(client, trigger, url)
            return _Triggers(workspace, client, deployment, trigger).start()
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"Prefect at {url} does not answer as it should: {str(error).splitlines()[0]}",
            next_step=f"trilha status --profile {workspace.name}",
        ) from error


def _deployment(client: SyncPrefectClient, trigger: Trigger, url: str) -> DeploymentResponse:
    name = f"{trigger.dag}/{trigger.project}"
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound as error:
        raise NotFoundError(f"no deployment {name} on Prefect at {url}", next_step="prefect deploy --all") from error


class _Triggers:
    """The flow runs of one deployment that triggers started."""

    def __init__(
        self, workspace: Workspace, client: SyncPrefectClient, deployment: DeploymentResponse, trigger: Trigger
    ) -> None:
        self._workspace, self._client, self._deployment, self._trigger = workspace, client, deployment, trigger
        self._marks = [f"{TAG}:{key[:16]}" for key in trigger.keys]

    def start(self) -> Started:
        before = self._find(tags=self._marks[:1])
        if before:
            return self._started(before[0], new=False)
        for waiting in self._find(tags=[TAG], states=[StateType.SCHEDULED]):
            sources = not waiting.parameters.get("commit")
            if sources == (self._trigger.commit is None) and self._move(waiting):
                return self._started(waiting, new=False)
        return self._started(self._new(), new=True)

    def _find(self, tags: list[str], states: list[StateType] | None = None) -> list[FlowRun]:
        """The deployment's runs with all of `tags`, newest first."""
        wanted = FlowRunFilterState(type=FlowRunFilterStateType(any_=states)) if states else None
        return self._client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[self._deployment.id])),
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=tags), state=wanted),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )

    def _move(self, waiting: FlowRun) -> bool:
        """Give a run that waits this trigger's commit; False where a worker may have read the old one before."""
        self._client.update_flow_run(
            waiting.id,
            parameters={**waiting.parameters, "commit": self._trigger.commit or ""},
            tags=[*waiting.tags, *self._marks],
        )
        now = self._client.read_flow_run(waiting.id)
        return now.state is not None and now.state.type == StateType.SCHEDULED

    def _new(self) -> FlowRun:
        quiet = self._workspace.profile.services.triggers.quiet
        ahead = get_current_settings().worker.prefetch_seconds  # a worker takes a run so long before its time
        trigger = self._trigger
        return self._client.create_flow_run_from_deployment(
            self._deployment.id,
            parameters={"project": trigger.project, "profile": self._workspace.name, "commit": trigger.commit or ""},
            state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(seconds=quiet + ahead)),
            tags=[TAG, *self._marks],
            idempotency_key=trigger.keys[0],
        )

    def _started(self, run: FlowRun, *, new: bool) -> Started:
        return Started(
            project=self._trigger.project,
            run=str(run.id),
            url=f"{self._workspace.endpoint('prefect')}/runs/flow-run/{run.id}",
            commit=self._trigger.commit,
            new=new,
            note=self._note(),
        )

    def _note(self) -> str:
        """Why the run will not begin; empty where nothing is known."""
        name = self._deployment.work_pool_name
        return hindrance(self._client, name) if name else ""
