"""`trilha tune`: the settings with the most answers within a p99."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit, note
from flows.cli.run import ProjectArgument

if TYPE_CHECKING:
    from components.tune import Tuning
    from components.tune_search import Outcome, Tried


@app.command()
def tune(
    project: ProjectArgument,
    p99: Annotated[
        str | None,
        typer.Option("--p99", help="Budget under load, such as 20ms; default: serve.p99_ms.", metavar="TIME"),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=7200, help="For the search, about.")] = 180.0,
    rows: Annotated[int, typer.Option("--rows", min=1, max=4096, help="Of a request.")] = 1,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Search instances, batch sizes and queue delay on the real server, and write the best into the next release."""
    from components import config
    from components.tune import tune as run
    from components.workspace import open_workspace
    from flows.readiness import make_ready

    config.load_project(project)
    budget = _milliseconds(p99) if p99 else config.load_project(project).file.serve.p99_ms
    workspace = open_workspace(profile)
    make_ready(workspace, ["triton"], note)
    note(f"  {'settings':<42}  {'answers/s':>9}  {'p99 ms':>7}  clients   (p99 up to {budget:g} ms)")
    found = run(workspace, project, budget, seconds, lambda one: note(_line(one, budget)), rows)
    emit(found, _closing(found, workspace.artifacts.local(found.page)), as_json=as_json)


def _milliseconds(text: str) -> float:
    from components.errors import ConfigError

    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|us)?", text.strip())
    if not found or not float(found[1]):
        raise ConfigError(f"--p99 {text!r}", accepted="a time: 20ms, 0.5s", next_step="trilha tune --help")
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2] or "ms"]


def _line(one: Tried, budget: float) -> str:
    best = one.best(budget)
    if best:
        return f"  {one.knobs!s:<42}  {best.rate:>9,.0f}  {best.p99_ms:>7.1f}  {best.clients:>7}"
    least = min((dot.p99_ms for dot in one.points), default=None)
    return f"  {one.knobs!s:<42}  {'-':>9}  {'-' if least is None else f'{least:.1f}':>7}  {one.refused or 'over'}"


def _closing(found: Tuning, page: object) -> list[str]:
    outcome: Outcome = found.outcome
    rows = []
    for one in outcome.finals:
        best = one.best(outcome.budget_ms)
        mark = ", ".join(["chosen"] * (one == found.chosen) + ["before"] * (one.knobs == outcome.before.knobs))
        rows.append(
            {
                "settings": one.knobs,
                "answers/s": f"{best.rate:,.0f}" if best else "-",
                "p99 ms": f"{best.p99_ms:.1f}" if best else "over",
                "clients": best.clients if best else "-",
                "generator us": f"{best.cost_us:.0f}" if best else "-",
                "": mark,
            }
        )
    ends = (
        [f"written to {found.file}; the next release has it: trilha run {found.project}"]
        if found.file
        else ["what the project has is the best: nothing was written"]
    )
    noise = f"what the project had gave {outcome.noise:.0%} more or less from one time to another"
    cut = ["the time was over before the search was: --seconds gives it more"] if outcome.cut else []
    return [columns(rows, list(rows[0])), "", f"load by {found.generator}; {noise}", *cut, *ends, f"page: {page}"]
