"""Prefect's work pools: which there are, what a run gets on each, and whether anybody is there to take a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

from components import config
from components.endpoints import prefect_api
from components.errors import ConfigError, NotFoundError, UnavailableError
from components.profile import Profile
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
BLOCK = "trilha"
"""The name of the block on the server that holds a pool's credentials."""


@dataclass(frozen=True, slots=True)
class Put:
    """A work pool on the server, and what became of it: `created`, `updated`, or `as it was`."""

    name: str
    type: str
    change: str


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
        ConfigError: it does not take the credentials in the environment.
        UnavailableError: it does not answer, or not as it should.
    """
    url = workspace.endpoint("prefect")
    key, password = PREFECT_API_KEY.value(), PREFECT_API_AUTH_STRING.value()
    try:
        with SyncPrefectClient(prefect_api(url), api_key=key, auth_string=password) as client:
            yield client
    except httpx.HTTPError as error:
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403}:
            raise _unknown(url, key, password) from None
        raise UnavailableError(
            f"Prefect at {url} does not answer as it should: {str(error).partition(chr(10))[0]}",
            next_step=f"trilha status --profile {workspace.name}",
        ) from error


def _unknown(url: str, key: str | None, password: str | None) -> ConfigError:
    """What to do about a server that does not know us; `key` is for Prefect Cloud."""
    cloud = key is not None or "/api/" in url
    given, variable = (key, PREFECT_API_KEY.name) if cloud else (password, PREFECT_API_AUTH_STRING.name)
    problem = f"does not take what is in {variable}: it may have expired" if given else "wants credentials"
    return ConfigError(
        f"Prefect at {url} {problem}",
        accepted="a key of Prefect Cloud" if cloud else "NAME:PASSWORD, as the server has it",
        next_step=f"export {variable}=...",
    )


def prepare(workspace: Workspace) -> list[Put]:
    """Have the server take deployments: the profile's work pools are as deploy/workpools says, heartbeats are watched.

    Raises:
        ConfigError: a pool is there, of another type; or the server does not accept a template.
        NotFoundError: a template or a block that a pool needs is missing.
        UnavailableError: the server does not answer.
    """
    profile = workspace.profile
    names = dict.fromkeys([profile.services.workers.pool, *profile.pools])
    with server_of(workspace) as client:
        watch_heartbeats(client)
        return [_put(client, name, _template(client, name, profile)) for name in names]


def _put(client: SyncPrefectClient, name: str, template: dict[str, Any]) -> Put:
    kind = kind_of(client, name)
    try:
        try:
            there = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
            return Put(name, kind, "created")
        if there.type != kind:
            raise ConfigError(
                f"work pool {name!r} is of type {there.type!r} on the server",
                accepted=kind,
                next_step=f"prefect work-pool delete {name}",
            )
        if not template or there.base_job_template == template:
            return Put(name, kind, "as it was")
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
        return Put(name, kind, "updated")
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in {400, 409, 422}:
            raise
        raise ConfigError(
            f"Prefect does not accept {_path(name)}", accepted="a base job template", details=error.response.text
        ) from error


def kind_of(client: SyncPrefectClient, name: str) -> str:
    """The type of the pool: only Prefect Cloud pushes; on another server a worker takes the same runs to the cloud."""
    kind = POOLS.get(name, "process")  # one that a profile has for `placement`
    return kind if client.server_type is ServerType.CLOUD else kind.removesuffix(":push")


def _path(name: str) -> Path:
    return config.root() / "deploy" / "workpools" / f"{name}.json"


def _template(client: SyncPrefectClient, name: str, profile: Profile) -> dict[str, Any]:
    """What a run on the pool gets; empty for plain processes, whose workers bring Prefect's own."""
    path = _path(name)
    if not path.is_file():
        if POOLS.get(name, "process") == "process":
            return {}
        raise NotFoundError(f"no template {path}", accepted=", ".join(POOLS), next_step=f"create {path}")
    template: dict[str, Any] = json.loads(path.read_bytes())
    variables = template["variables"]["properties"]
    if "image" in variables:
        variables["image"]["default"] = _image(name, profile)
    for container in _kubernetes_containers(template):
        container["env"] = [*container["env"], *_references(profile)]
    required = kind_of(client, name).endswith(":push")
    for variable, slug in _blocks(template["variables"]):
        block = _block(client, slug, required=required)
        if block:
            variables[variable]["default"] = {"$ref": {"block_document_id": block}}
    return template


def _image(name: str, profile: Profile) -> str:
    if profile.kubeflow.image is None:
        raise ConfigError(
            f"a run on work pool {name!r} has no image",
            accepted="`kubeflow.image` in the profile",
            next_step="make image",
        )
    return profile.kubeflow.image


def _kubernetes_containers(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    manifest = template["job_configuration"].get("job_manifest")
    return manifest["spec"]["template"]["spec"]["containers"] if manifest else []


def _references(profile: Profile) -> list[dict[str, Any]]:
    """The variables of a container whose values Kubernetes knows: the profile's `secrets` and `config_maps`."""
    settings = profile.kubeflow
    sources = (("secretKeyRef", settings.secrets), ("configMapKeyRef", settings.config_maps))
    return [
        {"name": variable, "valueFrom": {kind: {"name": name, "key": key}}}
        for kind, groups in sources
        for name, keys in groups.items()
        for key, variable in keys.items()
    ]


def _blocks(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The variables that are blocks on the server, and the types of these."""
    definitions = variables.get("definitions", {})
    for variable, schema in variables["properties"].items():
        for part in schema.get("allOf", ()):
            yield variable, definitions[part["$ref"].rpartition("/")[2]]["block_type_slug"]


def _block(client: SyncPrefectClient, slug: str, *, required: bool) -> str | None:
    """The id of the block with the pool's credentials; without one, a worker's own environment has them."""
    try:
        return str(client.read_block_document_by_name(BLOCK, slug, include_secrets=False).id)
    except ObjectNotFound as error:
        if not required:
            return None
        raise NotFoundError(
            f"no block {slug}/{BLOCK} on Prefect, which starts runs with the credentials in it",
            next_step=f"prefect block create {slug}",
        ) from error
