"""The git store's hook: written once, run by our own commits, and never in anybody's way."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.adapters import git_hook
from components.errors import ConfigError
from components.workspace import Workspace
from tests.examples import commit_parcels

WRITE = "import os, pathlib, sys; pathlib.Path(os.environ['SEEN']).open('a').write(sys.argv[1] + '\\n')"


def installed(workspace: Workspace, tmp_path: Path, *branches: str) -> Path:
    """The hook, which notes each branch in the file that is returned."""
    _ = workspace.store
    seen = tmp_path / "it's seen"
    git_hook.install(workspace.home / "data.git", branches, [sys.executable, "-c", WRITE], {"SEEN": str(seen)})
    return seen


def lines(path: Path, count: int) -> list[str]:
    """What was noted, once it is `count` lines."""
    deadline = time.monotonic() + 20
    while (not path.exists() or path.read_text().count("\n") < count) and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text().split()


def test_commits_of_watched_branches(workspace: Workspace, tmp_path: Path) -> None:
    """A commit on a watched branch is told, one on another is not."""
    seen = installed(workspace, tmp_path, "incoming/a", "incoming-b")
    commit_parcels(workspace, 10, "other")
    for branch in ("incoming/a", "incoming-b"):
        commit_parcels(workspace, 10, branch)
    assert sorted(lines(seen, 2)) == ["incoming-b", "incoming/a"]


def test_written_again(workspace: Workspace, tmp_path: Path) -> None:
    """What is written last counts; a hook of somebody else stays as it is."""
    installed(workspace, tmp_path, "a")
    installed(workspace, tmp_path, "b")
    hook = workspace.home / "data.git" / "hooks" / "post-receive"
    assert "refs/heads/b)" in hook.read_text()
    assert "refs/heads/a" not in hook.read_text()
    assert subprocess.run(["sh", "-n", hook], check=False).returncode == 0
    hook.write_text("#!/bin/sh\necho mine\n")
    with pytest.raises(ConfigError, match="somebody else's"):
        installed(workspace, tmp_path, "a")
    assert hook.read_text() == "#!/bin/sh\necho mine\n"


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "#!/nowhere\n", "#!/bin/sh\nsleep 100\n"])
def test_a_bad_hook(workspace: Workspace, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that fails, cannot be run or hangs fails no commit."""
    monkeypatch.setattr(git_hook, "PATIENCE", 0.2)
    _ = workspace.store
    hook = workspace.home / "data.git" / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(text)
    hook.chmod(0o755)
    commit = commit_parcels(workspace, 10)
    assert workspace.store.resolve("incoming").id == commit
