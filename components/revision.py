"""The revision of the code that runs."""

from __future__ import annotations

import os
import subprocess
from functools import cache

from components import config


@cache
def revision() -> str:
    """The repository's Git revision, `-dirty` appended where files differ from it; empty where there is no Git.

    An image holds no repository; it was told its revision when it was built.
    """
    built = os.environ.get("TRILHA_REVISION")
    if built:
        return "" if built == "unknown" else built

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(config.root()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
