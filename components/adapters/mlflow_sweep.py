"""What of MLflow nothing needs: runs that Trilha made, and the model versions made of them.

A run without a key is somebody else's and stays. A database, ours or one that no server stands before, loses a run for
good; a server that runs elsewhere marks it as deleted, and its own `mlflow gc` takes it out of the database. The files
are gone in either case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from components.adapters.mlflow_tracker import KEY, border, connect
from components.place import Place
from components.ports import Leftover

if TYPE_CHECKING:
    from mlflow.entities import Run

    from components.workspace import Workspace

PAGE: Final = 1_000
"""Runs that MLflow lists in one answer."""
PROXIED: Final = "mlflow-artifacts:/"
"""How the URI of files begins that a server keeps and shows."""

Alone = Callable[[str], AbstractContextManager[bool]]
"""Keeps others from a key inside, and tells whether it is still of no use to anybody."""


def open_sweep(workspace: Workspace, needed: Collection[str], before: float, alone: Alone) -> MlflowSweep | None:
    """The sweep of the profile's MLflow, whether or not our own server is up; None where there was never one."""
    url, folder = workspace.profile.services.mlflow.url, workspace.home / "mlflow"
    if url is None:
        if not (folder / "mlflow.db").is_file():
            return None
        url = f"sqlite:///{folder / 'mlflow.db'}"
    return MlflowSweep(url.rstrip("/"), folder / "artifacts", needed, before, alone)


class MlflowSweep:
    """A `Sweep`.

    Args:
        uri: a server's, or a database's.
        proxied: the folder in which our own server keeps files.
        needed: names, ids of runs among them.
        before: POSIX seconds; a run that ended since then stays.
        alone: see there.
    """

    def __init__(self, uri: str, proxied: Path, needed: Collection[str], before: float, alone: Alone) -> None:
        self._uri = uri
        self._proxied = proxied
        self._needed = needed
        self._before = before
        self._alone = alone
        self._client = connect(uri)

    def leftovers(self) -> list[Leftover]:
        with border(self._uri):
            runs = {run.info.run_id: run for run in self._runs() if not self._stays(run)}
            versions = [
                Leftover("version", f"{one.name}:{one.version}", f"model {one.name}:{one.version}", 0)
                for one in self._versions(runs)
            ]
            spared = self._aliased()
            return [version for version in versions if version.id not in spared] + [
                Leftover("run", run.info.run_id, self._name(run), self._size(run))
                for run in runs.values()
                if run.info.run_id not in spared.values()
            ]

    def discard(self, leftovers: Sequence[Leftover]) -> list[Leftover]:
        gone = []
        with border(self._uri):
            spared = self._aliased()
            for leftover in leftovers:  # a version before the run that it is of
                if leftover.kind == "version" and leftover.id not in spared:
                    name, _, number = leftover.id.rpartition(":")
                    if self._discard_version(name, number):
                        gone.append(leftover)
                elif leftover.kind == "run" and leftover.id not in spared.values() and self._discard_run(leftover.id):
                    gone.append(leftover)
        return gone

    def _discard_version(self, name: str, number: str) -> bool:
        version = self._client.get_model_version(name, number)
        with self._alone(version.tags[KEY]) as alone:
            if alone:
                self._client.delete_model_version(name, number)
        return alone

    def _discard_run(self, run_id: str) -> bool:
        """The files first: a run that is marked as deleted is not looked for again."""
        run = self._client.get_run(run_id)
        with self._alone(run.data.tags[KEY]) as alone:
            if not alone or self._client.search_model_versions(f"run_id = '{run_id}'"):
                return False
            place = self._place(run)
            if place is not None:
                place.remove(run_id)
            elif run.info.lifecycle_stage == "active":
                self._repository(run).delete_artifacts()
            if run.info.lifecycle_stage == "active":
                self._client.delete_run(run_id)
            if not self._uri.startswith("http"):
                self._store._hard_delete_run(run_id)  # noqa: SLF001  # what `mlflow gc` calls; there is no other way
        return True

    # --- what is there ------------------------------------------------------------------------------------------------

    def _runs(self) -> Iterator[Run]:
        """The runs that carry a key, those that are marked as deleted too where they can be removed for good."""
        from mlflow.entities import ViewType

        view = ViewType.ACTIVE_ONLY if self._uri.startswith("http") else ViewType.ALL
        experiments = [one.experiment_id for one in self._client.search_experiments(view_type=ViewType.ALL)]
        token: str | None = ""
        while experiments and token is not None:
            page = self._client.search_runs(
                experiments, f"tags.`{KEY}` LIKE '%'", view, max_results=PAGE, page_token=token or None
            )
            yield from page
            token = page.token or None

    def _stays(self, run: Run) -> bool:
        moment = (run.info.end_time or run.info.start_time) / 1000
        return run.info.run_id in self._needed or moment >= self._before

    def _versions(self, runs: Collection[str]) -> list[Any]:
        """The model versions of ours that were made of `runs`."""
        found: list[Any] = []
        token: str | None = ""
        while token is not None:
            page = self._client.search_model_versions(page_token=token or None)
            found += [one for one in page if KEY in one.tags and one.run_id in runs]
            token = page.token or None
        return found

    def _aliased(self) -> dict[str, str]:
        """The versions that an alias names, and the run of each."""
        found: dict[str, str] = {}
        for model in self._client.search_registered_models():
            for version in model.aliases.values():
                run_id = self._client.get_model_version(model.name, version).run_id
                found[f"{model.name}:{version}"] = run_id or ""
        return found

    # --- files --------------------------------------------------------------------------------------------------------

    def _name(self, run: Run) -> str:
        experiment = self._client.get_experiment(run.info.experiment_id).name
        return f"run {experiment} {run.info.run_name} ({run.info.run_id[:12]})"

    def _size(self, run: Run) -> int:
        place = self._place(run)
        if place is not None:
            return sum(stat.size for stat in place.files(run.info.run_id).values())
        waiting, size = [""], 0
        while waiting:
            for file in self._client.list_artifacts(run.info.run_id, waiting.pop()):
                waiting += [file.path] if file.is_dir else []
                size += file.file_size or 0
        return size

    def _place(self, run: Run) -> Place | None:
        """Where the folder with the run's files is; None where a server elsewhere has them."""
        above, _, _ = str(run.info.artifact_uri).rpartition(f"/{run.info.run_id}/")
        if not above.startswith(PROXIED):
            return Place(above)
        inside = above.removeprefix(PROXIED).strip("/")
        return None if self._uri.startswith("http") else Place(str(self._proxied / inside))

    def _repository(self, run: Run) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(run.info.artifact_uri, tracking_uri=self._uri)

    @property
    def _store(self) -> Any:
        """MLflow's own way into the database."""
        from mlflow.tracking._tracking_service.utils import _get_store

        return _get_store(self._uri)
