"""The deployments of this repository, put on a real server and run by a real worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from components.runs import RunLog
from components.workspace import Workspace, open_workspace

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda one: one["name"])
def test_names_what_is_there(deployment: dict[str, object]) -> None:
    """Each deployment names a project, a profile and a file of this repository."""
    parameters = deployment["parameters"]
    assert isinstance(parameters, dict)
    assert (ROOT / "config" / "projects" / parameters["project"] / "project.yaml").is_file()
    assert (ROOT / "config" / "profiles" / f"{parameters['profile']}.yaml").is_file()
    assert (ROOT / str(deployment["entrypoint"]).split(":")[0]).is_file()


@pytest.mark.slow
@pytest.mark.xdist_group("prefect")
def test_a_worker_runs_it(on_prefect: Workspace, small: Path, prefect_url: str) -> None:
    """`prefect deploy --all`, then a run that a person starts: the worker's flow run has the nodes as its tasks."""
    environment = os.environ | {
        "PREFECT_API_URL": f"{prefect_url}/api",
        "PREFECT_HOME": str(small / "prefect"),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
    }

    def prefect(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    prefect("work-pool", "create", "trilha", "--type", "process")
    prefect("deploy", "--all")
    prefect("deployment", "run", "lifecycle/flights", "-p", "project=small", "-p", "profile=test", "-p", "until=ingest")
    prefect("worker", "start", "--pool", "trilha", "--run-once")

    log = RunLog(open_workspace("test"))
    run = log.header("last")
    assert {name: state.status for name, state in log.nodes(run.id).items()} == {"observe": "done", "ingest": "done"}
    body = {"flow_runs": {"name": {"any_": [run.id]}}}
    [flow_run] = httpx.post(f"{prefect_url}/api/flow_runs/filter", json=body, trust_env=False).json()
    assert flow_run["state_name"] == "Completed"
    assert flow_run["deployment_id"] is not None
