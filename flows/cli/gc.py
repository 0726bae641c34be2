"""`trilha gc`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit

if TYPE_CHECKING:
    from components.retention import Leftovers

NAMED = 20
"""Names of a store that are shown to people."""


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Remove what no release, champion, receipt, tag or run of late can reach; the profile says how much stays."""
    import time

    from components.retention import collect, look
    from components.workspace import open_workspace

    workspace = open_workspace(profile)
    days = workspace.profile.retention.days
    before = time.time() - days * 86_400
    ask = not (dry_run or yes or as_json) and sys.stdin.isatty()
    if dry_run or ask:
        found = look(workspace, before)
        emit(_facts(found, days), _lines(found, days, "would go"), as_json=as_json)
        if dry_run or not found.found or not typer.confirm("Remove all of this for good?"):
            return
    gone = collect(workspace, before)
    emit(_facts(gone, days), _lines(gone, days, "is gone"), as_json=as_json)


def _facts(found: Leftovers, days: int) -> dict[str, object]:
    """For machines: every leftover by name."""
    return {
        "bytes": found.size,
        "days": days,
        "stores": {
            store: [{"kind": one.kind, "name": one.name, "id": one.id, "bytes": one.size} for one in leftovers]
            for store, leftovers in found.found.items()
        },
        "unseen": found.unseen,
    }


def _lines(found: Leftovers, days: int, what: str) -> Iterator[str]:
    """For people: a table by store, and names below."""
    rows = [
        {"store": store, "count": f"{len(ones):>7,}", "bytes": f"{sum(one.size for one in ones):>15,}"}
        for store, ones in found.found.items()
    ]
    if not rows:
        yield f"nothing to remove: all that is here is needed, or was used in the last {days} days"
    else:
        yield columns(rows, ["store", "count", "bytes"])
        yield f"{found.size:,} bytes that nothing needs and nobody used in {days} days: this {what}"
    for store, ones in found.found.items():
        yield f"\n{store}"
        yield from (f"  {one.size:>15,}  {one.name}" for one in ones[:NAMED])
        if len(ones) > NAMED:
            yield f"  {'':>15}  and {len(ones) - NAMED:,} more: --json has all"
    for store, why in found.unseen.items():
        yield f"\n{store} is left as it is: {why}"
