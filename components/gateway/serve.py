"""Run the gateway: uvicorn with uvloop and httptools, whose loop and parser are compiled, and our `Protocol`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from components.errors import ConfigError

if TYPE_CHECKING:
    from components.workspace import Workspace


def check_binding(host: str, *, authentication: bool) -> None:
    """Nothing listens beyond loopback without authentication.

    Raises:
        ConfigError: it would.
    """
    try:
        inside = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = False
    if not inside and not authentication:
        raise ConfigError(
            f"the gateway would listen on {host} and ask nobody who they are",
            accepted="127.0.0.1, ::1 or localhost, or authentication",
            next_step="set services.gateway.authentication: true in the profile, and: trilha keys add NAME",
        )


def serve(
    workspace: Workspace,
    host: str,
    port: int,
    projects: Sequence[str] = (),
    revive: Callable[[], object] = lambda: None,
    settle: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve until told to stop.

    Args:
        workspace: the profile's parts.
        host: the address to listen on.
        port: the port.
        projects: those to serve; all of them where none is named.
        revive: starts Triton again, where it is ours to start.
        settle: makes good what derives from the release of a project that was promoted.

    Raises:
        ConfigError: a setting is not accepted.
    """
    import uvicorn

    from components.gateway.app import Gateway
    from components.gateway.protocol import Protocol

    check_binding(host, authentication=workspace.profile.services.gateway.authentication)
    uvicorn.run(
        Gateway(workspace, projects, revive, settle),
        host=host,
        port=port,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,  # /metrics has the counts, and the log of predictions has the rest
        server_header=False,
        date_header=False,
        backlog=1024,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=10,
    )
