"""`trilha notebook export | sync`: a project's notebook as a script, and the two kept in step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.output import JsonOption, ProfileOption, emit, save

notebook_app = typer.Typer(help="Turn a notebook into a script; keep the two in step.", no_args_is_help=True)

ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT")]


def _notebook(project: str) -> Path:
    from components import config

    return config.root() / config.load_project(project).notebook.path


@notebook_app.command()
def export(
    project: ProjectArgument,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there instead of printing it.")] = None,
    profile: ProfileOption = "local",  # noqa: ARG001  # every command takes it
    as_json: JsonOption = False,
) -> None:
    """Print the notebook of PROJECT as a plain Python script."""
    from components.adapters.jupytext_pair import script

    text = script(_notebook(project))
    if to is None:
        emit({"script": text}, text.rstrip("\n"), as_json=as_json)
    else:
        save(to, text, "--to")
        emit({"path": str(to)}, str(to), as_json=as_json)


@notebook_app.command()
def sync(
    project: ProjectArgument,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail where they differ.")] = False,
    profile: ProfileOption = "local",  # noqa: ARG001  # every command takes it
    as_json: JsonOption = False,
) -> None:
    """Bring the notebook of PROJECT and the script beside it in step; the newer of the two wins."""
    from components.adapters import jupytext_pair
    from components.errors import ConflictError

    notebook = _notebook(project)
    beside = notebook.with_suffix(".py")
    if not check:
        jupytext_pair.sync(notebook)
    elif not jupytext_pair.in_step(notebook):
        raise ConflictError(
            f"{notebook} and {beside.name} differ",
            accepted="the same cells",
            next_step=f"trilha notebook sync {project}",
        )
    emit(
        {"notebook": str(notebook), "script": str(beside)}, f"{notebook} and {beside.name} are in step", as_json=as_json
    )
