"""What each service is: its ports, the command that starts it, and the page that says it is well."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.workspace import Workspace

HOST = "127.0.0.1"
"""Services listen here; the gateway may listen elsewhere as well, with authentication."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A command and its whole environment."""

    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Service:
    """One kind of service.

    Args:
        ports: what it listens on, the one that clients use first; then by how much each differs from the profile's.
        probe: the port and the path that answer 200 once the service is well.
        scheme: how clients speak to it: `http`, or `grpc`, which has no scheme in its address.
        launch: the command, from the profile's parts and the ports.
    """

    name: str
    ports: Mapping[str, int]
    probe: tuple[str, str]
    scheme: str
    launch: Callable[[Workspace, Mapping[str, int]], Launch]

    def main_port(self, ports: Mapping[str, int]) -> int:
        """The one that clients use."""
        return ports[next(iter(self.ports))]

    def url(self, ports: Mapping[str, int]) -> str:
        """Where clients find it."""
        address = f"{HOST}:{self.main_port(ports)}"
        return address if self.scheme == "grpc" else f"http://{address}"


FOREIGN = ("PREFECT_", "MLFLOW_", "_MLFLOW_", "TENSORBOARD_", "UVICORN_", "TRILHA_")
"""Variables that are meant for the user's own programs and would bend ours."""


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what would bend a service: a server of its own is not one's client of another."""
    kept = {name: value for name, value in environment.items() if not name.startswith(FOREIGN)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # what the installation left uncompiled is compiled once, not each time
    return kept | {"DO_NOT_TRACK": "1"}


def _python(*arguments: str, **variables: str) -> Launch:
    import components

    ours = {"PYTHONPATH": str(Path(components.__path__[0]).parent)}
    return Launch([sys.executable, "-m", *arguments], clean(os.environ) | ours | variables)


def _prefect(workspace: Workspace, ports: Mapping[str, int]) -> Launch:
    """One process with its UI, its scheduler and an SQLite database."""
    port = str(ports["http"])
    return _python(
        "flows.engines.prefect_server", "--host", HOST, "--port", port,
        PREFECT_HOME=str(workspace.home / "prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        # In memory, a deployment's one slot would be lost with the server, and no run of it begin any more.
        PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE="prefect.server.concurrency.lease_storage.filesystem",
        PREFECT_SERVER_UI_API_URL=f"http://{HOST}:{port}/api",
    )  # fmt: skip


def _mlflow(workspace: Workspace, ports: Mapping[str, int]) -> Launch:
    return _python(
        "components.adapters.mlflow_service", str(workspace.home / "mlflow"), HOST, str(ports["http"]),
        MLFLOW_DISABLE_TELEMETRY="true",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",  # jobs are for judges of language models
    )  # fmt: skip


def _tensorboard(workspace: Workspace, ports: Mapping[str, int]) -> Launch:
    folder = f"{workspace.state}/tensorboard"  # of all machines, where they share a state
    if "://" not in folder:
        Path(folder).mkdir(exist_ok=True)
    return _python(
        "components.adapters.tensorboard_service", "--logdir", folder, "--host", HOST, "--port", str(ports["http"])
    )


def _triton(workspace: Workspace, ports: Mapping[str, int]) -> Launch:
    from components.adapters.triton_binary import command
    from components.adapters.triton_service import ready_repository

    home, settings = workspace.home, workspace.profile.services.triton
    repository = ready_repository(settings.repository or str(home / "triton" / "models"))
    arguments, environment = command(
        home, repository, ports["grpc"], ports["http"], ports["metrics"], more=settings.backends
    )
    return Launch(arguments, clean(environment))


def _triggers(workspace: Workspace, ports: Mapping[str, int]) -> Launch:
    """It reads this repository's projects, and knows the profile's secrets by the names of their variables."""
    from components import config
    from flows.triggers.token import make_token

    token = workspace.profile.services.triggers.token_env
    if token is None:
        make_token(workspace.home)
    named = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", token or "")
    secrets = {name: os.environ[name] for name in named if name in os.environ}
    return _python(
        "flows.triggers", "--profile", workspace.name, "--host", HOST, "--port", str(ports["http"]),
        TRILHA_ROOT=str(config.root()), **secrets,
    )  # fmt: skip


def _workers(workspace: Workspace, ports: Mapping[str, int]) -> Launch:
    """They run flows with this repository, this environment and the variables of whoever started them."""
    from components import config

    secrets = {name: os.environ[name] for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING") if name in os.environ}
    return _python(
        "flows.services.workers", "--profile", workspace.name, "--host", HOST, "--port", str(ports["http"]),
        TRILHA_ROOT=str(config.root()), **secrets,
    )  # fmt: skip


def _gateway(workspace: Workspace, ports: Mapping[str, int]) -> Launch:
    """It knows the profile's secrets by the names of their variables."""
    from components import config

    settings = workspace.profile.services.gateway
    named = (settings.jwt.key_env if settings.jwt else "", (settings.cache and settings.cache.redis_env) or "")
    secrets = {name: os.environ[name] for name in named if name in os.environ}
    return _python(
        "flows.gateway", "--profile", workspace.name, "--host", settings.host, "--port", str(ports["http"]),
        TRILHA_ROOT=str(config.root()), **secrets,
    )  # fmt: skip


SERVICES = {
    service.name: service
    for service in (
        Service("prefect", {"http": 0}, ("http", "/api/health"), "http", _prefect),
        Service("mlflow", {"http": 0}, ("http", "/health"), "http", _mlflow),
        Service("tensorboard", {"http": 0}, ("http", "/data/environment"), "http", _tensorboard),
        Service("triton", {"grpc": 0, "http": -1, "metrics": 1}, ("http", "/v2/health/ready"), "grpc", _triton),
        Service("triggers", {"http": 0}, ("http", "/health"), "http", _triggers),
        Service("gateway", {"http": 0}, ("http", "/health/live"), "http", _gateway),
        Service("workers", {"http": 0}, ("http", "/health"), "http", _workers),
    )
}
"""In the order in which they are shown."""
