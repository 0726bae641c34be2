"""The git store's standard hook, `hooks/post-receive`: run by stock Git after a push, and by our own adapter.

It tells others that a branch moved. It never fails, nor does anybody wait for it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from components.errors import ConfigError

PATH = Path("hooks") / "post-receive"
MARK = "# Written by `trilha triggers install`; run that again when a project's `watch:` changes."
PATIENCE = 10.0
"""Seconds for the hook; ours puts its work into the background."""


def install(store: Path, branches: Sequence[str], command: Sequence[str], environment: Mapping[str, str]) -> Path:
    """Have `command BRANCH` run whenever one of `branches` moves; returns where the hook is.

    Args:
        store: the bare repository.
        branches: by their names, which are safe in a shell.
        command: a program and its arguments; the branch's name is added.
        environment: what is set for it.

    Raises:
        ConfigError: a hook of somebody else is there.
    """
    path = store / PATH
    if path.exists() and MARK not in path.read_text(errors="replace"):
        raise ConfigError(
            f"{path} is somebody else's",
            accepted="no such file, or one that Trilha wrote",
            next_step=f"have it call `{shlex.join(command)} BRANCH` for {', '.join(branches)}, or put it aside",
        )
    patterns = "|".join(f"refs/heads/{branch}" for branch in branches) or "nothing"
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(f"""\
#!/bin/sh
{MARK}
while read -r old new ref; do
  case "$ref" in
    {patterns})
      {variables} {shlex.join(command)} "${{ref#refs/heads/}}" </dev/null >/dev/null 2>&1 &
      ;;
  esac
done
exit 0
""")
    part.chmod(0o755)
    part.replace(path)
    return path


def moved(store: Path, reference: str, old: str, new: str) -> None:
    """Run the hook, if there is one, as stock Git does after a push."""
    path = store / PATH
    if os.access(path, os.X_OK):
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [path],
                input=f"{old} {new} {reference}\n".encode(),
                cwd=store,
                env=os.environ | {"GIT_DIR": "."},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE,
                check=False,
            )
