"""Whether a Prefect server takes this profile's runs: its version, the credentials, the pools, the deployments."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import prefect
from packaging.version import Version
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from components import config
from components.endpoints import prefect_api
from components.errors import ConfigError, NotFoundError, UnavailableError
from components.workspace import Workspace
from flows.doctor.check import Check, lacking, tried
from flows.engines.prefect_pools import hindrance, kind_of, server_of


def checks(workspace: Workspace) -> Iterator[Check]:
    """One check of the server, one of each pool of the profile, and one of each deployment that is wrong.

    Raises:
        ConfigError: the server does not take the credentials in the environment.
        UnavailableError: it does not answer as it should.
    """
    needed = workspace.profile.engine == "prefect"
    with server_of(workspace) as client:
        yield _version(workspace, client, needed=needed)
        for pool in dict.fromkeys([workspace.profile.services.workers.pool, *workspace.profile.pools]):
            yield tried(f"pool {pool}", partial(_pool, workspace, client, pool), needed=needed)
        yield from _deployments(workspace, client, needed=needed)


def _version(workspace: Workspace, client: SyncPrefectClient, *, needed: bool) -> Check:
    """Between versions of one number, Prefect only warns of a server that is older than its clients."""
    url = workspace.endpoint("prefect")
    if client.server_type is ServerType.CLOUD:
        client.read_work_pools(limit=1)  # who is unknown is told so here
        return Check(name="prefect", verdict="good", found=f"Prefect Cloud at {url}")
    theirs, ours = Version(client.api_version()), Version(prefect.__version__)
    if theirs.major == ours.major and theirs >= ours:
        return Check(name="prefect", verdict="good", found=f"Prefect {theirs} at {url}")
    return lacking(
        "prefect",
        f"Prefect at {url} is version {theirs}, here is {ours}",
        f"bring the server to {ours}: it may be newer than what runs on it, not older",
        needed=needed and theirs.major != ours.major,
    )


def _pool(workspace: Workspace, client: SyncPrefectClient, name: str) -> str:
    make = f"trilha prefect pools --profile {workspace.name}"
    try:
        there = client.read_work_pool(name)
    except ObjectNotFound:
        raise NotFoundError(f"no work pool {name!r} on Prefect", next_step=make) from None
    kind = kind_of(client, name)
    if there.type != kind:
        raise ConfigError(
            f"work pool {name!r} is of type {there.type!r}, not {kind!r}",
            next_step=f"prefect work-pool delete {name}; {make}",
        )
    problem, _, next_step = hindrance(client, name).partition("; next: ")
    if problem:
        api = prefect_api(workspace.endpoint("prefect"))
        raise UnavailableError(problem, next_step=f"PREFECT_API_URL={api} {next_step}")
    return f"of type {kind!r}, with a worker online" if not there.is_push_pool else f"of type {kind!r}"


def _deployments(workspace: Workspace, client: SyncPrefectClient, *, needed: bool) -> Iterator[Check]:
    """What `trilha prefect compile` names, against what the server has."""
    profile = workspace.profile
    names = config.project_names()
    scored = [project for project in names if config.load_project(project).file.scoring]
    deployed = [*(f"lifecycle/{project}" for project in names), *(f"scoring/{project}" for project in scored)]
    wanted = dict.fromkeys(deployed, profile.services.workers.pool)
    wanted |= {f"step/{pool}": pool for pool in profile.pools}
    api = prefect_api(workspace.endpoint("prefect"))
    deploy = f"trilha prefect compile --profile {workspace.name}; PREFECT_API_URL={api} prefect deploy --all"
    wrong = {name: why for name, pool in wanted.items() if (why := _difference(workspace, client, name, pool))}
    for name, why in wrong.items():
        yield lacking(name, why, deploy, needed=needed)
    if wanted and not wrong:
        yield Check(name="deployments", verdict="good", found=", ".join(wanted))


def _difference(workspace: Workspace, client: SyncPrefectClient, name: str, pool: str) -> str:
    """What is wrong with a deployment; empty where nothing is."""
    try:
        there = client.read_deployment_by_name(name)
    except ObjectNotFound:
        return f"no deployment {name} on Prefect"
    profile = there.parameters.get("profile", workspace.name)  # a step gets it with each call
    if profile != workspace.name:
        return f"deployment {name} runs profile {profile!r}"
    return "" if there.work_pool_name == pool else f"deployment {name} is on work pool {there.work_pool_name!r}"
