"""`trilha recommend`: what the newest night says of one household, or of whatever a project ranks by."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit
from flows.cli.run import ProjectArgument


@app.command()
def recommend(
    project: ProjectArgument,
    key: Annotated[str, typer.Argument(help="Whose best: a household, say; what is not known gets what most want.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many.")] = 10,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show the best of a key by the newest night; the gateway answers the same over HTTP."""
    import msgspec

    from components.recommend import recommend as ask
    from components.workspace import open_workspace

    found = ask(open_workspace(profile), project, key, count)
    rows = [{"item": one.item, "score": f"{one.score:.4f}", "receipt": one.receipt} for one in found.items]
    words = f"(of {key})" if found.known else f"(nothing is known of {key!r}: what is expected most on the whole)"
    emit(msgspec.to_builtins(found), [columns(rows, ["item", "score", "receipt"]), words], as_json=as_json)
