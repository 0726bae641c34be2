"""Prefect's work pools: which there are, what a run gets on each, and whether anybody is there to take a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists

from components import config
from components.errors import ConfigError, NotFoundError, UnavailableError
from flows.engines.prefect_reaper import watch_heartbeats

if TYPE_CHECKING:
    from components.workspace import Workspace

POOLS = {
    "onprem": "process",
    "docker": "docker",
    "kubernetes": "kubernetes",
    "ecs": "ecs:push",
    "cloud-run": "cloud-run-v2:push",
    "container-instances": "azure-container-instance:push",
}
"""Pool -> Prefect's type of it; each has its base job template at deploy/workpools/POOL.json."""


def hindrance(client: SyncPrefectClient, name: str) -> str:
    """Why a run on the work pool `name` will not begin, and what to do; empty where nothing is known."""
    pool = client.read_work_pool(name)
    if pool.is_paused:
        return f"work pool {name!r} is paused; next: prefect work-pool resume {name}"
    if pool.is_push_pool or pool.is_managed_pool:
        return ""
    online = [worker for worker in client.read_workers_for_work_pool(name) if str(worker.status.value) == "ONLINE"]
    return "" if online else f"work pool {name!r} has no worker; next: prefect worker start --pool {name}"


@contextmanager
def server_of(workspace: Workspace) -> Iterator[SyncPrefectClient]:
    """A client of the profile's server, whatever the user's own settings say.

    Raises:
        UnavailableError: it does not answer, or not as it should.
    """
    url = workspace.endpoint("prefect")
    try:
        with SyncPrefectClient(f"{url}/api") as client:
            yield client
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"Prefect at {url} does not answer as it should: {str(error).partition(chr(10))[0]}",
            next_step=f"trilha status --profile {workspace.name}",
        ) from error


def prepare(workspace: Workspace) -> None:
    """Have the server of this machine take deployments: the profile's work pools are there, and heartbeats are watched.

    Raises:
        ConfigError: a pool is there, of another type.
        UnavailableError: the server does not answer.
    """
    profile = workspace.profile
    put_pools(workspace, [profile.services.workers.pool, *profile.pools])
    with server_of(workspace) as client:
        watch_heartbeats(client)


def put_pools(workspace: Workspace, names: Sequence[str]) -> None:
    """Create the work pools `names` on the profile's server, or bring them to what deploy/workpools says.

    Raises:
        ConfigError: a pool of that name is there, of another type.
        NotFoundError: there is no template for a pool that needs one.
        UnavailableError: the server does not answer.
    """
    with server_of(workspace) as client:
        for name in names:
            _put_pool(client, name, _template(name, workspace.profile.kubeflow.image))


def _put_pool(client: SyncPrefectClient, name: str, template: dict[str, Any]) -> None:
    kind = POOLS.get(name, "process")  # one that a profile has for `placement`
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
    except ObjectAlreadyExists:
        there = client.read_work_pool(name)
        if there.type != kind:
            raise ConfigError(
                f"work pool {name!r} is of type {there.type!r} on the server",
                accepted=kind,
                next_step=f"prefect work-pool delete {name}",
            ) from None
        if template and there.base_job_template != template:
            client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))


def _template(name: str, image: str | None) -> dict[str, Any]:
    """What a run on the pool gets; empty for plain processes, whose workers bring Prefect's own."""
    path = config.root() / "deploy" / "workpools" / f"{name}.json"
    if not path.is_file():
        if POOLS.get(name, "process") == "process":
            return {}
        raise NotFoundError(f"no template {path}", accepted=", ".join(POOLS), next_step=f"create {path}")
    template: dict[str, Any] = json.loads(path.read_bytes())
    variable = template["variables"]["properties"].get("image")
    if variable and image:
        variable["default"] = image
    return template
