"""The token: made once, for our eyes alone, and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import ConfigError, UnavailableError
from components.workspace import Workspace, open_workspace
from flows.triggers.token import make_token, read_token, token_path


def test_made_once(workspace: Workspace) -> None:
    """It stays the same, and only its owner can read it."""
    make_token(workspace.home)
    token = read_token(workspace)
    make_token(workspace.home)
    assert read_token(workspace) == token
    assert len(token) >= 32
    assert token_path(workspace.home).stat().st_mode & 0o777 == 0o600


def test_not_made_yet(workspace: Workspace) -> None:
    """The command that makes it is named."""
    with pytest.raises(UnavailableError, match="trilha up triggers"):
        read_token(workspace)


def test_others_can_read_it(workspace: Workspace) -> None:
    """A token that is no secret is none."""
    make_token(workspace.home)
    token_path(workspace.home).chmod(0o644)
    with pytest.raises(ConfigError, match="0600"):
        read_token(workspace)


@pytest.mark.parametrize("value", ["", "short"])
def test_a_variable(repository: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The profile may name a variable; one without a proper token is refused, and its value is not told."""
    path = repository / "config" / "profiles" / "test.yaml"
    path.write_text(path.read_text() + "services: {triggers: {token_env: HOOK_TOKEN}}\n")
    open_workspace.cache_clear()
    monkeypatch.setenv("HOOK_TOKEN", "x" * 32)
    assert read_token(open_workspace("test")) == "x" * 32
    monkeypatch.setenv("HOOK_TOKEN", value)
    with pytest.raises(ConfigError, match="HOOK_TOKEN holds no token") as raised:
        read_token(open_workspace("test"))
    assert not value or value not in str(raised.value.as_dict())
