"""Have the data store tell the trigger service that a watched branch has moved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from components import config
from components.errors import ConfigError
from components.profile import GitStore
from flows.triggers.trigger import branches

if TYPE_CHECKING:
    from components.workspace import Workspace


def install(workspace: Workspace) -> str:
    """Write the store's hook for every branch that a project watches; returns what was written, and what is left to do.

    Raises:
        ConfigError: no project watches a branch, or somebody else's hook is there.
        UnavailableError: the store cannot be reached, or nothing says where the service is.
    """
    watched = sorted(set(branches().values()))
    if not watched:
        raise ConfigError("no project watches a branch", next_step="write `watch: BRANCH` into its project.yaml")
    store = workspace.profile.store
    if isinstance(store, GitStore):
        from components.adapters import git_hook

        _ = workspace.store  # made where there is none
        command = [sys.executable, "-m", "flows.triggers.call", "--profile", workspace.name]
        ours = {"TRILHA_ROOT": str(config.root()), "PYTHONPATH": str(Path(__file__).parents[2])}
        return f"{git_hook.install(config.root() / store.path, watched, command, ours)} tells of {', '.join(watched)}"
    from components.adapters import lakefs_actions

    lakefs_actions.install(workspace, watched, f"{workspace.endpoint('triggers')}/hooks/lakefs")
    return (
        f"repository {store.repository} tells of {', '.join(watched)}; the lakeFS server needs the token in "
        f"its variable {lakefs_actions.VARIABLE}"
    )
