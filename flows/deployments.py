"""What Prefect's workers run: one flow a DAG, with parameters that a person fills in on Prefect's page.

`prefect.yaml` names them; `prefect deploy --all` puts them on the server, and a worker of the pool runs them there.
"""

from __future__ import annotations

from prefect import flow

from components.calls import PackedCall
from components.runs import Header
from components.workspace import open_workspace
from flows.engines.prefect_placed import do_here
from flows.execute import execute, lifecycle_of
from flows.readiness import make_ready, needed_by


@flow(persist_result=False)
def lifecycle(project: str, profile: str = "local", until: str | None = None, commit: str | None = None) -> None:
    """From raw data to a release, as `trilha run PROJECT`.

    Args:
        project: a folder under config/projects.
        profile: where it runs, a file under config/profiles.
        until: stop after this step.
        commit: a branch, tag or commit of the data store whose tables are taken; none: the project's sources.
    """
    dag = lifecycle_of(project, profile, until, commit)
    wanted = [service for service in needed_by(dag, "prefect") if service != "prefect"]  # it is what runs this
    make_ready(open_workspace(profile), wanted)
    execute(dag, project=project, profile=profile, engine="prefect")


@flow(persist_result=False)
def step(call: str, header: str) -> None:
    """One node of a run that goes on elsewhere, where `placement` in project.yaml sends it; the engine starts it.

    Args:
        call: the node, as JSON: its step, arguments and policy.
        header: the run that it belongs to, as JSON.
    """
    do_here(PackedCall.model_validate_json(call), Header.model_validate_json(header))
