"""What Prefect's workers run: one flow a DAG, with parameters that a person fills in on Prefect's page.

`trilha prefect compile` names them in `prefect.yaml`, `prefect deploy --all` puts them on the server, and a worker of
the pool runs them with its own repository and environment.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from prefect import flow
from pydantic import Field

from components import config
from components.calls import PackedCall
from components.errors import TrilhaError
from components.runs import Header
from components.workspace import open_workspace
from flows.dag import Dag
from flows.engines.prefect_placed import do_here
from flows.execute import LAST, execute, lifecycle_of, scoring_of
from flows.readiness import make_ready, needed_by


def _steps() -> list[str]:
    """The steps of every project; one that cannot be read must not keep the others from running."""
    names: dict[str, None] = {}
    for project in config.project_names():
        with suppress(TrilhaError):
            names |= dict.fromkeys(node.name for node in lifecycle_of(project, "local").nodes)
    return [*names] or [LAST]


Project = Annotated[str, Field(json_schema_extra={"enum": [*config.project_names()]})]
Profile = Annotated[str, Field(json_schema_extra={"enum": [*config.profile_names()]})]
Step = Annotated[str, Field(json_schema_extra={"enum": [*_steps()]})]


@flow(persist_result=False)
def lifecycle(project: Project, profile: Profile = "local", until: Step = LAST, commit: str = "") -> None:
    """From raw data to a release, as `trilha run PROJECT`.

    Args:
        project: What is learned: a folder under config/projects.
        profile: Where it runs: a file under config/profiles.
        until: Stop after this step; `release` is the last one.
        commit: A branch, tag or commit of the data store whose tables are taken. Empty: the project's own sources.
    """
    _run(lifecycle_of(project, profile, None if until == LAST else until, commit or None), project, profile)


@flow(persist_result=False)
def scoring(project: Project, profile: Profile = "local", release: int = 0, commit: str = "") -> None:
    """Predictions for every row, as `trilha score PROJECT`.

    Args:
        project: What is answered for: a folder under config/projects.
        profile: Where it runs: a file under config/profiles.
        release: The number of the release that answers. 0: the one that serves.
        commit: A branch, tag or commit of the data store whose rows are answered. Empty: what `main` holds.
    """
    _run(scoring_of(project, profile, release or None, commit or None), project, profile)


def _run(dag: Dag, project: str, profile: str) -> None:
    """Run a DAG as the flow run that is going on."""
    wanted = [service for service in needed_by(dag, "prefect") if service != "prefect"]  # it is what runs this
    make_ready(open_workspace(profile), wanted)
    execute(dag, project=project, profile=profile, engine="prefect")


@flow(persist_result=False)
def step(call: str, header: str) -> None:
    """One node of a run that goes on elsewhere, where `placement` in project.yaml sends it; the engine starts it.

    Args:
        call: The node, as JSON: its step, arguments and policy.
        header: The run that it belongs to, as JSON.
    """
    do_here(PackedCall.model_validate_json(call), Header.model_validate_json(header))
