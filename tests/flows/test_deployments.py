"""The deployments of this repository, put on a real server and run by a real worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.runs import RunLog
from components.workspace import Workspace, open_workspace
from flows.engines.prefect import prepare
from flows.engines.prefect_yaml import compiled
from tests.prefect_api import api

ROOT = Path(__file__).parents[2]

FORM = """
import json
from flows.deployments import lifecycle
print(json.dumps(lifecycle.parameters.model_dump()))
"""


def test_the_form_offers_what_there_is(small: Path) -> None:
    """Each parameter has its description; project, profile and step are chosen from those of this repository."""
    form = output_of(FORM)
    assert form["required"] == ["project"]
    fields = form["properties"]
    assert all(field["type"] == "string" and field["description"] for field in fields.values())
    assert fields["project"]["enum"] == ["small"]
    assert fields["profile"]["enum"] == ["test"]
    assert fields["until"]["enum"][0] == "observe"
    assert fields["until"]["enum"][-1] == fields["until"]["default"] == "release"
    assert fields["commit"]["default"] == ""


def test_a_project_that_cannot_be_read_is_nobody_elses_trouble(small: Path) -> None:
    """The others are deployed and run all the same."""
    (small / "config" / "projects" / "broken").mkdir()
    (small / "config" / "projects" / "broken" / "project.yaml").write_text("titel: broken")
    assert "train-00" in output_of(FORM)["properties"]["until"]["enum"]


def output_of(program: str) -> dict[str, Any]:
    """What a process of its own prints: a flow's parameters are made when its module is imported."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


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
            cwd=small,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    (small / "prefect.yaml").write_text(compiled("test"))
    prepare(on_prefect)
    prefect("deploy", "--all")
    prefect("deployment", "run", "lifecycle/small", "-p", "until=ingest")
    prefect("worker", "start", "--pool", "onprem", "--run-once")

    log = RunLog(open_workspace("test"))
    run = log.header("last")
    assert {name: state.status for name, state in log.nodes(run.id).items()} == {"observe": "done", "ingest": "done"}
    body = {"flow_runs": {"name": {"any_": [run.id]}}}
    [flow_run] = api(prefect_url).post("/flow_runs/filter", json=body).json()
    assert flow_run["state_name"] == "Completed"
    assert flow_run["deployment_id"] is not None
