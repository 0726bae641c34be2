"""Kubeflow's own client against a server that speaks its REST interface (see tests/kubeflow.py)."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from components.errors import ConfigError, NotFoundError, TrilhaError, UnavailableError
from components.profile import Kubeflow
from components.runs import Run, RunLog, new_header
from components.schedule import Schedule
from components.workspace import open_workspace
from flows.engines import kubeflow_cluster
from flows.engines.kubeflow import run as run_on_kubeflow
from flows.engines.kubeflow_cluster import Cluster
from flows.engines.local import run as run_here
from flows.execute import lifecycle_of
from tests.kubeflow import TOKEN, Server

PACKAGE = (Path(__file__).parents[3] / "deploy" / "kubeflow" / "flights.yaml").read_text()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment holds the token; the user has no settings of Kubeflow's own."""
    monkeypatch.setenv("KUBEFLOW_TOKEN", TOKEN)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "none.json"))


def settings(server: Server, **fields: Any) -> Kubeflow:
    given = {"host": server.url, "token_env": "KUBEFLOW_TOKEN", "namespace": "team", "image": "trilha:1", **fields}
    return Kubeflow(**given)


def cluster(server: Server, **fields: Any) -> Cluster:
    return Cluster(settings(server, **fields), "test")


@pytest.mark.usefixtures("token")
def test_a_run_has_our_id_and_its_service_account(kubeflow: Server) -> None:
    """The run is named like ours, knows our id as a parameter, and belongs to the project's experiment."""
    header = new_header("lifecycle", "flights", "test", "kubeflow")
    status = cluster(kubeflow, service_account="runner").submit(PACKAGE, header)
    sent = kubeflow.runs[status.id]
    assert sent["display_name"] == status.run == header.id
    assert sent["runtime_config"]["parameters"] == {"run": header.id}
    assert sent["service_account"] == "runner"
    assert sent["experiment_id"] == kubeflow.experiments["flights"]["experiment_id"]
    assert kubeflow.experiments["flights"]["namespace"] == "team"
    assert status.url == f"{kubeflow.url}/#/runs/details/{status.id}"


@pytest.mark.usefixtures("token")
def test_the_package_arrives_with_its_kubernetes_part(kubeflow: Server) -> None:
    """Secrets by reference, tolerations and the like are sent along with the pipeline."""
    status = cluster(kubeflow).submit(PACKAGE, new_header("lifecycle", "flights", "test", "kubeflow"))
    sent = kubeflow.runs[status.id]["pipeline_spec"]
    assert set(sent) == {"pipeline_spec", "platform_spec"}
    assert "exec-ingest" in sent["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.usefixtures("token")
def test_a_run_is_found_by_either_id(kubeflow: Server) -> None:
    """Status says state, errors and tasks, by our id of the run and by Kubeflow's."""
    ours = cluster(kubeflow)
    header = new_header("lifecycle", "flights", "test", "kubeflow")
    made = ours.submit(PACKAGE, header)
    kubeflow.ends = {
        "state": "FAILED",
        "error": {"message": "train-00 failed"},
        "run_details": {"task_details": [{"display_name": "train-00", "state": "FAILED", "error": {"message": "OOM"}}]},
    }
    for name in (header.id, made.id):
        found = ours.find(name)
        assert (found.id, found.state, found.error) == (made.id, "FAILED", "train-00 failed")
        assert [(task.name, task.state, task.error) for task in found.tasks] == [("train-00", "FAILED", "OOM")]
    with pytest.raises(NotFoundError, match="not found"):
        ours.find("20260101-000000-000-flights-0000")


@pytest.mark.usefixtures("token")
def test_a_schedule_takes_the_place_of_the_one_before(kubeflow: Server) -> None:
    """Five fields become Kubeflow's six; one run at a time; nothing that was missed is caught up with."""
    ours = cluster(kubeflow, service_account="runner")
    ours.schedule(PACKAGE, "flights-lifecycle", "flights", Schedule(cron="0 5 * * *"))
    made = ours.schedule(PACKAGE, "flights-lifecycle", "flights", Schedule(cron="30 6 * * 1"))
    assert list(kubeflow.schedules) == [made]
    schedule = kubeflow.schedules[made]
    assert schedule["trigger"] == {"cron_schedule": {"cron": "0 30 6 * * 1"}}
    assert (schedule["max_concurrency"], schedule["no_catchup"]) == (1, True)
    assert schedule["service_account"] == "runner"


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (
            (403, "User 'ana' may not create runs in namespace team"),
            ConfigError,
            ["'team'", "kubeflow.namespace", "ana"],
        ),
        ((429, "too many"), UnavailableError, ["quota", "kubectl describe resourcequota -n team"]),
        ((500, "workflows is forbidden: exceeded quota: runs=5"), UnavailableError, ["quota", "runs=5"]),
        ((503, "no healthy upstream"), UnavailableError, ["503", "no healthy upstream", "try again"]),
        ((302, "Found"), ConfigError, ["KUBEFLOW_TOKEN", "expired", "kubectl create token"]),
        ((308, "Permanent Redirect"), ConfigError, ["has moved", "correct kubeflow.host"]),
    ],
)
@pytest.mark.usefixtures("token")
def test_a_refusal_is_one_line_that_says_what_to_do(
    kubeflow: Server, refusal: tuple[int, str], kind: type[TrilhaError], words: list[str]
) -> None:
    """The host, what it said, and the next command."""
    ours = cluster(kubeflow)
    kubeflow.refusal = refusal
    with pytest.raises(kind) as caught:
        ours.submit(PACKAGE, new_header("lifecycle", "flights", "test", "kubeflow"))
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in [kubeflow.url, "next: ", *words])


def test_an_expired_token(kubeflow: Server, token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and not what is in it, though the server repeats it."""
    monkeypatch.setenv("KUBEFLOW_TOKEN", "old-token")
    with pytest.raises(ConfigError, match=r"KUBEFLOW_TOKEN.*expired.*kubectl create token") as caught:
        cluster(kubeflow).find("x")
    assert "old-token" in kubeflow.tokens
    assert "old-token" not in "".join(traceback.format_exception(caught.value))


def test_no_token_at_all(kubeflow: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent without the token that the profile names."""
    monkeypatch.delenv("KUBEFLOW_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="no token in KUBEFLOW_TOKEN.*export KUBEFLOW_TOKEN"):
        cluster(kubeflow)
    assert not kubeflow.tokens


@pytest.mark.usefixtures("token")
def test_a_host_that_does_not_answer(kubeflow: Server) -> None:
    """The error names it and the command that looks further."""
    with pytest.raises(UnavailableError, match=r"http://127.0.0.1:9 does not answer.*trilha doctor --profile test"):
        cluster(kubeflow, host="http://127.0.0.1:9").find("x")


@pytest.mark.usefixtures("token")
def test_a_host_that_says_nothing(kubeflow: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after a while, not waited for without end."""
    monkeypatch.setattr(kubeflow_cluster, "PATIENCE", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=f"{url} does not answer"):
            cluster(kubeflow, host=url).find("x")


@pytest.fixture
def on_cluster(small: Path, kubeflow: Server, token: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository with `small`, whose profile names the server."""
    path = small / "config" / "profiles" / "test.yaml"
    path.write_text(
        path.read_text() + f"kubeflow: {json.dumps(settings(kubeflow).model_dump(exclude_defaults=True))}\n"
    )
    monkeypatch.setattr(kubeflow_cluster, "LOOK_EVERY", 0.01)
    open_workspace.cache_clear()
    return small


def test_the_engine_waits_and_reads_what_the_containers_wrote(on_cluster: Path, kubeflow: Server) -> None:
    """Each change of a node is told, and the records are those of the run's own record."""
    workspace, dag = open_workspace("test"), lifecycle_of("small", "test", "ingest")
    seen: list[str] = []
    run = Run(workspace, new_header(dag.name, "small", "test", "kubeflow"), lambda state: seen.append(state.name))
    wanted = run_here(dag, Run(workspace, run.header))  # in place of the containers
    assert run_on_kubeflow(dag, run) == wanted
    assert seen == ["observe", "ingest"]


def test_the_engine_raises_what_a_node_failed_with(on_cluster: Path, kubeflow: Server) -> None:
    """The error of the step itself, of its kind, not Kubeflow's word that something failed."""
    (on_cluster / "data" / "parcels.csv").unlink()
    workspace, dag = open_workspace("test"), lifecycle_of("small", "test", "ingest")
    run = Run(workspace, new_header(dag.name, "small", "test", "kubeflow"))
    with pytest.raises(NotFoundError) as there:
        run_here(dag, Run(workspace, run.header))
    kubeflow.ends = {"state": "FAILED"}
    with pytest.raises(NotFoundError) as caught:
        run_on_kubeflow(dag, run)
    assert str(caught.value) == str(there.value)


def test_a_container_that_was_killed_is_named(on_cluster: Path, kubeflow: Server) -> None:
    """Where no node says why, Kubeflow's own word is passed on with the step that it stopped at."""
    dag = lifecycle_of("small", "test", "ingest")
    run = Run(open_workspace("test"), new_header(dag.name, "small", "test", "kubeflow"))
    run.announce(dag.nodes)
    failed = {"display_name": "observe", "state": "FAILED", "error": {"message": "ErrImagePull: trilha:1"}}
    kubeflow.ends = {"state": "FAILED", "run_details": {"task_details": [failed]}}
    with pytest.raises(UnavailableError, match=r"step 'observe'.*ErrImagePull: trilha:1.*trilha kubeflow status"):
        run_on_kubeflow(dag, run)


def test_who_stops_waiting_stops_the_run(on_cluster: Path, kubeflow: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the run on the cluster too."""
    dag = lifecycle_of("small", "test", "ingest")
    run = Run(open_workspace("test"), new_header(dag.name, "small", "test", "kubeflow"))
    kubeflow.ends = {"state": "RUNNING"}

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kubeflow_cluster.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_on_kubeflow(dag, run)
    assert [there["state"] for there in kubeflow.runs.values()] == ["CANCELED"]


def trilha(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own, with every logger of it as loud as it can be."""
    loud = "import logging; logging.basicConfig(level=logging.DEBUG); from flows.cli import main; main()"
    path = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", loud, *arguments], capture_output=True, text=True, check=False, env=environment
    )


def test_the_token_is_nowhere(on_cluster: Path, kubeflow: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Seeded and searched for: in what every command prints and logs, in packages, in the record of runs, in errors."""
    said = []
    for arguments in (
        ["kubeflow", "compile", "small", "--profile", "test"],
        ["kubeflow", "submit", "small", "--profile", "test"],
        ["kubeflow", "submit", "small", "--profile", "test", "--json"],
    ):
        done = trilha(*arguments)
        assert done.returncode == 0, done.stderr
        said += [done.stdout, done.stderr]
    sent = next(iter(kubeflow.runs.values()))
    for status in (401, 403, 404, 500):
        kubeflow.refusal = (status, f"refused: Bearer {TOKEN}")
        done = trilha("kubeflow", "status", sent["display_name"], "--profile", "test")
        assert done.returncode in {2, 3, 6}
        said += [done.stdout, done.stderr]
        with caplog.at_level(logging.DEBUG), pytest.raises(TrilhaError) as caught:
            cluster(kubeflow).find("x")
        said += ["".join(traceback.format_exception(caught.value)), caplog.text]
    assert TOKEN in kubeflow.tokens
    assert kubeflow.runs
    assert TOKEN not in json.dumps([kubeflow.runs, said])
    for path in on_cluster.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    assert RunLog(open_workspace("test")).ids() == []
