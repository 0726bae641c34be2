"""Why a run starts without a person: what a trigger is, and what a watched branch holds that is new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components import config
from components.errors import ConfigError, NotFoundError
from components.records import Record, digest
from components.tables import MAIN

if TYPE_CHECKING:
    from components.workspace import Workspace


class Trigger(Record):
    """Why a run of a DAG starts: the commit whose tables it takes; none: the sources, or what `main` holds."""

    project: str
    commit: str | None
    dag: str = "lifecycle"
    keys: tuple[str, ...]
    """What it is known by. A trigger with the same first key came before; the run is known by all of them."""


class Started(Record):
    """The run that a trigger led to. `new`: it was made for this trigger; else it was there, and has the commit now."""

    project: str
    run: str
    url: str
    commit: str | None
    new: bool
    note: str = ""
    """What keeps it from beginning."""


def trigger(
    workspace: Workspace, project: str, commit: str | None, delivery: str | None, dag: str = "lifecycle"
) -> Trigger:
    """A trigger by somebody's call; without a `delivery` of its own, the commit tells it from others.

    Raises:
        ConfigError: neither is given, or a name is not accepted.
        NotFoundError: there is no such project or commit.
    """
    config.load_project(project)
    if commit is None and delivery is None:
        raise ConfigError(
            "neither `commit` nor `delivery`",
            accepted="a commit of the data store, or a text that is new with each order to take what there is",
        )
    found = workspace.store.resolve(commit).id if commit else None
    whose = [project] if dag == "lifecycle" else [project, dag]
    keys = [digest([*whose, text]) for text in (delivery, found) if text]
    return Trigger(project=project, commit=found, dag=dag, keys=tuple(keys))


def watchers(branch: str) -> list[str]:
    """The projects that watch `branch`.

    Raises:
        NotFoundError: none does.
    """
    watched = branches()
    found = [project for project, name in watched.items() if name == branch]
    if not found:
        raise NotFoundError(
            f"no project watches branch {branch!r}",
            accepted=", ".join(sorted(set(watched.values()))) or "none yet",
            next_step=f"watch: {branch} in the project's project.yaml",
        )
    return found


def branches() -> dict[str, str]:
    """Project -> the branch that it watches."""
    found = {project: config.load_project(project).file.watch for project in config.project_names()}
    return {project: branch for project, branch in found.items() if branch is not None}


def news(workspace: Workspace, project: str, branch: str) -> Trigger | None:
    """What `branch` holds for `project` that `main` does not; None where it is nothing.

    It is the branch's newest commit, whatever was delivered: deliveries may get lost or overtake each other.

    Raises:
        NotFoundError: there is no such branch.
    """
    store = workspace.store
    head = store.resolve(branch).id
    if not any(change.path.startswith(f"{project}/") for change in store.diff(MAIN, head)):
        return None
    return Trigger(project=project, commit=head, keys=(digest([project, head]),))
