"""What the page says beyond the manifest: the run that made it, its files, its sources, its trail, what is up now.

Whatever is gone, or cannot be reached, is left out or said to be gone: a page is there for every release.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from components import config, strict_yaml
from components.adapters.mlflow_pages import MlflowPages
from components.errors import TrilhaError
from components.project import ProjectFile
from components.records import Artifact, FileStamp, Release, parts
from components.releases import newest, release_number
from components.runs import Header, NodeState, RunLog
from components.tables import sources_of
from flows.trail import Link, of_release

if TYPE_CHECKING:
    from components.workspace import Workspace

T = TypeVar("T")
SERVICES = ("prefect", "mlflow", "tensorboard")


@dataclass(frozen=True, slots=True)
class Facts:
    """See the module."""

    release: Release
    profile: str
    title: str
    description: str
    serving: int | None
    """The number of the release that serves now."""
    champion: int | None
    """The number of the release that this one had to beat; 0 where there was none."""
    run: Header | None
    """The run that made it; for a rollback, the run that made what it brings back."""
    steps: tuple[NodeState, ...]
    """The nodes of that run, without their outputs."""
    files: dict[str, str]
    """Artifact's path -> where it is, as seen from the page; what is gone is not here."""
    sources: dict[str, tuple[FileStamp, ...]]
    """What each table was read from."""
    message: str
    """The data commit's."""
    trail: tuple[Link, ...]
    services: dict[str, str]
    """Those that are up: name -> URL."""
    mlflow: MlflowPages | None
    """Where its runs are shown; None where MLflow is not up."""


def gather(workspace: Workspace, release: Release, folder: Path) -> Facts:
    """All that the page in `folder` says about `release`."""
    store = workspace.store
    services = dict(_services(workspace))
    settings = _unless_gone(lambda: _project(release.project))
    header, states = _run(workspace, release)
    revision = _unless_gone(lambda: store.resolve(release.commit.id))
    return Facts(
        release=release,
        profile=workspace.name,
        title=settings.title if settings else release.project,
        description=settings.description if settings else "",
        serving=_unless_gone(lambda: newest(store, release.project).number),
        champion=next((state.output["release"] for state in states if state.name == "champion" and state.output), None),
        run=header,
        steps=tuple(state.model_copy(update={"output": None}) for state in states),
        files=dict(_files(workspace, release, folder)),
        sources=(_unless_gone(lambda: sources_of(store, revision.id, release.project)) if revision else None) or {},
        message=revision.message if revision else "",
        trail=tuple(_trail(workspace, release)),
        services=services,
        mlflow=MlflowPages(services["mlflow"], release.project) if "mlflow" in services else None,
    )


def _unless_gone(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except (TrilhaError, OSError):
        return None


def _project(name: str) -> ProjectFile:
    """Only what has the title: whether the rest of the project is there does not matter here."""
    return strict_yaml.load(config.root() / "config" / "projects" / name / "project.yaml", ProjectFile)


def _run(workspace: Workspace, release: Release) -> tuple[Header | None, list[NodeState]]:
    """The run that made a release, and its nodes in the order in which they began."""
    origin = release
    with suppress(TrilhaError):
        while origin.restores is not None:
            origin = release_number(workspace.store, origin.project, origin.restores)
    entry = workspace.ledger.read(origin.key)
    if entry is None or not entry.run:
        return None, []
    log = RunLog(workspace)
    try:
        states = log.nodes(entry.run).values()
        return log.header(entry.run), sorted(states, key=lambda state: (state.started or "9", state.name))
    except (TrilhaError, OSError):
        return None, []


def _files(workspace: Workspace, release: Release, folder: Path) -> Iterator[tuple[str, str]]:
    for artifact in parts(release):
        if isinstance(artifact, Artifact):
            with suppress(TrilhaError, OSError):
                path = workspace.artifacts.local(artifact)
                yield artifact.path, quote(Path(os.path.relpath(path, folder)).as_posix())


def _trail(workspace: Workspace, release: Release) -> Iterator[Link]:
    """The chain as far as it can still be followed."""
    try:
        yield from of_release(workspace, release)
    except (TrilhaError, OSError):
        yield Link("commit", release.commit.id, ("gone from the data store",))


def _services(workspace: Workspace) -> Iterator[tuple[str, str]]:
    for name in SERVICES:
        with suppress(TrilhaError):
            yield name, workspace.endpoint(name)
