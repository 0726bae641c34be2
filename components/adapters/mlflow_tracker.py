"""Trials, searches and model versions in MLflow.

What is found again is found by its tag `trilha.key`, the ledger key of the step that made it: a run or a version that a
killed attempt had finished is taken as it is, and a run that it left open is deleted, so that exactly one counts.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import ConfigError, NotFoundError, TrilhaError, UnavailableError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from components.workspace import Workspace

KEY = "trilha.key"
GRAPHS = "graphs"
"""The folder of a run's artifacts that a model version points to."""
BATCH = 1_000
"""Metrics that MLflow takes in one request."""
SAMPLE = 1.0
"""Seconds between two samples of the machine's load."""

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing is reported to its makers
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is ours
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is down is said to be after seconds, not minutes
}
"""What the client reads from the environment; who set them already has the last word."""


def open_tracker(workspace: Workspace) -> MlflowTracker:
    """The tracker at the profile's MLflow: a server, or a database that no server stands before."""
    uri = workspace.endpoint("mlflow")
    return MlflowTracker(uri, None if uri.startswith("http") else f"{workspace.state}/mlflow")


class MlflowTracker:
    """`components.ports.Tracker` on MLflow's client.

    Args:
        uri: MLflow's tracking URI, `http://...`, `postgresql://...` or `sqlite:///...`.
        artifacts: where runs keep their files; None leaves it to the server.
    """

    def __init__(self, uri: str, artifacts: str | None = None) -> None:
        self._uri = uri
        self._artifacts = artifacts

    @cached_property
    def _client(self) -> MlflowClient:
        return connect(self._uri)

    @contextmanager
    def trial(
        self, *, experiment: str, name: str, key: str, parameters: Mapping[str, object], tags: Mapping[str, str]
    ) -> Iterator[MlflowTrialLog]:
        from mlflow.entities import RunStatus

        finished = RunStatus.to_string(RunStatus.FINISHED)
        with self._border():
            place = self._experiment(experiment)
            runs = self._runs(place, key)
            run = next((run for run in runs if run.info.status == finished), None)
            for left in runs if run is None else ():
                if left.info.status == RunStatus.to_string(RunStatus.RUNNING):
                    self._client.delete_run(left.info.run_id)
            if run is None:
                run = self._client.create_run(place, run_name=name, tags={**tags, KEY: key})
        log = MlflowTrialLog(run.info.run_id, finished=run.info.status == finished)
        if log.finished:
            yield log
            return
        try:
            with _sampling(log):
                yield log
        except BaseException:
            with suppress(TrilhaError):  # what went wrong first is what is said
                self._send(log, parameters, RunStatus.to_string(RunStatus.FAILED))
            raise
        self._send(log, parameters, finished)

    def search(self, *, experiment: str, name: str, key: str, children: Sequence[str], tags: Mapping[str, str]) -> str:
        with self._border():
            place = self._experiment(experiment)
            runs = self._runs(place, key)
            run = runs[0] if runs else self._client.create_run(place, run_name=name, tags={**tags, KEY: key})
            for child in children:
                self._client.set_tag(child, "mlflow.parentRunId", run.info.run_id)
            self._client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def register(self, *, name: str, run_id: str, graphs: Mapping[str, Path], key: str, tags: Mapping[str, str]) -> str:
        with self._border():
            versions = self._client.search_model_versions(f"name = '{name}'")
            found = next((version for version in versions if version.tags.get(KEY) == key), None)
            if found is None:
                self._ensure_model(name)
                for file in graphs.values():
                    self._client.log_artifact(run_id, str(file), GRAPHS)
                found = self._client.create_model_version(
                    name,
                    f"runs:/{run_id}/{GRAPHS}",
                    run_id,
                    tags={**tags, KEY: key},
                    await_creation_for=0,  # it is there at once, and waiting would be announced
                )
        return str(found.version)

    def point(self, *, name: str, alias: str, version: str) -> None:
        with self._border():
            self._client.set_registered_model_alias(name, alias, version)

    def pointed(self, *, name: str, alias: str) -> str | None:
        try:
            with self._border():
                version = self._client.get_registered_model(name).aliases.get(alias)
        except NotFoundError:
            return None
        return None if version is None else str(version)

    def url(self, run_id: str) -> str:
        with self._border():
            experiment = self._client.get_run(run_id).info.experiment_id
        return f"{self._uri}/#/experiments/{experiment}/runs/{run_id}"

    def _experiment(self, name: str) -> str:
        """The id of the experiment `name`, made where there is none, also when others make it at the same time."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, self._artifacts))
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):  # where it does not exist now, making a version of it says why
            self._client.create_registered_model(name)

    def _runs(self, experiment_id: str, key: str) -> list[Run]:
        return list(self._client.search_runs([experiment_id], f"tags.`{KEY}` = '{key}'"))

    def _send(self, log: MlflowTrialLog, parameters: Mapping[str, object], status: str) -> None:
        """Everything that was buffered, then the end of the run."""
        from mlflow.entities import Param

        with self._border():
            params = [Param(name, str(value)) for name, value in parameters.items()]
            for start in range(0, max(1, len(log.buffered)), BATCH):
                self._client.log_batch(log.run_id, log.buffered[start : start + BATCH], params if start == 0 else ())
            if log.datasets:
                self._log_inputs(log)
            for file, folder in log.attached:
                self._client.log_artifact(log.run_id, str(file), folder or None)
            self._client.set_terminated(log.run_id, status)

    def _log_inputs(self, log: MlflowTrialLog) -> None:
        """Attach the data.

        MLflow looks whether it knows them and then writes them, so that runs which end at the same time collide on the
        first use of new data; another attempt finds them.
        """
        from mlflow.exceptions import MlflowException

        for attempt in range(4):
            try:
                self._client.log_inputs(log.run_id, log.datasets)
            except MlflowException:
                if attempt == 3:
                    raise
            else:
                return

    def _border(self) -> AbstractContextManager[None]:
        return border(self._uri)


class MlflowTrialLog:
    """`components.ports.TrialLog`: a buffer that is sent when the trial ends."""

    def __init__(self, run_id: str, *, finished: bool) -> None:
        self._run_id = run_id
        self._finished = finished
        self.buffered: list[Metric] = []
        self.datasets: list[Any] = []
        self.attached: list[tuple[Path, str]] = []

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def finished(self) -> bool:
        return self._finished

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.buffered += [Metric(name, value, now, step) for name, value in values.items()]

    def dataset(self, name: str, commit: str, digest: str, source: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        where = json.dumps({"store": source, "commit": commit})
        short = digest[:36]  # the longest that MLflow takes
        self.datasets.append(
            DatasetInput(Dataset(name, short, "trilha", where), [InputTag("mlflow.data.context", "training")])
        )

    def files(self, files: Sequence[Path], folder: str = "") -> None:
        self.attached += [(file, folder) for file in files]


def connect(uri: str) -> MlflowClient:
    """MLflow's client of a server, or of a database."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def border(uri: str) -> Iterator[None]:
    """Turn the errors of the MLflow at `uri` into ours."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"mlflow at {uri}: the driver {error.name!r} is not installed",
            accepted="an http(s) URL, or postgresql+psycopg2://... with its driver",
            next_step="pip install 'trilha[postgres]'",
        ) from error
    except MlflowException as error:
        problem = f"mlflow at {uri}: {error.message.splitlines()[0]}"
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFoundError(problem) from error
        if error.error_code == "INVALID_PARAMETER_VALUE":
            raise ConfigError(problem, details=error.message) from error
        raise UnavailableError(
            problem, next_step="look at its log: trilha logs mlflow", details=error.message
        ) from error


@contextmanager
def _sampling(log: MlflowTrialLog) -> Iterator[None]:
    """Log the machine's load while inside, as MLflow's own monitors measure and name it."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    over = threading.Event()

    def sample() -> None:
        import psutil

        psutil.cpu_percent()  # the first answer in a thread is zero: nothing to compare with
        step = 0
        while not over.wait(SAMPLE):
            for monitor in monitors:
                monitor.collect_metrics()
                values = monitor.aggregate_metrics()
                log.metrics({f"system/{name}": value for name, value in values.items()}, step)
                monitor.clear_metrics()
            step += 1

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
