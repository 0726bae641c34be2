"""A profile, opened: the parts that steps work with, each made when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import config, endpoints
from components.artifacts import Artifacts
from components.errors import UnavailableError
from components.ledger import Ledger
from components.profile import Profile
from components.records import Artifact, Commit, Published
from components.scores import Predictions, holds
from components.tables import MAIN, ingested

if TYPE_CHECKING:
    from components.ports import DataStore, FeatureStore, ModelServer, Tracker

ADAPTERS = {
    "features-redis": "components.adapters.redis_features:open_features",
    "features-sqlite": "components.adapters.sqlite_features:open_features",
    "git": "components.adapters.git_store:open_store",
    "lakefs": "components.adapters.lakefs_store:open_store",
    "mlflow": "components.adapters.mlflow_tracker:open_tracker",
    "triton": "components.adapters.triton_server:open_server",
}
"""Adapter -> the function that opens it from a workspace; imported when it is first needed."""


class Workspace:
    """The parts that a profile names.

    Args:
        name: the profile's name.
        profile: its settings.
    """

    def __init__(self, name: str, profile: Profile) -> None:
        self.name = name
        self.profile = profile

    @cached_property
    def state(self) -> str:
        """The root URL of what Trilha keeps for this profile."""
        state = self.profile.state
        return state if "://" in state else str(config.root() / state)

    @cached_property
    def home(self) -> Path:
        """A local folder for this machine alone: services, locks, scratch, the data store's cache."""
        path = Path(self.state) if "://" not in self.state else config.root() / ".trilha" / self.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @cached_property
    def artifacts(self) -> Artifacts:
        return Artifacts(f"{self.state}/artifacts", self.home / "scratch")

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(f"{self.state}/ledger", self._present)

    @cached_property
    def store(self) -> DataStore:
        store: DataStore = self._open(self.profile.store.kind)
        return store

    @cached_property
    def tracker(self) -> Tracker:
        tracker: Tracker = self._open("mlflow")
        return tracker

    @cached_property
    def server(self) -> ModelServer:
        server: ModelServer = self._open("triton")
        return server

    @cached_property
    def features(self) -> FeatureStore:
        kind = "features-redis" if self.profile.features.redis_env else "features-sqlite"
        store: FeatureStore = self._open(kind)
        return store

    def endpoint(self, service: str) -> str:
        """Where `prefect`, `mlflow`, `tensorboard` (a URL) or `triton` (`host:port`, gRPC) can be reached.

        The profile's `url`, or what `trilha up` wrote down. It costs a file read and a look at the process; no request
        is made.

        Raises:
            UnavailableError: the service is not running.
        """
        url: str | None = getattr(self.profile.services, service).url
        if url:
            return url.rstrip("/")
        found = endpoints.read(self.home, service)
        if found is None or not found.alive:
            raise UnavailableError(f"{service} is not running", next_step=f"trilha up --profile {self.name}")
        endpoints.spare_proxies()
        return found.url

    def _open(self, adapter: str) -> Any:
        module, function = ADAPTERS[adapter].split(":")
        return getattr(importlib.import_module(module), function)(self)

    def _present(self, part: Artifact | Commit) -> bool:
        """Whether what a step made is still in its place."""
        if isinstance(part, Artifact):
            return self.artifacts.has(part)
        if not self.store.has(part.id):
            return False
        if isinstance(part, Published):
            return ingested(self.store, MAIN, part.project) == ingested(self.store, part.id, part.project)
        if isinstance(part, Predictions):
            return holds(self.store, part.id, part.project)
        return True

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep every other thread and process of this machine out of `name` while inside."""
        from filelock import FileLock

        folder = self.home / "locks"
        folder.mkdir(exist_ok=True)
        with FileLock(folder / f"{name}.lock", thread_local=False):
            yield

    @contextmanager
    def output(self) -> Iterator[Output]:
        """A folder for the running step's files; `Output.publish` makes them visible at once.

        with workspace.output() as out:
            write(out.folder / "train.parquet")
            files = out.publish()
        """
        from components.ledger import effect_key

        key = effect_key()
        with self.artifacts.folder(key) as folder:
            yield Output(self.artifacts, key, folder)


class Output:
    """The files of one step, before they are visible."""

    def __init__(self, artifacts: Artifacts, key: str, folder: Path) -> None:
        self._artifacts = artifacts
        self._key = key
        self.folder = folder

    def publish(self) -> dict[str, Artifact]:
        """Make every file in `folder` visible; returns them by relative path."""
        return self._artifacts.publish(self._key, self.folder)


@cache
def open_workspace(profile: str) -> Workspace:
    """The parts of the profile `profile`.

    Raises:
        ConfigError, NotFoundError: there is no such profile, or it is not accepted.
    """
    return Workspace(profile, config.load_profile(profile))
