from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest
from mlflow import MlflowClient

from components.adapters.mlflow_tracker import MlflowTracker
from components.errors import ConfigError, NotFoundError, UnavailableError

slow = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/mlflow.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server, as `trilha up` starts it."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        "-m",
        "components.adapters.mlflow_service",
        str(tmp_path_factory.mktemp("server")),
        "127.0.0.1",
        str(port),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: urllib.request.urlopen(f"{url}/health", timeout=5))
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL with an empty database."""
    if not (shutil.which("postgres") and shutil.which("initdb")):
        pytest.skip("no `postgres` and `initdb` on PATH")
    folder = (
        Path("/tmp") / f"trilha-postgres-{os.getpid()}"
    )  # its server may not be root, and pytest's folders are root's
    user = "nobody" if os.geteuid() == 0 else None
    folder.mkdir()
    if user:
        shutil.chown(folder, user)
    settings = {"user": user, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(["initdb", "-D", folder / "data", "-U", "trilha", "-A", "trust"], check=True, **settings)
    port = free_port()
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
    process = subprocess.Popen(["postgres", "-D", folder / "data", *options], **settings)
    try:
        where = f"trilha@127.0.0.1:{port}/postgres"
        wait_for(lambda: psycopg2.connect(f"postgresql://{where}").close())
        yield f"postgresql+psycopg2://{where}"
    finally:
        process.send_signal(signal.SIGINT)  # its fast shutdown: clients are cut off
        process.wait()
        shutil.rmtree(folder)


def wait_for(attempt, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            attempt()
        except (OSError, psycopg2.Error):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


@pytest.fixture(
    params=["sqlite", pytest.param("server", marks=slow), pytest.param("postgres", marks=slow)], scope="module"
)
def uri(request: pytest.FixtureRequest) -> str:
    """MLflow's three ways to keep runs that a profile can name."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def tracker(uri: str, tmp_path: Path) -> MlflowTracker:
    return MlflowTracker(uri, None if uri.startswith("http") else str(tmp_path / "files"))


@pytest.fixture
def client(uri: str) -> MlflowClient:
    """A client of the test's own."""
    return MlflowClient(uri, uri)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An experiment, or model, that no other test uses."""
    return f"{request.node.originalname}-{id(request)}"


def trial(tracker: MlflowTracker, experiment: str, key: str = "k1", tags: dict[str, str] | None = None):
    return tracker.trial(experiment=experiment, name="a trial", key=key, parameters={"rate": 0.1}, tags=tags or {})


def runs(client: MlflowClient, name: str):
    found = client.get_experiment_by_name(name)
    return client.search_runs([found.experiment_id]) if found else []


def test_what_was_buffered_is_there_at_the_end(
    tracker: MlflowTracker, client: MlflowClient, name: str, tmp_path: Path
) -> None:
    """Parameters, more metrics than one request takes, data and files."""
    (tmp_path / "page.html").write_text("<p>")
    with trial(tracker, name, tags={"colour": "blue"}) as log:
        for step in range(1_500):
            log.metrics({"loss": 1 / (step + 1)}, step)
        log.dataset("flights", "c0ffee", "d" * 64, "git://somewhere")
        log.files([tmp_path / "page.html"], "pages")

    run = client.get_run(log.run_id)
    assert not log.finished
    assert (run.info.status, run.info.run_name) == ("FINISHED", "a trial")
    assert run.data.params == {"rate": "0.1"}
    assert (run.data.tags["colour"], run.data.tags["trilha.key"]) == ("blue", "k1")
    assert len(client.get_metric_history(log.run_id, "loss")) == 1_500
    assert run.data.metrics["loss"] == pytest.approx(1 / 1_500)
    assert [data.dataset.name for data in run.inputs.dataset_inputs] == ["flights"]
    assert [file.path for file in client.list_artifacts(log.run_id, "pages")] == ["pages/page.html"]


def test_a_finished_run_is_found_again(tracker: MlflowTracker, client: MlflowClient, name: str) -> None:
    """One key, one finished run: what is logged to it later changes nothing."""
    with trial(tracker, name) as first:
        first.metrics({"auc": 0.7})
    with trial(tracker, name) as second:
        second.metrics({"auc": 0.1})

    assert second.finished
    assert second.run_id == first.run_id
    assert client.get_run(first.run_id).data.metrics == {"auc": 0.7}


def test_a_run_left_open_is_deleted(tracker: MlflowTracker, client: MlflowClient, name: str) -> None:
    """A killed attempt's run goes when the next attempt begins; other keys' runs stay."""
    killed = [trial(tracker, name), trial(tracker, name, key="k2")]  # held: a generator that goes would end its run
    left, other = [attempt.__enter__() for attempt in killed]
    with trial(tracker, name) as log:
        pass

    assert {run.info.run_id for run in runs(client, name)} == {log.run_id, other.run_id}
    assert client.get_run(left.run_id).info.lifecycle_stage == "deleted"


def test_an_error_marks_the_run_failed_and_is_not_hidden(
    tracker: MlflowTracker, client: MlflowClient, name: str
) -> None:
    """What was buffered up to the error is kept."""

    def fail() -> None:
        with trial(tracker, name) as log:
            log.metrics({"auc": 0.5})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    (run,) = runs(client, name)
    assert (run.info.status, run.data.metrics) == ("FAILED", {"auc": 0.5})


def test_the_machines_load_is_sampled_under_mlflows_names(
    tracker: MlflowTracker, client: MlflowClient, name: str
) -> None:
    """The page's tab for system metrics finds them."""
    with trial(tracker, name) as log:
        time.sleep(2.5)

    metrics = client.get_run(log.run_id).data.metrics
    assert metrics["system/system_memory_usage_megabytes"] > 0
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100
    assert len(client.get_metric_history(log.run_id, "system/cpu_utilization_percentage")) == 2


def test_trials_of_one_new_experiment_can_begin_and_end_at_once(
    tracker: MlflowTracker, client: MlflowClient, name: str
) -> None:
    """Whoever is second to make the experiment, or to name its data, uses the first one's."""
    barrier = threading.Barrier(4)

    def one(index: int) -> None:
        barrier.wait()
        with trial(tracker, name, key=f"k{index}") as log:
            log.dataset("flights", "c0ffee", name, "git://somewhere")
            barrier.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))

    assert len(runs(client, name)) == 4


def test_a_search_gathers_its_trials_once(tracker: MlflowTracker, client: MlflowClient, name: str) -> None:
    """The parent is found again by its key, and its children are under it."""
    children = []
    for key in ("k1", "k2"):
        with trial(tracker, name, key=key) as log:
            children.append(log.run_id)

    parents = {
        tracker.search(experiment=name, name="search", key="s", children=children, tags={"metric": "auc"})
        for _ in range(2)
    }

    (parent,) = parents
    assert client.get_run(parent).info.status == "FINISHED"
    assert {client.get_run(child).data.tags["mlflow.parentRunId"] for child in children} == parents


def test_a_version_is_made_once_and_pointed_to(
    tracker: MlflowTracker, client: MlflowClient, name: str, tmp_path: Path
) -> None:
    """One key, one version, whose source is its run's graphs; an alias moves and is read back."""
    graphs = {"model.onnx": tmp_path / "model.onnx"}
    graphs["model.onnx"].write_bytes(b"graph")
    with trial(tracker, name) as log:
        pass

    made = [
        tracker.register(name=name, run_id=log.run_id, graphs=graphs, key=key, tags={"digest": "d"})
        for key in ("r1", "r1", "r2")
    ]
    assert made == ["1", "1", "2"]
    version = client.get_model_version(name, "1")
    assert (version.source, version.run_id) == (f"runs:/{log.run_id}/graphs", log.run_id)
    assert version.tags == {"digest": "d", "trilha.key": "r1"}
    assert [file.path for file in client.list_artifacts(log.run_id, "graphs")] == ["graphs/model.onnx"]

    assert tracker.pointed(name=name, alias="champion") is None
    for number in ("1", "2", "2"):
        tracker.point(name=name, alias="champion", version=number)
        assert tracker.pointed(name=name, alias="champion") == number


def test_what_is_not_there_is_said(tracker: MlflowTracker, name: str, tmp_path: Path) -> None:
    """A model without an alias is no error; a run that is gone is, and leaves no version."""
    (tmp_path / "model.onnx").write_bytes(b"graph")

    assert tracker.pointed(name=f"{name}-none", alias="champion") is None
    with pytest.raises(NotFoundError, match="gone"):
        tracker.register(name=name, run_id="gone", graphs={"model.onnx": tmp_path / "model.onnx"}, key="r", tags={})


def test_what_mlflow_refuses_is_the_callers_error(tracker: MlflowTracker, name: str) -> None:
    """A metric's name that MLflow does not take is not retried."""
    with pytest.raises(ConfigError, match="mlflow at"), trial(tracker, name) as log:
        log.metrics({"a name with a \N{SNOWMAN}": 1.0})


def test_a_server_that_is_down_is_said_so_soon() -> None:
    """Seconds, not the minutes that MLflow would retry."""
    started = time.monotonic()

    with pytest.raises(UnavailableError, match="mlflow at http://127.0.0.1"):
        MlflowTracker(f"http://127.0.0.1:{free_port()}").pointed(name="flights", alias="champion")

    assert time.monotonic() - started < 30


def test_a_driver_that_is_missing_is_named() -> None:
    """A database's URL asks for a package; the error says how to get it."""
    with pytest.raises(ConfigError, match="mssql.*pyodbc.*is not installed"):
        MlflowTracker("mssql+pyodbc://somewhere/mlflow").pointed(name="flights", alias="champion")


def test_nothing_is_set_for_the_whole_process(tracker: MlflowTracker, name: str) -> None:
    """A person's own MLflow calls in the same process go where they went before."""
    import mlflow

    before = mlflow.get_tracking_uri()
    with suppress(ZeroDivisionError), trial(tracker, name):
        pass

    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
