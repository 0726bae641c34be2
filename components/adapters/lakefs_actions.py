"""The lakeFS action that calls the trigger service when a watched branch gets a commit.

lakeFS reads a branch's actions from the commit itself, so the file has to be on every watched branch; it is on `main`
too, for the branches that are made from it. The service's token is known to the lakeFS server alone, by a variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import yaml

from components.adapters.lakefs_terms import encoded

if TYPE_CHECKING:
    from components.adapters.lakefs_store import LakeFSStore
    from components.workspace import Workspace

VARIABLE = "LAKEFSACTION_TRILHA_TOKEN"
"""The lakeFS server's variable that holds the token; as shipped, it gives actions only those that begin so."""


def install(workspace: Workspace, branches: Sequence[str], url: str) -> None:
    """Have lakeFS post to `url` after each commit on, and each merge into, one of `branches`."""
    cast("LakeFSStore", workspace.store).put_triggers(branches, action(branches, url))


def action(branches: Sequence[str], url: str) -> str:
    """The action file."""
    watched = [encoded(branch) for branch in branches]
    properties = {"url": url, "timeout": "15s", "headers": {"Authorization": f"Bearer {{{{ ENV.{VARIABLE} }}}}"}}
    return yaml.safe_dump(
        {
            "name": "trilha-triggers",
            "on": {event: {"branches": [*watched]} for event in ("post-commit", "post-merge")},
            "hooks": [{"id": "start-the-lifecycle", "type": "webhook", "properties": properties}],
        },
        sort_keys=False,
    )
