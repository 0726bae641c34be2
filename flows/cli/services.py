"""`trilha up | down | status | logs | doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit, note

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="prefect, mlflow, tensorboard, triton, triggers, gateway, workers; all but two by default."),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, max=64, help="So many processes that take runs from Prefect, as well.")
]


@app.command()
def up(
    names: NamesArgument = None,
    workers: WorkersOption = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Start the background services; those that run already stay as they are."""
    from components.workspace import open_workspace
    from flows.readiness import make_ready
    from flows.services import SERVICES
    from flows.services.workers import want

    workspace = open_workspace(profile)
    wanted = set(_names(names))
    if workers:
        want(workspace.home, workers)
        wanted.add("workers")
    elif names is None:
        wanted.remove("workers")
    if names is None:
        wanted.remove("gateway")
    if "gateway" in wanted:
        wanted.add("triton")
    if "workers" in wanted:
        wanted.add("prefect")  # which they are nothing without
    make_ready(workspace, [name for name in SERVICES if name in wanted], note)
    if "prefect" in wanted and workspace.profile.services.prefect.url is None:
        from flows.engines.prefect import prepare

        prepare(workspace)
    _show(profile, as_json=as_json)


@app.command()
def down(names: NamesArgument = None, profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Stop the background services and everything they started."""
    from components.workspace import open_workspace
    from flows import services

    stopped = services.down(open_workspace(profile), _names(names))
    emit({"stopped": stopped}, f"stopped {', '.join(stopped)}" if stopped else "nothing ran", as_json=as_json)


@app.command()
def status(profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Say which services run, and where."""
    _show(profile, as_json=as_json)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="prefect, mlflow, tensorboard, triton, triggers, gateway or workers.")],
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written from now on.")] = False,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show what a service has to say."""
    from components.errors import ConfigError
    from components.workspace import open_workspace
    from flows.services import logs as files

    if follow and as_json:
        raise ConfigError("--follow with --json", accepted="one of them")
    path = files.log_path(open_workspace(profile).home, _names([name])[0])
    last = files.tail(path, lines)
    emit({"service": name, "path": str(path), "lines": last}, last or f"{path} is empty", as_json=as_json)
    if follow:
        for line in files.follow(path):
            print(line, flush=True)


@app.command()
def doctor(profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Say what is missing, here and where the profile points, and how to get it; exit code 1 if something is."""
    from flows.doctor import examine

    checks = examine(profile)
    marks = {"good": "ok", "note": "note", "bad": "MISSING"}
    width = max(13, *(len(check.name) for check in checks))
    lines = []
    for check in checks:
        lines.append(f"{marks[check.verdict]:<8} {check.name:<{width}} {check.found}")
        if check.remedy:
            lines.append(f"{'':<{width + 9}} {check.remedy}")
    emit(checks, lines, as_json=as_json)
    if any(check.verdict == "bad" for check in checks):
        raise typer.Exit(1)


def _names(names: list[str] | None) -> list[str]:
    """The services meant; all of them where none is named."""
    from components.errors import ConfigError
    from flows.services import SERVICES

    for name in names or ():
        if name not in SERVICES:
            raise ConfigError(f"no service {name!r}", accepted=", ".join(SERVICES))
    return names or list(SERVICES)


def _show(profile: str, *, as_json: bool) -> None:
    from components.workspace import open_workspace
    from flows import services

    found = services.status(open_workspace(profile))
    rows = [
        {
            "service": one.service,
            "state": one.state,
            "url": one.url,
            "pid": one.pid or "",
            "up for": _duration(one.uptime),
        }
        for one in found
    ]
    lines = [columns(rows, ["service", "state", "url", "pid", "up for"]), *_rollouts(profile)]
    emit(found, lines, as_json=as_json)


def _rollouts(profile: str) -> Iterator[str]:
    """Of every project where more than one release may answer, how that stands."""
    from components import config
    from components.rollouts import under_way
    from components.workspace import open_workspace

    for project in config.project_names():
        rollout = under_way(open_workspace(profile).store, project)
        if rollout is not None:
            yield f"{project}: {rollout.told}"


def _duration(seconds: float | None) -> str:
    """Two units at most: `3 d 4 h`, `12 min 5 s`."""
    if seconds is None:
        return ""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
