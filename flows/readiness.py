"""Services that run, and a Triton that answers for every project that has a release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from components import config
from components.errors import TrilhaError
from components.releases import served
from flows.services import SERVICES, ensure

if TYPE_CHECKING:
    from components.workspace import Workspace
    from flows.dag import Dag


def needed_by(dag: Dag, engine: str) -> list[str]:
    """The services that a run of `dag` on `engine` talks to."""
    steps = {node.step.__name__ for node in dag.nodes}
    asked = any(node.arguments.get("through") == "triton" for node in dag.nodes)
    return [
        *(["prefect"] if engine == "prefect" else []),
        *(["mlflow", "tensorboard"] if steps & {"train", "select", "register"} else []),
        *(["triton"] if asked or steps & {"qualify", "release"} else []),
    ]


def make_ready(
    workspace: Workspace, names: Sequence[str] = tuple(SERVICES), say: Callable[[str], object] = lambda _: None
) -> None:
    """Start what is not up; a Triton that was just started holds no model, so it gets what serves.

    Raises:
        UnavailableError: a service did not start.
    """
    if "triton" not in ensure(workspace, names, say):
        return
    from components.serving import serve

    for project in config.project_names():
        release = next(served(workspace.store, project), None)
        if release is None:
            continue
        try:
            serve(workspace, release.bundle, project)
            say(f"triton serves {project}/{release.number}")
        except TrilhaError as error:  # the services are up all the same; the release is made good by a run
            say(f"triton does not serve {project}/{release.number}: {error}")
