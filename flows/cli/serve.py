"""`trilha serve`: the gateway in the foreground. `trilha keys add | list | revoke`: who may ask it."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit, note

keys_app = typer.Typer(help="The keys of those who may ask the gateway.", no_args_is_help=True)


@app.command()
def serve(
    projects: Annotated[list[str] | None, typer.Argument(help="Projects to serve; default: all.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on; default: the profile's.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port; default: the profile's, or 8080.")] = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Serve predictions over HTTP, in the foreground; `trilha up gateway` does it in the background."""
    from components import config
    from components.gateway.serve import check_binding
    from components.workspace import open_workspace
    from flows.gateway import run
    from flows.readiness import make_ready

    workspace = open_workspace(profile)
    settings = workspace.profile.services.gateway
    for project in projects or ():
        config.load_project(project)
    address, number = host or settings.host, port or settings.port or 8080
    check_binding(address, authentication=settings.authentication)
    make_ready(workspace, ["triton"], note)
    url = f"http://{address}:{number}"
    emit({"url": url}, f"{url}/docs", as_json=as_json)
    run(workspace, address, number, projects or ())


@keys_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[list[str], typer.Option("--scope", help="predict:PROJECT, read:PROJECT, predict:*, read:*.")],
    days: Annotated[int | None, typer.Option("--days", min=1, help="How long it is good; default: for ever.")] = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once; only its hash is kept."""
    from datetime import UTC, datetime, timedelta

    from components.gateway import keys
    from components.workspace import open_workspace

    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    key, text = keys.add(open_workspace(profile), name, scope, expires)
    emit({"name": key.name, "key": text, "scopes": key.scopes, "expires": key.expires}, text, as_json=as_json)


@keys_app.command(name="list")
def list_(profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Say whose keys there are, and what they open."""
    from components.gateway import keys
    from components.workspace import open_workspace

    known = keys.read(keys.path_of(open_workspace(profile))).keys
    found = [
        {"name": key.name, "scopes": " ".join(key.scopes), "created": key.created, "expires": key.expires or ""}
        for key in known
    ]
    emit(found, columns(found, ["name", "scopes", "created", "expires"]), as_json=as_json)


@keys_app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Whose key.")],
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Take a key out; a gateway that runs refuses it within a second."""
    from components.gateway import keys
    from components.workspace import open_workspace

    key = keys.revoke(open_workspace(profile), name)
    emit({"revoked": key.name}, f"revoked {key.name}", as_json=as_json)
