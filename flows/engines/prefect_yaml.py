"""`prefect.yaml`: every DAG of every project as a deployment, compiled from what a profile and the projects say."""

from __future__ import annotations

from typing import Any

import yaml

from components import config
from components.profile import Profile
from components.project import ProjectFile
from components.schedule import Schedule

HEADING = """\
# Made by `{command}` from config/; a change here is lost.
# `prefect deploy --all{option}` puts it on the server of profile `{profile}`; `trilha up --workers 1` starts a worker.
"""

ENTRYPOINT = "flows.deployments"
"""A module, not a file: it is found wherever this project is installed, on a laptop and in an image."""


def compiled(profile: str, path: str = "") -> str:
    """The text of `prefect.yaml` for a profile.

    Args:
        profile: its name.
        path: where the text goes, if not to `prefect.yaml`.

    Raises:
        ConfigError: the profile, or a project, is not accepted.
        NotFoundError: there is no such profile.
    """
    settings = config.load_profile(profile)
    projects = [(name, config.load_project(name).file) for name in config.project_names()]
    document = {
        "name": "trilha",
        "pull": [],  # the code is installed where the worker is
        "deployments": [
            *(_lifecycle(name, file, profile, settings) for name, file in projects),
            *(_scoring(name, file, profile, settings) for name, file in projects if file.scoring),
            *(_step(pool, profile) for pool in settings.pools),
        ],
    }
    command = f"trilha prefect compile{f' --profile {profile}' if profile != 'local' else ''}"
    heading = HEADING.format(
        command=f"{command} --output {path}" if path else command,
        option=f" --prefect-file {path}" if path else "",
        profile=profile,
    )
    return heading + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=116)


def _lifecycle(name: str, file: ProjectFile, profile: str, settings: Profile) -> dict[str, Any]:
    """The lifecycle of a project."""
    words = f"**{file.title}.** {file.description}".strip()
    return _deployment("lifecycle", words, file.schedule, name, profile, settings)


def _scoring(name: str, file: ProjectFile, profile: str, settings: Profile) -> dict[str, Any]:
    """The scoring of a project, by a schedule of its own."""
    words = f"**{file.title}**, for every row: predictions of the release that serves, in one commit of the data store."
    schedule = file.scoring.schedule if file.scoring else None
    return _deployment("scoring", words, schedule, name, profile, settings)


def _deployment(
    dag: str, words: str, schedule: Schedule | None, name: str, profile: str, settings: Profile
) -> dict[str, Any]:
    """A DAG of a project, one run at a time: the next one waits, and then finds what the first one did.

    Its schedule is not active where the profile's engine is Kubeflow: a schedule of two engines would do all twice.
    """
    schedules = [schedule.model_dump()] if schedule else []
    for one in schedules:
        one["active"] &= settings.engine != "kubeflow"
    return {
        "name": name,
        "description": words,
        "entrypoint": f"{ENTRYPOINT}.{dag}",
        "parameters": {"project": name, "profile": profile},
        "tags": [name, profile],
        "schedules": schedules,
        "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
        "work_pool": {"name": settings.services.workers.pool},
    }


def _step(pool: str, profile: str) -> dict[str, Any]:
    """What runs the steps that projects place on a pool."""
    return {
        "name": pool,
        "description": f"Single steps that `placement` in a project.yaml sends to work pool `{pool}`.",
        "entrypoint": f"{ENTRYPOINT}.step",
        "tags": [profile],
        "work_pool": {"name": pool},
    }
