"""A Kubeflow Pipelines server: submit a compiled pipeline, schedule it, and ask what became of it.

Whatever the server or the network refuses becomes one plain line here. The token comes from the environment; it is in
no error, and nothing but the client that sends it holds it.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3

from components.errors import ConfigError, NotFoundError, TrilhaError, UnavailableError
from components.profile import Kubeflow
from components.records import Record
from components.runs import Header
from components.schedule import Schedule

LOOK_EVERY = 5.0
"""Seconds between two questions about a run."""

PATIENCE = (10, 60)
"""Seconds until a host that takes no connection, or does not answer a request, is given up."""

ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
"""States after which a run does not change."""


class Task(Record):
    """One task of a run, as Kubeflow shows it."""

    name: str
    state: str
    error: str


class Status(Record):
    """A run, as Kubeflow shows it; `state` is Kubeflow's own word."""

    run: str
    id: str
    state: str
    url: str
    error: str
    tasks: tuple[Task, ...]


def run_there(package: str, header: Header, settings: Kubeflow, look: Callable[[], object]) -> str:
    """Submit a compiled pipeline and wait until it ends; returns what Kubeflow says of a failure, or nothing.

    Who stops waiting (Ctrl-C) stops the run.
    """
    cluster = Cluster(settings, header.profile)
    status = cluster.submit(package, header)
    try:
        while status.state not in ENDED:
            time.sleep(LOOK_EVERY)
            look()
            status = cluster.status(status.id)
    except KeyboardInterrupt:
        cluster.stop(status.id)
        raise
    said = [status.error, *(f"{task.name}: {task.error}" for task in status.tasks if task.error)]
    return "" if status.state == "SUCCEEDED" else "; ".join(filter(None, said)) or status.state


class Cluster:
    """The server that a profile names.

    Args:
        settings: the profile's section `kubeflow`.
        profile: its name, for errors.

    Raises:
        ConfigError: no host, no token where one is named, or the server does not take it.
        UnavailableError: the host does not answer.
    """

    def __init__(self, settings: Kubeflow, profile: str) -> None:
        if settings.host is None:
            raise ConfigError(
                f"profile {profile!r} names no Kubeflow host",
                accepted="`kubeflow: {host: https://...}`",
                next_step=f"name it in config/profiles/{profile}.yaml, or take another --profile",
            )
        self._settings, self._profile, self._host = settings, profile, settings.host.rstrip("/")
        token = _token(settings)
        with self._border(), warnings.catch_warnings(action="ignore"):
            self._client = _Client(host=self._host, namespace=settings.namespace or "kubeflow", existing_token=token)

    def look(self) -> None:
        """Ask for a run of the namespace, which only one who is known and may be there is told of."""
        with self._border():
            kind = self._client.kind_of_answer(self._settings.namespace)
        if "json" not in kind:
            raise ConfigError(
                f"what answers at {self._host} is no Kubeflow: it sends {kind or 'nothing'}",
                next_step=f"correct kubeflow.host in config/profiles/{self._profile}.yaml",
            )

    def submit(self, package: str, header: Header) -> Status:
        """Start a run of a compiled pipeline; in Kubeflow it has the id of ours for its name."""
        with self._border(), _quiet(), _file(package) as path:
            made = self._client.create_run_from_pipeline_package(
                path,
                arguments={"run": header.id},
                run_name=header.id,
                experiment_name=header.project,
                namespace=self._settings.namespace,
                service_account=self._settings.service_account,
            )
        return self._status(made.run_info)

    def schedule(self, package: str, name: str, project: str, wanted: Schedule) -> str:
        """Have a compiled pipeline run at these times (UTC), one run at a time; returns the schedule's id.

        A schedule of that name is replaced; one that is not active is there and starts nothing.
        """
        with self._border(), _quiet(), _file(package) as path:
            experiment = self._client.create_experiment(project, namespace=self._settings.namespace).experiment_id
            before = self._client.list_recurring_runs(experiment_id=experiment, page_size=100).recurring_runs or []
            made = self._client.create_recurring_run(
                experiment,
                name,
                cron_expression=f"0 {wanted.cron}",
                enabled=wanted.active,
                max_concurrency=1,
                no_catchup=True,
                pipeline_package_path=path,
                service_account=self._settings.service_account,
            )
            for other in before:
                if other.display_name == name:
                    self._client.delete_recurring_run(other.recurring_run_id)
        return str(made.recurring_run_id)

    def status(self, run: str) -> Status:
        """A run by Kubeflow's id of it."""
        with self._border():
            return self._status(self._client.get_run(run))

    def find(self, run: str) -> Status:
        """A run by our id of it, or by Kubeflow's.

        Raises:
            NotFoundError: there is no such run.
        """
        wanted = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": run}]})
        with self._border():
            found = self._client.list_runs(filter=wanted, namespace=self._settings.namespace, page_size=1).runs
        return self.status(found[0].run_id if found else run)

    def stop(self, run: str) -> None:
        """End a run that is going on."""
        with self._border():
            self._client.terminate_run(run)

    def _status(self, run: Any) -> Status:
        details = run.run_details.task_details if run.run_details else None
        tasks = [
            Task(
                name=task.display_name or "",
                state=task.state or "",
                error=task.error.message or "" if task.error else "",
            )
            for task in details or []
        ]
        return Status(
            run=run.display_name,
            id=run.run_id,
            state=run.state or "PENDING",
            url=f"{self._host}/#/runs/details/{run.run_id}",
            error=(run.error.message or "") if run.error else "",
            tasks=tuple(tasks),
        )

    @contextmanager
    def _border(self) -> Iterator[None]:
        """What the SDK raises, as errors of ours."""
        try:
            yield
        except kfp_server_api.ApiException as error:
            said = _message(error)
            if token := os.environ.get(self._settings.token_env or ""):
                said = said.replace(token.strip(), "***")  # a proxy may say what it was sent
            raise self._refused(error.status, said) from None
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(
                f"Kubeflow at {self._host} does not answer ({type(error).__name__})",
                next_step=f"trilha doctor --profile {self._profile}; is the address right, the VPN up?",
            ) from None

    def _refused(self, status: int, said: str) -> TrilhaError:
        """What an answer of the server means, and what to do."""
        host, where = self._host, f"config/profiles/{self._profile}.yaml"
        namespace = self._settings.namespace
        if "exceeded quota" in said or status == 429:
            next_step = f"kubectl describe resourcequota -n {namespace or 'NAMESPACE'}; wait, or ask for more"
            return UnavailableError(f"Kubeflow at {host}: quota exceeded: {said}", next_step=next_step)
        if status in {401, 302, 303, 307}:  # the latter lead to a login
            return self._unknown(where)
        if status in {301, 308}:
            return ConfigError(f"Kubeflow at {host} has moved", next_step=f"correct kubeflow.host in {where}")
        if status == 403:
            scope = f"in namespace {namespace!r}" if namespace else "without a namespace"
            return ConfigError(
                f"Kubeflow at {host} forbids this {scope}: {said}",
                accepted="a namespace that the token's account may use",
                next_step=f"correct kubeflow.namespace in {where}, or have the account bound to kubeflow-edit there",
            )
        if status == 404:
            return NotFoundError(f"Kubeflow at {host}: {said}", next_step="look at its page for the run's id")
        return UnavailableError(f"Kubeflow at {host} fails ({status}): {said}", next_step="try again, or see its log")

    def _unknown(self, where: str) -> ConfigError:
        variable = self._settings.token_env
        if variable is None:
            return ConfigError(
                f"Kubeflow at {self._host} wants a token", next_step=f"set kubeflow.token_env in {where}"
            )
        return ConfigError(
            f"Kubeflow at {self._host} does not take the token in {variable}: it may have expired",
            next_step=f"get a new one (`kubectl create token ACCOUNT`) and export {variable}",
        )


class _Client(kfp.Client):  # type: ignore[misc]  # kfp has no types
    """Kubeflow's client, which gives up in time: as it is shipped, it waits for an answer without end.

    Nor does it follow a redirect, which leads those whose token has expired to a login page for people.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        client = self._run_api.api_client.rest_client
        client.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(3, redirect=0, raise_on_redirect=False)
        ask = client.request
        client.request = lambda *given, **more: ask(*given, **{**more, "_request_timeout": PATIENCE})

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:  # noqa: ARG002  # the SDK's signature
        """Ask once whether the server is well, and not five times over 25 seconds."""
        return self._healthz_api.healthz_service_get_healthz(_request_timeout=PATIENCE)

    def kind_of_answer(self, namespace: str | None) -> str:
        """The content type of a list of runs; the SDK takes a page for people for an empty list."""
        _, _, headers = self._run_api.run_service_list_runs_with_http_info(namespace=namespace, page_size=1)
        return str(headers.get("Content-Type", ""))


def _token(settings: Kubeflow) -> str | None:
    name = settings.token_env
    if name is None:
        return None
    token = os.environ.get(name, "").strip()
    if not token:
        raise ConfigError(
            f"no token in {name}",
            accepted="a token for Kubeflow",
            next_step=f"export {name}=$(kubectl create token ACCOUNT)",
        )
    return token


def _message(error: Any) -> str:
    """What the server says went wrong, one short line."""
    try:
        said = json.loads(error.body)
        text = str(said.get("message") or said.get("error") or error.reason)
    except (TypeError, ValueError, AttributeError):
        text = str(error.reason)
    return " ".join(text.split())[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """What the SDK prints is for notebooks, and goes nowhere."""
    with redirect_stdout(io.StringIO()):
        yield


@contextmanager
def _file(package: str) -> Iterator[str]:
    """A compiled pipeline as the file that the SDK wants."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(package)
        yield str(path)
