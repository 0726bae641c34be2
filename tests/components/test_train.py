from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from components import config
from components.adapters.mlflow_tracker import MlflowTracker
from components.config import load_project
from components.errors import GateError, TimeLimitError, TrilhaError
from components.ledger import running_as
from components.prepare import prepare
from components.project import Project
from components.records import Commit, Parameters, Prepared, Trial, digest
from components.register import register
from components.select import select
from components.train import train
from components.workspace import Workspace, open_workspace

KEYS = [letter * 64 for letter in "abcdef"]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making its tables takes seconds, copying it none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowTracker(f"sqlite:///{path}").pointed(name="none", alias="none")
    return path


@pytest.fixture
def project(small: Path, database: Path) -> Project:
    """The project `small`, with MLflow's database in the profile's place for it."""
    profile = small / "config" / "profiles" / "test.yaml"
    shutil.copy(database, small / "mlflow.db")
    profile.write_text(f"{profile.read_text()}\nservices: {{mlflow: {{url: 'sqlite:///{small}/mlflow.db'}}}}\n")
    return load_project("small")


@pytest.fixture
def workspace(project: Project) -> Workspace:
    return open_workspace("test")


@pytest.fixture
def prepared(project: Project, workspace: Workspace, tmp_path: Path) -> Prepared:
    """The project's rows, published and prepared."""
    table = tmp_path / "parcels.parquet"
    pq.write_table(pyarrow.csv.read_csv(tmp_path / "data" / "parcels.csv"), table)
    made = workspace.store.commit(
        "main", {"small/parcels/all.parquet": table}, message="parcels", metadata={}, key="parcels"
    )
    commit = Commit(id=made.id, branch="main", tree=workspace.store.tree(made.id), tables={"parcels": 2_000})
    with running_as("9" * 64):
        return prepare("small", "test", commit, project.features, project.file.split, project.file.seed)


@pytest.fixture
def once(project: Project, prepared: Prepared) -> Any:
    """Train under a key: `once(KEYS[0], strength=2.0)`."""

    def call(key: str, *, timeout: float = 60.0, memory_mb: int = 2_000, **values: float) -> Trial:
        with running_as(key):
            return train(
                "small", "test", project.notebook, prepared, Parameters(values=values), timeout, memory_mb, seed=7
            )

    return call


@pytest.fixture
def runs(workspace: Workspace) -> Any:
    """The project's runs in MLflow, by a client of the test's own."""
    from mlflow import MlflowClient

    client = MlflowClient(workspace.endpoint("mlflow"))

    def call() -> list[Any]:
        experiment = client.get_experiment_by_name("small")
        return client.search_runs([experiment.experiment_id]) if experiment else []

    return call


@pytest.fixture
def cells(project: Project) -> Iterator[Any]:
    """Put other cells in place of the notebook's, after the one tagged `parameters`."""
    path = config.root() / project.notebook.path

    def call(*sources: str) -> None:
        notebook = nbformat.read(path, 4)
        tagged = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        notebook.cells = [tagged, *map(nbformat.v4.new_code_cell, sources)]
        nbformat.write(notebook, path)

    return call


def test_a_trial_is_what_the_notebook_saved(once: Any, workspace: Workspace) -> None:
    """Metrics, graphs, answers, the executed notebook and its page are published under the step's key."""
    trial = once(KEYS[0], strength=2.0)

    assert trial.parameters.values == {"strength": 2.0}
    assert 0.6 < trial.metrics["auc"] < 1
    for artifact in (trial.graphs.pre, trial.graphs.model, trial.graphs.post, trial.predictions, trial.notebook):
        assert artifact.path.startswith(KEYS[0])
        assert workspace.artifacts.has(artifact)
    assert "strength = 2.0" in workspace.artifacts.local(trial.notebook).read_text()
    assert "Late parcels" in workspace.artifacts.local(trial.page).read_text()
    assert pq.read_metadata(workspace.artifacts.local(trial.predictions)).num_rows > 0


def test_the_same_trial_has_the_same_digest(once: Any) -> None:
    """Run ids, paths and times apart, a trial depends on its inputs alone; another parameter makes another trial."""
    first, again, other = once(KEYS[0], strength=0.5), once(KEYS[1], strength=0.5), once(KEYS[2], strength=5.0)

    assert digest(first) == digest(again)
    assert digest(first.graphs) != digest(other.graphs)


def test_mlflow_shows_what_led_to_the_trial_and_what_it_took(
    once: Any, runs: Any, workspace: Workspace, prepared: Prepared
) -> None:
    """Parameters, metrics, the data's commit, Git revision, resources, and the notebook as it ran."""
    trial = once(KEYS[0], strength=2.0)

    (run,) = runs()
    assert run.info.run_id == trial.run_id
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "strength=2.0"
    assert run.data.params == {"strength": "2.0"}
    assert run.data.metrics["auc"] == pytest.approx(trial.metrics["auc"])
    assert run.data.metrics["system/trial_cpu_seconds"] > 0
    assert run.data.tags["trilha.key"] == KEYS[0]
    assert run.data.tags["mlflow.source.name"] == "notebooks/small.ipynb"
    (data,) = run.inputs.dataset_inputs
    assert json.loads(data.dataset.source)["commit"] == prepared.commit
    assert data.dataset.digest == prepared.tree[:36]
    from mlflow import MlflowClient

    files = {file.path for file in MlflowClient(workspace.endpoint("mlflow")).list_artifacts(trial.run_id)}
    assert {"notebook.ipynb", "notebook.html"} <= files


def test_tensorboard_gets_the_trial_anew(once: Any, workspace: Workspace) -> None:
    """Curves and hyper-parameters lie where TensorBoard looks; what a killed attempt left is gone."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = workspace.home / "tensorboard" / "small" / KEYS[0][:12]
    folder.mkdir(parents=True)
    (folder / "events.out.tfevents.0.left").write_bytes(b"half an event")

    trial = once(KEYS[0], strength=2.0)

    events = EventAccumulator(str(folder)).Reload()
    assert events.Scalars("final/auc")[0].value == pytest.approx(trial.metrics["auc"])
    assert len(list(folder.iterdir())) == 1


def test_a_run_that_was_finished_is_taken_as_it_is(once: Any, runs: Any) -> None:
    """A crash between MLflow and the ledger does not make a second run."""
    first = once(KEYS[0], strength=2.0)
    again = once(KEYS[0], strength=2.0)

    assert again.run_id == first.run_id
    assert digest(again) == digest(first)
    assert len(runs()) == 1


def test_a_run_that_was_left_open_is_deleted(once: Any, runs: Any, workspace: Workspace) -> None:
    """What a killed attempt began does not count beside the one that ends."""
    left = workspace.tracker.trial(experiment="small", name="left", key=KEYS[0], parameters={}, tags={})
    opened = left.__enter__().run_id  # and never closed, as when the process is killed

    trial = once(KEYS[0], strength=2.0)

    assert [run.info.run_id for run in runs()] == [trial.run_id]
    assert trial.run_id != opened


def test_a_notebook_that_fails_is_kept_and_linked(once: Any, runs: Any, cells: Any, workspace: Workspace) -> None:
    """The error says where the partial notebook is; MLflow has it too, with the run marked failed."""
    cells("print('before')", "raise ValueError('no such thing')", "print('after')")

    with pytest.raises(TrilhaError, match=r"small.ipynb, cell \[4\]: ValueError: no such thing") as caught:
        once(KEYS[0], strength=2.0)

    page = Path(caught.value.details.splitlines()[0].removeprefix("partial notebook: "))
    assert "no such thing" in page.read_text()
    assert "before" in page.with_suffix(".ipynb").read_text()
    (run,) = runs()
    assert run.info.status == "FAILED"
    from mlflow import MlflowClient

    files = {file.path for file in MlflowClient(workspace.endpoint("mlflow")).list_artifacts(run.info.run_id)}
    assert files == {"notebook.ipynb", "notebook.html"}


def test_a_failed_trial_can_be_tried_again(once: Any, runs: Any, cells: Any, project: Project) -> None:
    """Nothing of a failed attempt stands in the way of the next one, under the same key."""
    path = config.root() / project.notebook.path
    good = path.read_bytes()
    cells("1 / 0")
    with pytest.raises(TrilhaError):
        once(KEYS[0], strength=2.0)
    path.write_bytes(good)

    trial = once(KEYS[0], strength=2.0)

    finished = [run.info.run_id for run in runs() if run.info.status == "FINISHED"]
    assert finished == [trial.run_id]


def test_a_notebook_that_saves_no_model_is_refused(once: Any, cells: Any) -> None:
    """Running to the end is not enough."""
    cells("print('all done')")

    with pytest.raises(GateError, match="ran to its end and saved no model"):
        once(KEYS[0], strength=2.0)


def test_a_model_that_its_graphs_do_not_match_is_refused(once: Any, cells: Any) -> None:
    """What `save` refuses inside the notebook is refused by the step."""
    cells(
        "from components.errors import GateError\n"
        "raise GateError('as ONNX the model answers 0.9 where its own answer is 0.1')"
    )

    with pytest.raises(GateError, match="as ONNX the model answers 0.9"):
        once(KEYS[0], strength=2.0)


def test_a_notebook_that_hangs_is_stopped(once: Any, cells: Any, runs: Any) -> None:
    """The step's deadline holds, and the run does not stay open."""
    cells("import time\ntime.sleep(1000)")

    with pytest.raises(TimeLimitError, match="deadline of 2 s") as caught:
        once(KEYS[0], timeout=2.0, strength=2.0)

    assert "partial notebook:" in caught.value.details
    assert [run.info.status for run in runs()] == ["FAILED"]


def test_trials_run_side_by_side(once: Any, runs: Any) -> None:
    """Threads of one process train at once; each trial has its own run, parameters and files."""
    barrier = threading.Barrier(4)

    def one(index: int) -> Trial:
        barrier.wait()
        return once(KEYS[index], strength=float(index + 1))

    with ThreadPoolExecutor(4) as pool:
        trials = list(pool.map(one, range(4)))

    assert [trial.parameters.values["strength"] for trial in trials] == [1.0, 2.0, 3.0, 4.0]
    assert len({trial.run_id for trial in trials}) == 4
    assert {run.data.params["strength"] for run in runs()} == {"1.0", "2.0", "3.0", "4.0"}


def test_the_winner_is_registered_once(once: Any, workspace: Workspace, prepared: Prepared) -> None:
    """A version points to its run's graphs, says which data they learned from, and is found again by its key."""
    from mlflow import MlflowClient

    trials = [once(KEYS[0], strength=0.001), once(KEYS[1], strength=1.0)]
    with running_as(KEYS[2]):
        best = select("small", "test", trials, "auc")
    with running_as(KEYS[3]):
        version = register("small", "test", best, prepared)
        again = register("small", "test", best, prepared)

    assert again == version
    client = MlflowClient(workspace.endpoint("mlflow"))
    (made,) = client.search_model_versions("name = 'small'")
    assert (str(made.version), made.run_id) == (version.version, best.trial.run_id)
    assert made.tags["trilha.digest"] == version.digest == digest(best.trial.graphs)
    assert made.tags["trilha.commit"] == prepared.commit
    graphs = {file.path for file in client.list_artifacts(best.trial.run_id, "graphs")}
    assert graphs == {"graphs/pre.onnx", "graphs/model.onnx", "graphs/post.onnx"}
    parents = {client.get_run(trial.run_id).data.tags["mlflow.parentRunId"] for trial in trials}
    assert parents == {best.run_id}
