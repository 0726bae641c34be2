"""`trilha parity`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit, note
from flows.cli.run import ProjectArgument, UntilOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flows.parity import Observed, Parity, Seen

EnginesOption = Annotated[
    str | None, typer.Option(help="Two or more, separated by commas; default: all that this machine can run.")
]


@app.command()
def parity(
    project: ProjectArgument,
    engines: EnginesOption = None,
    until: UntilOption = None,
    profile: ProfileOption = "local",
    dag: Annotated[str, typer.Option("--dag", help="lifecycle or scoring.")] = "lifecycle",
    as_json: JsonOption = False,
) -> None:
    """Run a project on several engines in fresh stores and name every difference; exit code 1 if there is one."""
    import signal

    from flows.parity import chosen
    from flows.parity import parity as compare

    wanted, left_out = chosen(engines, profile)
    for name in ("SIGTERM", "SIGHUP"):  # what was started is stopped however this ends
        signal.signal(getattr(signal, name), signal.default_int_handler)
    found = compare(project, profile, wanted, until, note, dag)
    emit({"left_out": left_out, **_plain(found)}, _lines(found, left_out), as_json=as_json)
    if found.differences:
        raise typer.Exit(1)


def _plain(found: Parity) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(found)


def _lines(found: Parity, left_out: Mapping[str, str]) -> Iterator[str]:
    """A row a node, then a line a difference, then the sum of it."""
    engines = [one.engine for one in found.observed]
    differ = {one.node for one in found.differences}
    rows = []
    for name in dict.fromkeys(name for one in found.observed for name in one.nodes):
        cells = {one.engine: _cell(one.nodes.get(name)) for one in found.observed}
        rows.append({"step": name, **cells, "": "DIFFERS" if name in differ else "same"})
    yield columns(rows, ["step", *engines, ""])
    yield ""
    yield from (str(one) for one in found.differences)
    yield from (f"{one.engine} ended with {one.outcome}: {one.error}" for one in found.observed if one.error)
    yield from (f"left out: {engine}: {why}" for engine, why in left_out.items())
    times = ", ".join(f"{one.engine} {one.seconds:g} s" for one in found.observed)
    verdict = f"{len(found.differences)} differences" if found.differences else "no difference"
    yield f"{found.project}: {_counts(found.observed[0])}; {verdict} ({times}, services included)"


def _cell(node: Seen | None) -> str:
    if node is None:
        return "not there"
    times = f" at attempt {node.attempts}" if node.attempts > 1 else ""
    return f"{node.status}{times} {node.digest[:8]}".strip()


def _counts(one: Observed) -> str:
    """What there was to compare."""
    nodes = one.nodes.values()
    edges, skips = sum(len(node.needs) for node in nodes), sum(node.status == "skipped" for node in nodes)
    retries = sum(max(node.attempts - 1, 0) for node in nodes)
    return f"{len(nodes)} steps, {edges} edges, {skips} skipped, {retries} retries"
