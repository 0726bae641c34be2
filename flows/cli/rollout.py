"""`trilha rollout start | status | promote | abort`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.output import JsonOption, ProfileOption, columns, emit, note
from flows.cli.run import ProjectArgument

if TYPE_CHECKING:
    from components.rollout_settings import RolloutRules
    from components.rollouts import Rollout
    from components.selection_settings import Selection
    from components.tally import Tally
    from components.workspace import Workspace

rollout_app = typer.Typer(help="Let a release take over step by step, or give it up.", no_args_is_help=True)

WhyOption = Annotated[str, typer.Option("--why", help="For the record.")]


@rollout_app.command()
def start(
    project: ProjectArgument,
    release: Annotated[
        int | None, typer.Option("--release", help="Its number; default: the newest one that does not serve.")
    ] = None,
    how: Annotated[
        str | None, typer.Option("--how", help="blue-green, canary or shadow; default: project.yaml's, or canary.")
    ] = None,
    share: Annotated[
        list[str] | None, typer.Option("--share", help="Of the requests, 5% or 0.05; give it again for more steps.")
    ] = None,
    auto: Annotated[
        bool | None, typer.Option("--auto/--by-hand", help="Whether it is promoted without a person.")
    ] = None,
    why: WhyOption = "asked for",
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Start a roll-out: what a release holds becomes the candidate, and the gateway does the rest."""
    from components import config
    from components.errors import ConfigError
    from components.releases import release_number
    from components.rollout import other_release
    from components.rollout import start as begin
    from components.rollout_settings import RolloutRules
    from components.workspace import open_workspace
    from flows.readiness import make_ready

    file = config.load_project(project).file
    if file.selection is not None:
        raise ConfigError(
            f"{project} chooses between releases {file.selection.arms} (`selection:`)",
            accepted="a roll-out of a project without", next_step=f"take it out of {project}'s project.yaml first",
        )  # fmt: skip
    given = {"how": how, "shares": [_share(text) for text in share] if share else None, "auto": auto}
    rules = _rules(file.rollout or RolloutRules(), given)
    workspace = open_workspace(profile)
    of = other_release(workspace, project) if release is None else release_number(workspace.store, project, release)
    make_ready(workspace, ["triton"], note)
    _warn(workspace)
    made = begin(workspace, project, of, rules, why)
    emit(made, f"{project}: {made.told}; next: trilha rollout status {project}", as_json=as_json)


@rollout_app.command()
def status(project: ProjectArgument, profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Say who answers, how the roll-out or the selection stands, and what happened in it."""
    from components import config
    from components.releases import newest
    from components.rollouts import rollouts
    from components.workspace import open_workspace

    workspace = open_workspace(profile)
    _warn(workspace)
    serving = newest(workspace.store, project)
    last = next(rollouts(workspace.store, project), None)
    lines = [f"{project}/{serving.number} serves as {serving.bundle.model}"]
    looks: list[dict[str, Any]] = []
    selection = config.load_project(project).file.selection
    arms = _arms(workspace, project, selection) if selection else []
    if selection:
        lines += [f"{selection.how} between releases", columns(arms, list(arms[0]))]
    elif last is None:
        lines.append(f"no roll-out yet; next: trilha rollout start {project}")
    if last is not None:
        looks = _looks(workspace, last) if last.state == "running" else []
        lines.append(f"roll-out {last.number}: {last.told}")
        lines += [f"  {look['finding']:<6} {look['words']}" for look in looks]
        rows = [event.model_dump() for event in last.events]
        lines.append(columns(rows, ["moment", "who", "what", "why"]))
    found = {"project": project, "serves": serving.number, "rollout": last, "looks": looks, "arms": arms}
    emit(found, lines, as_json=as_json)


@rollout_app.command()
def promote(
    project: ProjectArgument,
    why: WhyOption = "asked for",
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Let the candidate serve, now."""
    from components.rollout import promote as finish
    from components.workspace import open_workspace
    from flows.readiness import make_ready

    workspace = open_workspace(profile)
    make_ready(workspace, ["mlflow", "triton"], note)
    done = finish(workspace, project, why)
    emit(done, f"{project}/{done.candidate} serves", as_json=as_json)


@rollout_app.command()
def abort(
    project: ProjectArgument,
    why: WhyOption = "asked for",
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Give the candidate up, now; what serves goes on."""
    from components.rollout import abort as give_up
    from components.workspace import open_workspace

    done = give_up(open_workspace(profile), project, why)
    emit(done, f"{project}/{done.running} serves; {done.candidate} was given up", as_json=as_json)


def _warn(workspace: Workspace) -> None:
    from components.tally import counts_apart

    words = counts_apart(workspace)
    if words:
        note(words)


def _share(text: str) -> float:
    from components.errors import ConfigError

    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        return float(number) / (100 if percent else 1)
    except ValueError:
        raise ConfigError(f"--share {text}", accepted="5% or 0.05") from None


def _rules(known: RolloutRules, given: dict[str, Any]) -> RolloutRules:
    """The project's rules with what the command line says in their place."""
    from pydantic import ValidationError

    from components.accepted import accepted
    from components.errors import ConfigError

    said = {name: value for name, value in given.items() if value is not None}
    if "how" in said and "shares" not in said:
        said["shares"] = ()  # those of another way of rolling out
    try:
        return type(known).model_validate(known.model_dump() | said)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "rollout"
        raise ConfigError(f"{where} is {fault['input']!r}", accepted=accepted(fault)) from error


def _tally(workspace: Workspace) -> Tally | None:
    """What the gateways counted; None, and why, where this machine does not know the Redis that they count in."""
    from components.errors import ConfigError
    from components.tally import open_tally

    try:
        return open_tally(workspace)
    except ConfigError as error:
        note(f"what the gateways counted is not seen here: {error}")
        return None


def _looks(workspace: Workspace, rollout: Rollout) -> list[dict[str, Any]]:
    """How each criterion stands, as the gateways see it."""
    from dataclasses import asdict

    from components.gateway.conduct import counts_of
    from components.verdict import judge

    tally = _tally(workspace)
    return [asdict(look) for look in judge(rollout.rules, counts_of(tally, rollout))] if tally else []


def _arms(workspace: Workspace, project: str, selection: Selection) -> list[dict[str, Any]]:
    """What each release of a selection did, as all gateways saw it."""
    from components.gateway.conduct import arms_of
    from components.tally import Rewards
    from components.verdict import Arm

    tally = _tally(workspace)
    did, rewards = (arms_of(tally, project), tally.rewards(project)) if tally else ({}, {})
    rows = []
    for number in selection.arms:
        arm, got = did.get(number, Arm()), rewards.get(number, Rewards())
        rows.append(
            {
                "release": number,
                "requests": arm.requests,
                "failed": arm.failed,
                "p99 ms": f"{arm.quantile(0.99) * 1e3:.3g}" if sum(arm.seconds) else "",
                "rewards": got.count,
                "mean": f"{got.total / got.count:.4f}" if got.count else "",
            }
        )
    return rows
