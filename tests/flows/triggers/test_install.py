"""`trilha triggers install | show`, and the call that the hook makes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from components.errors import ConfigError
from components.workspace import Workspace, open_workspace
from flows.triggers import call
from flows.triggers.install import install
from flows.triggers.trigger import branches


@pytest.fixture
def watching(small: Path) -> Workspace:
    """The project `small`, watching `incoming`."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    path.write_text(path.read_text() + "watch: incoming\n")
    return open_workspace("test")


def test_the_hook_calls_this_installation(watching: Workspace, small: Path) -> None:
    """It runs the very Python and repository that wrote it, whoever pushes."""
    assert branches() == {"small": "incoming"}
    assert "tells of incoming" in install(watching)
    hook = (watching.home / "data.git" / "hooks" / "post-receive").read_text()
    assert all(
        text in hook for text in (sys.executable, f"TRILHA_ROOT={small}", "--profile test", "refs/heads/incoming")
    )


def test_nothing_is_watched(small: Path, workspace: Workspace) -> None:
    """It says what to write, and writes nothing."""
    with pytest.raises(ConfigError, match="watch: BRANCH"):
        install(workspace)
    assert not (workspace.home / "data.git" / "hooks" / "post-receive").exists()


def test_nobody_listens(
    watching: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The call says so and is no failure."""
    monkeypatch.setattr(sys, "argv", ["call", "--profile", "test", "incoming"])
    call.main()
    assert "triggers is not running" in capsys.readouterr().err


@pytest.mark.parametrize("branch", ["main", "releases", "ingest/small/1", "Incoming", "../x", "abcdef0"])
def test_branches_that_cannot_be_watched(small: Path, branch: str) -> None:
    """Trilha's own branches, and what is no name of one, are refused with line and reason."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    path.write_text(path.read_text() + f"watch: '{branch}'\n")
    with pytest.raises(ConfigError, match="watch"):
        branches()
