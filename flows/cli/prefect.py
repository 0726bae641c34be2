"""`trilha prefect compile | pools`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.output import JsonOption, ProfileOption, columns, emit, save

prefect_app = typer.Typer(help="Deploy every project on Prefect.", no_args_is_help=True)

OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Default: prefect.yaml.")]


@prefect_app.command("compile")
def compile_(profile: ProfileOption = "local", output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Write prefect.yaml: every DAG of every project as a deployment."""
    from components import config
    from flows.engines.prefect_yaml import compiled

    text = compiled(profile, str(output or ""))
    path = output or config.root() / "prefect.yaml"
    save(path, text, "--output")
    emit({"path": str(path), "profile": profile}, f"{path}, for profile {profile}", as_json=as_json)


@prefect_app.command("pools")
def pools(profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Make the profile's work pools on its Prefect server what deploy/workpools says, and have it watch heartbeats."""
    from dataclasses import asdict

    from components.workspace import open_workspace
    from flows.engines.prefect import prepare

    made = [asdict(pool) for pool in prepare(open_workspace(profile))]
    emit(made, columns(made, ["name", "type", "change"]), as_json=as_json)
