"""The engine on a Prefect server: what Prefect has to be told before it is imported, which takes a second."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from components.records import Record
from components.workspace import Workspace, open_workspace
from flows.dag import Dag
from flows.engines.local import check_resources
from flows.run import Apply, Header


def run(dag: Dag, apply: Apply, *, header: Header, workers: int) -> dict[str, Record]:
    """Run `dag` as a flow, one task a node, `workers` of them side by side; see `Engine`.

    Raises:
        UnavailableError: the profile's Prefect server is not running; none is started behind the scenes.
    """
    check_resources(dag)
    workspace = open_workspace(header.profile)
    if "prefect" not in sys.modules:  # else Prefect runs us, as in a deployment, and has its settings
        _settle(workspace)
    from flows.engines.prefect_flow import run_as_flow

    return run_as_flow(workspace, dag, apply, header, workers)


def _settle(workspace: Workspace) -> None:
    """Have Prefect talk to the profile's server and keep its files there, whatever the user's own settings say."""
    os.environ.pop("PREFECT_PROFILE", None)
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": f"{workspace.endpoint('prefect')}/api",
        "PREFECT_HOME": str(workspace.home / "prefect"),
        "PREFECT_LOGGING_SETTINGS_PATH": str(Path(__file__).with_name("prefect_logging.yml")),
    }
