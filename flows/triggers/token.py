"""The token of those who may start runs: in a variable that the profile names, or in a file that only we can read."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from components.workspace import Workspace

SHORTEST = 16
"""Characters; what can be guessed is no token."""


def token_path(home: Path) -> Path:
    """Where the token is that `trilha up` makes."""
    return home / "services" / "triggers.token"


def make_token(home: Path) -> None:
    """Make the file with the token where there is none; it stays the same from then on."""
    path = token_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))


def read_token(workspace: Workspace) -> str:
    """The token of this profile's callers.

    Raises:
        ConfigError: the variable is not set, the token is too short, or others can read its file.
        UnavailableError: there is no file yet.
    """
    name = workspace.profile.services.triggers.token_env
    path = token_path(workspace.home)
    if name is not None:
        token, where = os.environ.get(name, ""), f"the environment variable {name}"
    else:
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise ConfigError(
                    f"others than its owner can read {path}", accepted="mode 0600", next_step=f"rm {path}; trilha up"
                )
            token, where = path.read_text().strip(), str(path)
        except FileNotFoundError as error:
            raise UnavailableError(f"no {path}", next_step=f"trilha up triggers --profile {workspace.name}") from error
    if len(token) < SHORTEST:
        raise ConfigError(f"{where} holds no token", accepted=f"{SHORTEST} characters or more, at random")
    return token
