"""`trilha releases | show | rollback | reconcile | trail`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit
from flows.cli.run import ProjectArgument

if TYPE_CHECKING:
    from components.ports import DataStore
    from components.records import Release


@app.command()
def releases(project: ProjectArgument, profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """List the releases of a project, newest first, and which one serves."""
    from components import config
    from components.releases import releases as manifests
    from components.releases import served
    from components.workspace import open_workspace

    config.load_project(project)
    store = open_workspace(profile).store
    found = list(manifests(store, project))
    serving = next(served(store, project), None)
    rows = [
        {
            "release": release.number,
            "created": release.created,
            release.candidate.metric: f"{release.decision.metrics[release.candidate.metric]:.4f}",
            "data": release.commit.id[:12],
            "bundle": release.bundle.digest[:12],
            "model": f"{release.version.name}:{release.version.version}",
            "note": "; ".join(_notes(store, release, serves=release == serving)),
        }
        for release in found
    ]
    text = columns(rows, list(rows[0])) if rows else f"no release yet; next: trilha run {project}"
    emit(found, text, as_json=as_json)


def _notes(store: DataStore, release: Release, *, serves: bool) -> Iterator[str]:
    """What there is to say of a release beside its numbers."""
    from components.rollouts import rollout_number

    if serves:
        yield "serves"
    if release.restores:
        yield f"restores {release.restores}"
    if release.rollout:
        yield f"roll-out {release.rollout}: {rollout_number(store, release.project, release.rollout).state}"


@app.command()
def show(
    project: ProjectArgument,
    number: Annotated[int | None, typer.Argument(help="Default: the one that serves.")] = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show a release: its numbers, and where its page is."""
    from components.releases import newest, release_number
    from components.workspace import open_workspace
    from flows.page import write_page

    workspace = open_workspace(profile)
    release = release_number(workspace.store, project, number) if number else newest(workspace.store, project)
    page = write_page(workspace, release)
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in release.decision.metrics.items())
    bundle, qualification = release.bundle, release.qualification
    lines = [
        f"{project}/{release.number}  {release.created}  digest {release.digest[:12]}",
        f"model    {metrics}",
        *(f"         {reason}" for reason in release.decision.reasons),
        f"served   {bundle.model} ({bundle.target}), p99 {qualification.p99_ms:.1f} of {qualification.budget_ms:g} ms",
        f"parity   off by {qualification.difference:.1e} at most on {qualification.rows} golden rows",
        f"data     commit {release.commit.id[:12]}, " + ", ".join(f"{k} {v}" for k, v in release.commit.tables.items()),
        *(f"now      {line}" for line in _notes(workspace.store, release, serves=_serves(workspace.store, release))),
        f"page     {page.as_uri()}",
    ]
    emit(release, lines, as_json=as_json)


def _serves(store: DataStore, release: Release) -> bool:
    from components.releases import newest

    return newest(store, release.project).number == release.number


@app.command()
def rollback(
    project: ProjectArgument,
    to: Annotated[int | None, typer.Option(help="The release to serve again; default: the one before.")] = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Serve an earlier release again, as a new release with its contents."""
    from components.release import one_before, roll_back
    from components.releases import release_number
    from components.workspace import open_workspace
    from flows.cli.output import note
    from flows.readiness import make_ready

    workspace = open_workspace(profile)
    target = one_before(workspace, project) if to is None else release_number(workspace.store, project, to)
    make_ready(workspace, ["mlflow", "triton"], note)
    made = roll_back(workspace, project, target)
    did = f"what release {made.restores} did" if made.restores else f"as {made.bundle.model}: it is the newest"
    emit(made, f"{project}/{made.number} serves {did}", as_json=as_json)


@app.command()
def reconcile(project: ProjectArgument, profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Make alias, tag and served model what the newest manifest says."""
    from components.reconcile import reconcile as finish
    from components.workspace import open_workspace
    from flows.cli.output import note
    from flows.readiness import make_ready

    workspace = open_workspace(profile)
    make_ready(workspace, ["mlflow", "triton"], note)
    release = finish(workspace, project)
    emit(release, f"{project}/{release.number} serves as {release.bundle.model}", as_json=as_json)


@app.command()
def trail(
    name: Annotated[str, typer.Argument(help="PROJECT/NUMBER, MODEL:VERSION, a run, or a commit.")],
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Print the chain from a release, model version, run or commit back to its sources."""
    from components.workspace import open_workspace
    from flows.trail import trail as follow

    links = follow(open_workspace(profile), name)
    lines = [f"{link.what:<12} {link.name}" + "".join(f"\n{'':<13}{line}" for line in link.lines) for link in links]
    emit([{"what": link.what, "name": link.name, "lines": link.lines} for link in links], lines, as_json=as_json)
