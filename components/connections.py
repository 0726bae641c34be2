"""Servers outside that data comes from or goes to: a project calls them by a name, a profile says where they are."""

from __future__ import annotations

import os

from components.errors import ConfigError, nearest
from components.workspace import Workspace


def url_of(workspace: Workspace, name: str) -> str:
    """The URL of the connection `name`, with its password: for a client alone, never to be shown or written down.

    Raises:
        ConfigError: the profile has no such connection, or the variable that holds its URL is not set here.
    """
    known = workspace.profile.connections
    if name not in known:
        raise ConfigError(
            f"profile {workspace.name!r} has no connection {name!r}{nearest(name, known)}",
            accepted=", ".join(sorted(known)) or "none yet",
            next_step=f"say where it is, under `connections` in config/profiles/{workspace.name}.yaml",
        )
    connection = known[name]
    if connection.url is not None:
        return connection.url
    url = os.environ.get(connection.url_env or "", "").strip()
    if not url:
        raise ConfigError(
            f"the variable {connection.url_env}, which holds the URL of connection {name!r}, is not set",
            next_step=f"export {connection.url_env}=...",
        )
    return url
