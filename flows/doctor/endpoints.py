"""What a profile names elsewhere: whether it is there, takes our credentials, and has what a run needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from components import config
from components.endpoints import prefect_api
from components.errors import ConfigError, NotFoundError, TrilhaError, UnavailableError
from components.profile import GitStore
from components.workspace import Workspace
from flows.doctor.check import Check, lacking, tried
from flows.doctor.reach import get, hear, limited, reach, shown

if TYPE_CHECKING:
    import httpx

UNKNOWN = {401, 403}
"""Statuses of those who do not know us."""


def state(workspace: Workspace) -> Iterator[Check]:
    """Whether the ledger, runs and artifacts can be written; a folder of this machine is on the disk, see `machine`."""
    if "://" in workspace.state:
        yield tried("state", lambda: _files(workspace.state, workspace.name))


def store(workspace: Workspace) -> Iterator[Check]:
    """The data store: there, or to be made by a run; nothing is made here."""
    settings = workspace.profile.store
    if isinstance(settings, GitStore):
        path = config.root() / settings.path
        made = (path / "HEAD").is_file()
        yield Check(name="store", verdict="good", found=f"{path}" if made else f"{path}: the first run makes it")
        return

    def ask() -> str:
        hear(f"{settings.url}/_health", workspace.name)
        from components.adapters.lakefs_client import look

        return limited(lambda: look(settings), f"lakeFS at {settings.url}")

    yield tried("store", ask, remedy=f"correct store.url in {_file(workspace)}")


def sql(workspace: Workspace) -> Iterator[Check]:
    """The engine of `features.sql`; the embedded one needs no look."""
    url = workspace.profile.sql
    if url == "duckdb://":
        return

    def ask() -> str:
        if urlsplit(url).hostname:
            reach(url, workspace.name)
        from components.sql_engine import name_of

        return limited(lambda: f"{name_of(url)} at {shown(url)}", shown(url))

    yield tried("sql", ask, remedy=f"correct `sql` in {_file(workspace)}")


def prefect(workspace: Workspace) -> Iterator[Check]:
    """The server, its pools and deployments; its client is imported where somebody answers."""
    url = workspace.profile.services.prefect.url
    if url is None:
        return
    try:
        hear(f"{prefect_api(url.rstrip('/'))}/health", workspace.name)
        from flows.engines.prefect import settle

        settle(workspace)
        from flows.engines.prefect_checks import checks

        yield from limited(lambda: list(checks(workspace)), f"Prefect at {shown(url)}")
    except TrilhaError as error:
        yield lacking("prefect", error.problem, error.next_step, needed=workspace.profile.engine == "prefect")


def mlflow(workspace: Workspace) -> Iterator[Check]:
    """A server, or a database that none stands before; of that, only whether anybody listens."""
    url = workspace.profile.services.mlflow.url
    if url is None:
        return

    def ask() -> str:
        if not url.startswith("http"):
            if urlsplit(url).hostname:
                reach(url, workspace.name)
            return shown(url)
        variables = [f"MLFLOW_TRACKING_{part}" for part in ("USERNAME", "PASSWORD", "TOKEN")]
        name, password, token = map(os.environ.get, variables)
        path = f"{url.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = get(path, workspace.name, headers=headers, auth=(name, password) if name and password else None)
        if answer.status_code in UNKNOWN:
            raise ConfigError(
                f"MLflow at {shown(url)} does not know us ({answer.status_code})",
                next_step="export {}=... {}=..., or {}=...".format(*variables),
            )
        return _well("MLflow", url, answer)

    yield tried("mlflow", ask, remedy=f"look at its log, or correct services.mlflow.url in {_file(workspace)}")


def tensorboard(workspace: Workspace) -> Iterator[Check]:
    """A run wants its page to be there, though it writes to the state's folder."""
    url = workspace.profile.services.tensorboard.url
    if url is None:
        return

    def ask() -> str:
        answer = get(f"{url.rstrip('/')}/data/environment", workspace.name)
        if answer.status_code in UNKNOWN or answer.is_redirect:
            return f"{shown(url)} asks people who they are"  # nothing but people goes there
        return _well("TensorBoard", url, answer)

    remedy = f"look at its log, or correct services.tensorboard.url in {_file(workspace)}"
    yield tried("tensorboard", ask, remedy=remedy)


def triton(workspace: Workspace) -> Iterator[Check]:
    """The server, the repository that it reads, and that we see the same one."""
    settings = workspace.profile.services.triton
    url, repository = settings.url, settings.repository
    if url is None or repository is None:
        return
    place: str = repository
    served: frozenset[str] = frozenset()

    def ask() -> str:
        nonlocal served
        reach(f"grpc://{url}", workspace.name)
        server = workspace.server
        served = limited(server.loaded, f"Triton at {url}")
        return f"Triton at {url} serves {len(served)} models"

    def look() -> str:
        found = _files(place, workspace.name)
        from components.place import Place

        strange = sorted(served - {*Place(place).folders()})
        if strange:
            raise ConfigError(
                f"{place} has no model {strange[0]!r}, which Triton at {url} serves: it reads another one",
                next_step=f"correct services.triton.repository in {_file(workspace)}, or --model-repository there",
            )
        return found

    yield tried("triton", ask)
    yield tried("models", look)


def features(workspace: Workspace) -> Iterator[Check]:
    """The Redis of features known by entity, where the profile names one."""
    variable = workspace.profile.features.redis_env
    if variable is None:
        return

    def ask() -> str:
        limited(lambda: workspace.features.tables("doctor"), f"the Redis of {variable}")
        return f"the Redis of {variable} answers"

    yield tried("features", ask)


def triggers(workspace: Workspace) -> Iterator[Check]:
    """Whether the service takes our token: it is sent a call that says nothing, and so starts nothing."""
    url = workspace.profile.services.triggers.url
    if url is None:
        return

    variable = workspace.profile.services.triggers.token_env
    remedy = f"export {variable}=..." if variable else f"name services.triggers.token_env in {_file(workspace)}"

    def ask() -> str:
        from flows.triggers.token import read_token

        _well("triggers", url, get(f"{url.rstrip('/')}/health", workspace.name))
        headers = {"Authorization": f"Bearer {read_token(workspace)}"}
        answer = get(f"{url.rstrip('/')}/hooks/git", workspace.name, "POST", headers=headers, json={})
        if answer.status_code in UNKNOWN:
            known = variable or "the file of this machine"
            raise ConfigError(
                f"the trigger service at {shown(url)} does not take the token in {known}",
                next_step=f"{remedy}: the token that the service was started with",
            )
        if answer.status_code != 422:
            _well("triggers", url, answer)
        return f"the trigger service at {shown(url)} takes our token"

    yield tried("triggers", ask, needed=False, remedy=remedy)


def gateway(workspace: Workspace) -> Iterator[Check]:
    """Whether the door is there, and whether every release behind it answers; runs do not need it."""
    url = workspace.profile.services.gateway.url
    if url is None:
        return

    def ask() -> str:
        _well("gateway", url, get(f"{url.rstrip('/')}/health/live", workspace.name))
        if get(f"{url.rstrip('/')}/health/ready", workspace.name).status_code != 200:
            raise UnavailableError(
                f"the gateway at {shown(url)} is up, and not every release answers there",
                next_step="trilha releases PROJECT, trilha reconcile PROJECT, or its log",
            )
        return f"gateway at {shown(url)}, where every release answers"

    remedy = f"look at its log, or correct services.gateway.url in {_file(workspace)}"
    yield tried("gateway", ask, needed=False, remedy=remedy)


def kubeflow(workspace: Workspace) -> Iterator[Check]:
    """The cluster, or without one the image on this machine."""
    settings = workspace.profile.kubeflow
    if settings.host is None and settings.image is None:
        return

    def there(host: str) -> str:
        hear(f"{host}/apis/v2beta1/healthz", workspace.name)
        from flows.engines.kubeflow_cluster import Cluster

        limited(lambda: Cluster(settings, workspace.name).look(), f"Kubeflow at {host}")
        if settings.image is None:
            raise ConfigError("no image for Kubeflow's nodes", next_step=f"name kubeflow.image in {_file(workspace)}")
        return f"Kubeflow at {host} knows us" + (f" in namespace {settings.namespace!r}" if settings.namespace else "")

    def here() -> str:
        from flows.engines.kubeflow_containers import image_here

        found = limited(lambda: image_here(workspace.name, settings), "Docker's API")
        return f"image {found} is on this machine"

    needed, host = workspace.profile.engine == "kubeflow", settings.host
    yield tried("kubeflow", lambda: there(host) if host else here(), needed=needed, remedy="start Docker or podman")


def _file(workspace: Workspace) -> str:
    return f"config/profiles/{workspace.name}.yaml"


def _well(what: str, url: str, answer: httpx.Response) -> str:
    """Say that an answer was one of the service's own."""
    if answer.status_code == 404:
        raise NotFoundError(f"what answers at {shown(url)} is no {what}")
    if answer.status_code != 200:
        raise UnavailableError(f"{what} at {shown(url)} answers {answer.status_code} {answer.reason_phrase}")
    return f"{what} at {shown(url)}"


def _files(url: str, profile: str) -> str:
    """Say that a place can be listed and written, which is tried."""
    from components.place import Place

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and url.startswith("s3://"):
        try:
            hear(endpoint, profile)
        except TrilhaError as error:
            problem = f"{url}: {error.problem}"
            raise UnavailableError(problem, next_step="start it, or correct AWS_ENDPOINT_URL") from None

    def ask() -> None:
        place, name = Place(url), f"doctor-{uuid4().hex}"
        place.folders()
        place.write(name, b"")
        place.remove(name)

    with suppress(ImportError, ValueError):  # `Place` says it better
        import fsspec

        fsspec.get_filesystem_class(url.partition("://")[0])  # imported first, which is no conversation
    try:
        limited(ask, url)
    except OSError as error:  # of a folder that others see, too
        raise UnavailableError(f"{url}: {error.strerror}", next_step="change its owner") from None
    return f"{url} can be listed and written"
