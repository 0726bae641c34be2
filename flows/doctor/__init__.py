"""What a run of a profile lacks, on this machine and at every endpoint that the profile names, and how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from components.workspace import Workspace, open_workspace
from flows.doctor import endpoints, machine, variables
from flows.doctor.check import Check, lacking

__all__ = ["Check", "examine"]


class Look(Protocol):
    """A function that looks at one thing; `__name__` is its name."""

    __name__: str

    def __call__(self, workspace: Workspace, /) -> Iterator[Check]: ...


HERE: tuple[Look, ...] = (machine.python, machine.packages)
AT_HOME: tuple[Look, ...] = (
    machine.machine, machine.disk, machine.git, machine.triton, machine.ports,
    endpoints.state, endpoints.store, endpoints.sql, endpoints.prefect, endpoints.mlflow, endpoints.tensorboard,
    endpoints.triton, endpoints.features, endpoints.triggers, endpoints.gateway, endpoints.kubeflow, variables.named,
)  # fmt: skip
"""What needs the profile's own folder on this machine."""


def examine(profile: str) -> list[Check]:
    """Look at all that a run of `profile` stands on, side by side; no service is started or stopped.

    What is written is a file where state and models lie, and it is removed again. No value of a secret is in a check.
    """
    workspace = open_workspace(profile)
    looks = HERE
    checks = []
    try:
        workspace.home.is_dir()
        looks += AT_HOME
    except OSError as error:
        where = f"config/profiles/{profile}.yaml"
        problem = f"{workspace.state} cannot be made: {error.strerror}"
        checks.append(lacking("disk", problem, f"change its owner, or correct `state` in {where}"))
    with ThreadPoolExecutor(len(looks)) as pool:
        found = pool.map(lambda look: _look(look, workspace), looks)
        checks = [check for group in found for check in group] + checks
    return variables.hidden(workspace.profile, checks)


def _look(look: Look, workspace: Workspace) -> list[Check]:
    """What one look found; an answer that its client did not expect must not take away what the others found."""
    name = look.__name__
    try:
        return list(look(workspace))
    except Exception as error:  # noqa: BLE001  # clients have errors of their own for answers that make no sense
        return [lacking(name, f"{type(error).__name__}: {error}", f"see what answers at {name} in the profile")]
