"""tune: find the settings with which a project's newest model gives the most answers within a p99, on the real server.

Every candidate is a bundle of its own, made of the release's graphs as the next release would be, loaded beside what
serves, asked by many clients at once over HTTP, and taken down again. Answers are not checked here: what is found goes
through `qualify` with the next release.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from components import config
from components.errors import GateError
from components.records import Artifact, Record, digest
from components.releases import newest
from components.tune_search import Ask, Outcome, Point, Refused, Tried, search
from components.tuned import Found, Knobs, TunedFile, completed, fixed, knobs_of, write

if TYPE_CHECKING:
    import pyarrow as pa

    from components.project import Serve
    from components.records import Release
    from components.serve_settings import Triton
    from components.workspace import Workspace

POINT_SECONDS: Final = 2.0
"""One number of clients is measured so long."""
QUESTIONS: Final = 64
"""Requests that are asked in turn: each begins at another golden row."""


class Tuning(Record):
    """What came of it."""

    project: str
    release: int
    generator: str
    outcome: Outcome
    chosen: Tried
    file: str | None
    """Where the settings were written to; none where those of before are the best."""
    picture: Artifact
    page: Artifact


def tune(
    workspace: Workspace,
    project: str,
    budget_ms: float | None = None,
    seconds: float = 180.0,
    say: Callable[[Tried], object] = lambda _: None,
    rows: int = 1,
    point_seconds: float = POINT_SECONDS,
) -> Tuning:
    """Search, draw, and write `serve.tuned.yaml`.

    Args:
        workspace: the profile's parts; its server is the one that is loaded.
        project: its name; the model is that of its newest release.
        budget_ms: of the p99 under load; default: the project's `serve.p99_ms`.
        seconds: for the search, about.
        say: is told of everything that was tried.
        rows: of a request.
        point_seconds: for each number of clients.

    Raises:
        GateError: no settings hold the budget (the best that was seen is in the message), or the project's requests
            are not of a kind that can be asked by itself; nothing is written.
        NotFoundError: the project has no release.
        UnavailableError: the server does not answer.
    """
    from components.adapters.triton_load import generator
    from components.mend import mend
    from components.tune_page import About, draw

    file = config.load_project(project).file
    release = newest(workspace.store, project)
    mend(workspace, release)
    own = config.own_settings(project)
    serve = file.serve
    budget = budget_ms or serve.p99_ms
    bench = _bench(workspace, release, serve.model_copy(update={"triton": own}), rows, point_seconds)
    _check_askable(own)
    with workspace.lock(f"tune-{project}"), bench as in_force:
        outcome = search(in_force, knobs_of(serve.triton), fixed(own), budget, seconds, say)
    chosen = outcome.finals[0]
    made = generator()
    _check_held(outcome)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    key = digest({"tune": project, "release": release.digest, "at": at})
    with workspace.artifacts.folder(key) as folder:
        draw(folder, About(project=project, release=release.number, rows=rows, generator=made), outcome)
        files = workspace.artifacts.publish(key, folder)
    path = None
    if chosen.knobs != outcome.before.knobs:
        path = write(config.project_folder(project), _file(release, outcome, rows, made, at))
    return Tuning(
        project=project,
        release=release.number,
        generator=made,
        outcome=outcome,
        chosen=chosen,
        file=str(path) if path else None,
        picture=files["tune.svg"],
        page=files["tune.html"],
    )


def _check_askable(own: Triton) -> None:
    for name, set_so in (("sequence_batching", own.sequence_batching), ("model_transaction_policy", own.decoupled)):
        if set_so:
            raise GateError(
                f"serve.triton.{name}: the load is single requests with one answer each",
                accepted="a project without sequences and several answers",
                next_step="set instance_group by hand, and measure with clients of your own",
            )


def _check_held(outcome: Outcome) -> None:
    everything = [*outcome.finals, *outcome.tried]
    if outcome.finals[0].best(outcome.budget_ms):
        return
    seen = [(point.p99_ms, one.knobs, point) for one in everything for point in one.points if not point.failed]
    if not seen:
        refused = next((one.refused for one in everything if one.refused), "requests failed under every load")
        raise GateError(f"nothing could be measured: {refused}", next_step="trilha logs triton")
    p99, knobs, point = min(seen, key=lambda one: one[0])
    raise GateError(
        f"no settings hold a p99 of {outcome.budget_ms:g} ms: the best of {len(outcome.tried)} is {p99:.1f} ms "
        f"({knobs}; {point.clients} client{'s' if point.clients > 1 else ''}, {point.rate:,.0f} requests/s)",
        accepted=f"a budget above {p99:.1f} ms",
        next_step="a larger --p99, a smaller model, or serve.join: fused; nothing was written",
    )


def _file(release: Release, outcome: Outcome, rows: int, made: str, at: str) -> TunedFile:
    chosen = outcome.finals[0]
    best = chosen.best(outcome.budget_ms)
    assert best is not None
    return TunedFile(
        settings=chosen.knobs,
        found=Found(
            release=release.number,
            rows=rows,
            p99_ms=outcome.budget_ms,
            measured_p99_ms=round(best.p99_ms, 3),
            requests_per_second=round(best.rate, 1),
            before=round(outcome.before.rate(outcome.budget_ms), 1),
            clients=best.clients,
            generator=made,
            machine=f"{platform.machine()}, {os.cpu_count()} CPUs where the load came from",
            at=at,
        ),
    )


@contextmanager
def _bench(
    workspace: Workspace, release: Release, serve: Serve, rows: int, point_seconds: float
) -> Iterator[Callable[[Knobs], Any]]:
    """Where candidates are put into force: one at a time, on the profile's server, beside what serves."""
    import numpy as np
    import pyarrow.parquet as pq

    from components.adapters.triton_http import http_address
    from components.adapters.triton_load import load, question
    from components.export import assembled, opened
    from components.golden import features_of
    from components.model_inputs import to_tensors

    golden: pa.Table = pq.read_table(workspace.artifacts.local(release.bundle.golden))
    inputs = to_tensors(golden, features_of(golden, release.bundle.task))
    places = (np.arange(first, first + rows) % golden.num_rows for first in range(min(QUESTIONS, golden.num_rows)))
    questions = [question({name: array[chosen] for name, array in inputs.items()}) for chosen in places]
    server, address = workspace.server, http_address(workspace)
    plain = serve.model_copy(update={"triton": serve.triton.model_copy(update={"response_cache": None})})

    with opened(workspace, release.candidate.trial, release.prepared, serve) as (paths, graphs):

        @contextmanager
        def in_force(knobs: Knobs) -> Iterator[Ask]:
            wanted = plain.model_copy(update={"triton": completed(plain.triton, knobs)})
            model, _, files = assembled(release.project, wanted, paths, graphs, inputs)
            with _up(workspace, model, files):
                server.infer(model, {name: array[:1] for name, array in inputs.items()})

                def ask(clients: int) -> Point:
                    loaded = load(address, model, questions, clients, point_seconds)
                    return Point(
                        clients=clients,
                        rate=loaded.answers / loaded.seconds,
                        p50_ms=loaded.p50_ms,
                        p99_ms=loaded.p99_ms,
                        failed=loaded.failed,
                        cost_us=loaded.cpu / (loaded.answers + loaded.failed) * 1e6,
                    )

                yield ask

        yield in_force


@contextmanager
def _up(workspace: Workspace, model: str, files: dict[str, Path | str | bytes]) -> Iterator[None]:
    """Have the server answer for a candidate while inside; one that is there already stays."""
    from components.serving import take_down

    server = workspace.server
    if model in server.loaded():
        yield
        return
    models: dict[str, dict[str, Path | str | bytes]] = {}
    for path, content in files.items():
        name, inside = path.split("/", 1)
        models.setdefault(name, {})[inside] = content
    server.publish(models)
    try:
        server.load(model)
    except GateError as error:
        take_down(server, model)
        raise Refused(error.problem) from error
    try:
        yield
    finally:
        take_down(server, model)
