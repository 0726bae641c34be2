"""The engine on a Prefect server: what Prefect has to be told before it is imported, which takes a second."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from components.endpoints import prefect_api
from components.records import Record
from components.runs import Run
from components.workspace import Workspace
from flows.dag import Dag
from flows.engines.local import check_resources

if TYPE_CHECKING:
    from flows.engines.prefect_pools import Put


def run(dag: Dag, run: Run) -> dict[str, Record]:
    """Run `dag` as a flow, one task a node, as many side by side as the profile has workers.

    Raises:
        UnavailableError: the profile's Prefect server is not running; none is started behind the scenes.
    """
    check_resources(dag, run.workspace.profile.pools)
    settle(run.workspace)
    from flows.engines.prefect_flow import run_as_flow

    return run_as_flow(dag, run)


def prepare(workspace: Workspace) -> list[Put]:
    """Have the profile's server take deployments, and its workers find their pools.

    Returns:
        the profile's work pools, and what became of each.

    Raises:
        UnavailableError: the server is not running.
    """
    settle(workspace)
    from flows.engines import prefect_pools

    return prefect_pools.prepare(workspace)


def settle(workspace: Workspace) -> None:
    """Have Prefect talk to the profile's server and keep its files there, whatever the user's own settings say."""
    if "prefect" in sys.modules:  # then Prefect runs us, as in a deployment, and has its settings
        return
    os.environ.pop("PREFECT_PROFILE", None)
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": prefect_api(workspace.endpoint("prefect")),
        "PREFECT_HOME": str(workspace.home / "prefect"),
        "PREFECT_LOGGING_SETTINGS_PATH": str(Path(__file__).with_name("prefect_logging.yml")),
    }
