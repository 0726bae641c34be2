"""`trilha triggers install | show`: what starts runs without a person."""

from __future__ import annotations

import typer

from flows.cli.output import JsonOption, ProfileOption, emit

triggers_app = typer.Typer(help="Start runs by commits and by calls.", no_args_is_help=True)


@triggers_app.command()
def install(profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Have the data store tell the trigger service of every branch that a project watches."""
    from components.workspace import open_workspace
    from flows.triggers.install import install as write

    said = write(open_workspace(profile))
    emit({"installed": said}, said, as_json=as_json)


@triggers_app.command()
def show(profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Say which branches are watched, where the service is, and where its token is; the token itself is not shown."""
    from components.errors import UnavailableError
    from components.workspace import open_workspace
    from flows.triggers.token import token_path
    from flows.triggers.trigger import branches

    workspace = open_workspace(profile)
    url, problem = None, ""
    try:
        url = workspace.endpoint("triggers")
    except UnavailableError as error:
        problem = str(error)
    variable = workspace.profile.services.triggers.token_env
    token = f"the variable {variable}" if variable else str(token_path(workspace.home))
    watched = branches()
    lines = [
        f"service  {url or problem}",
        f"token    {token}",
        *(f"watched  {name}: {branch}" for name, branch in watched.items()),
    ]
    emit({"url": url, "problem": problem, "token": token, "watched": watched}, lines, as_json=as_json)
