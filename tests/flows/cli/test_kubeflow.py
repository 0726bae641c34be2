"""`trilha kubeflow` against a server that speaks Kubeflow's REST interface (see tests/kubeflow.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from components.errors import ConfigError
from flows.cli.kubeflow import kubeflow_app
from tests.kubeflow import TOKEN, Server


def trilha(*arguments: str) -> str:
    result = CliRunner().invoke(kubeflow_app, [*arguments, "--profile", "test"])
    if result.exception:
        raise result.exception
    return result.stdout


@pytest.fixture
def served(small: Path, kubeflow: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, which profile `test` names."""
    path = small / "config" / "profiles" / "test.yaml"
    settings = {"host": kubeflow.url, "namespace": "team", "token_env": "KUBEFLOW_TOKEN", "image": "trilha:1"}
    text = path.read_text().replace("engine: local", "engine: kubeflow")
    path.write_text(f"{text}kubeflow: {json.dumps(settings)}\n")
    monkeypatch.setenv("KUBEFLOW_TOKEN", TOKEN)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(small / "none.json"))
    return kubeflow


def schedule(repository: Path, cron: str, timezone: str) -> None:
    """Give the project a schedule."""
    path = repository / "config" / "projects" / "small" / "project.yaml"
    path.write_text(f'{path.read_text()}\nschedule: {{cron: "{cron}", timezone: {timezone}, active: true}}\n')


@pytest.mark.usefixtures("served")
def test_compile_writes_where_the_packages_are_kept(small: Path) -> None:
    """One file, and a line that names it."""
    path = small / "deploy" / "kubeflow" / "small.yaml"
    assert trilha("compile", "small") == f"{path}: 14 nodes, for profile test\n"
    assert next(iter(yaml.safe_load_all(path.read_text())))["pipelineInfo"]["name"] == "small-lifecycle"


@pytest.mark.usefixtures("served")
def test_compile_for_machines(small: Path) -> None:
    """JSON names the file and the nodes; a part of the DAG is enough."""
    said = json.loads(trilha("compile", "small", "--until", "ingest", "--output", str(small / "part.yaml"), "--json"))
    assert said == {"path": str(small / "part.yaml"), "nodes": ["observe", "ingest"], "profile": "test"}


def test_a_run_is_submitted_and_asked_for(served: Server) -> None:
    """`submit` prints the run, its page and the next command, and that command says what became of it."""
    line, command = trilha("submit", "small").splitlines()
    (made,) = served.runs.values()
    run = made["display_name"]
    assert line == f"run {run}  {served.url}/#/runs/details/{made['run_id']}"
    assert command == f"trilha kubeflow status {run} --profile test"
    served.ends = {
        "state": "FAILED",
        "run_details": {"task_details": [{"display_name": "train-00", "state": "FAILED"}]},
    }
    assert trilha("status", run).splitlines() == [
        f"run {run}: FAILED  {served.url}/#/runs/details/{made['run_id']}",
        "name      state   error",
        "train-00  FAILED",
    ]
    assert json.loads(trilha("status", run, "--json"))["state"] == "FAILED"


def test_the_projects_schedule(served: Server, small: Path) -> None:
    """Its cron, in Kubeflow's six fields."""
    schedule(small, "0 5 * * *", "UTC")
    assert trilha("schedule", "small").startswith("schedule small-lifecycle: 0 5 * * * (UTC)")
    (made,) = served.schedules.values()
    assert (made["trigger"]["cron_schedule"]["cron"], made["mode"]) == ("0 0 5 * * *", "ENABLE")


def test_a_time_zone_that_kubeflow_does_not_know(served: Server, small: Path) -> None:
    """Refused, not run at other hours."""
    schedule(small, "0 5 * * *", "Europe/Lisbon")
    with pytest.raises(ConfigError, match=r"Europe/Lisbon.*UTC.*prefect deploy"):
        trilha("schedule", "small")
    assert not served.schedules


@pytest.mark.parametrize(
    ("before", "after"), [("engine: kubeflow", "engine: prefect"), ("active: true", "active: false")]
)
def test_a_schedule_that_is_not_active(served: Server, small: Path, before: str, after: str) -> None:
    """Where another engine has it, or nobody is to: Kubeflow shows it and starts nothing by it."""
    schedule(small, "0 5 * * *", "UTC")
    for path in (small / "config/projects/small/project.yaml", small / "config/profiles/test.yaml"):
        path.write_text(path.read_text().replace(before, after))
    assert "(UTC), not active, " in trilha("schedule", "small")
    (made,) = served.schedules.values()
    assert made["mode"] == "DISABLE"


def test_no_schedule_is_named(served: Server) -> None:
    """With what one looks like."""
    with pytest.raises(ConfigError, match=r"small/project.yaml: no schedule.*cron"):
        trilha("schedule", "small")
    assert not served.schedules


def test_no_host_is_named(small: Path) -> None:
    """With the file that could name one."""
    with pytest.raises(ConfigError, match=r"'test' names no Kubeflow host.*config/profiles/test.yaml"):
        trilha("status", "last")
