"""The trail: from a release, a model version, a run or a commit back to the bytes it was learned from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components import config, scores
from components.errors import NotFoundError, TrilhaError
from components.gateway import receipts
from components.gateway.log import logged
from components.gateway.receipts import Receipt
from components.records import Release
from components.releases import release_number, releases
from components.rollouts import rollout_number
from components.runs import RunLog
from components.tables import sources_of

if TYPE_CHECKING:
    from components.ports import Revision
    from components.workspace import Workspace

MINIMUM = 6
"""Characters of an id that are enough to mean it."""


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain: what it is, its name, and what is known of it."""

    what: str
    name: str
    lines: tuple[str, ...] = ()


def trail(workspace: Workspace, name: str) -> list[Link]:
    """The chain that starts at `name`.

    Args:
        workspace: the profile to look in.
        name: `PROJECT/NUMBER`, `MODEL:VERSION`, a receipt, `last` for the last run, or at least 6 characters
            of the id of a run, an MLflow run, a bundle, a release's digest or a commit.

    Raises:
        NotFoundError: nothing has that name.
    """
    receipt = receipts.parse(name)
    if receipt is not None:
        return list(_of_prediction(workspace, receipt))
    of_night = scores.parse(name)
    if of_night is not None:
        return list(_of_scored(workspace, of_night))
    known = [release for project in config.project_names() for release in releases(workspace.store, project)]
    for release in known if name else ():  # the run of a rollback has no name
        if name in _names(release, workspace) or (len(name) >= MINIMUM and _begins(release, workspace, name)):
            return list(of_release(workspace, release))
    if name == "last" or len(name) >= MINIMUM:
        with suppress(NotFoundError):
            return list(_of_run(workspace, name))
    try:
        return list(_of_commit(workspace, name))
    except TrilhaError:
        raise NotFoundError(
            f"nothing is named {name!r}",
            accepted="PROJECT/NUMBER, MODEL:VERSION, a receipt, or the beginning of a run's, bundle's or commit's id",
            next_step="trilha releases PROJECT, trilha runs or trilha data log",
        ) from None


def _of_prediction(workspace: Workspace, receipt: Receipt) -> Iterator[Link]:
    """The chain from a prediction; nothing but the data store is asked, whatever became of the gateway."""
    release = release_number(workspace.store, receipt.project, receipt.release)
    if not release.digest.startswith(receipt.digest):
        raise NotFoundError(
            f"release {receipt.project}/{receipt.release} has the digest {release.digest[:12]}, the receipt says "
            f"{receipt.digest}",
            next_step="ask with the profile that the prediction was made in",
        )
    row = "the whole request" if receipt.row is None else f"row {receipt.row}"
    rows = [", ".join(f"{name}={value}" for name, value in one.items()) for one in logged(workspace.store, receipt)]
    yield Link("prediction", receipt.request, (f"{receipt.moment:%Y-%m-%dT%H:%M:%S.%fZ}, {row}", *rows))
    yield from of_release(workspace, release)


def _of_scored(workspace: Workspace, receipt: scores.Receipt) -> Iterator[Link]:
    """The chain from a row of a night: what was said of it, what said so, and the data that it was."""
    revision, row = scores.found(workspace.store, receipt)
    lines = tuple(f"{name}={value}" for name, value in (row or {}).items() if name != scores.RECEIPT)
    what = "the whole night" if receipt.row is None else f"row {receipt.row}"
    yield Link("prediction", receipt.night, (f"{revision.created}, {what}, commit {revision.id}", *lines))
    yield from of_release(workspace, release_number(workspace.store, receipt.project, receipt.release))
    yield from _of_commit(workspace, revision.metadata["data"], receipt.project)


def _of_night(workspace: Workspace, revision: Revision) -> Iterator[Link]:
    """The chain from a commit of predictions."""
    said = revision.metadata
    words = f"{int(said['rows']):,} rows, receipts {said['receipts']}"
    yield Link("predictions", revision.id, (f"{revision.created}  {revision.message.splitlines()[0]}", words))
    yield from of_release(workspace, release_number(workspace.store, said["project"], int(said["release"])))
    yield from _of_commit(workspace, said["data"], said["project"])


def _names(release: Release, workspace: Workspace) -> set[str]:
    names = {f"{release.project}/{release.number}", f"{release.version.name}:{release.version.version}"}
    return names | {release.bundle.model, _run_of(workspace, release)}


def _begins(release: Release, workspace: Workspace, name: str) -> bool:
    ids = (
        release.digest,
        release.bundle.digest,
        release.candidate.run_id,
        release.candidate.trial.run_id,
        release.commit.id,
        release.commit.tree,
        _run_of(workspace, release),
    )
    return any(known.startswith(name) for known in ids)


def _run_of(workspace: Workspace, release: Release) -> str:
    """The run that made the release; a rollback's key is in no ledger."""
    entry = workspace.ledger.read(release.key)
    return entry.run if entry else ""


def of_release(workspace: Workspace, release: Release) -> Iterator[Link]:
    """The chain from a release back to its sources, link by link; its last links ask the data store."""
    trial, decision, checked = release.candidate.trial, release.decision, release.qualification
    restores = (f"restores release {release.restores}",) if release.restores else ()
    yield Link(
        "release",
        f"{release.project}/{release.number}",
        (f"digest {release.digest}", f"{release.created}, code {release.revision or 'outside Git'}", *restores),
    )
    if release.rollout is not None:
        rollout = rollout_number(workspace.store, release.project, release.rollout)
        events = tuple(f"{one.moment}  {one.what}, by {one.who}: {one.why}" for one in rollout.events)
        yield Link("roll-out", f"{release.project} {rollout.number}", (rollout.told, *events))
    yield Link("run", _run_of(workspace, release) or "unknown")
    yield Link(
        "bundle",
        release.bundle.model,
        (
            f"digest {release.bundle.digest}, target {release.bundle.target}",
            f"qualified on {checked.rows} golden rows: off by {checked.difference:.1e}, p99 {checked.p99_ms:.1f} ms",
        ),
    )
    if release.online is not None:
        table = release.online
        words = f"{', '.join(table.columns)} of {table.rows} entities by {', '.join(table.entity)}"
        yield Link("features", table.digest[:12], (words,))
    yield Link("model", f"{release.version.name}:{release.version.version}", (f"digest {release.version.digest}",))
    yield Link("decision", "passed" if decision.passed else "refused", decision.reasons)
    settings = ", ".join(f"{name}={value}" for name, value in trial.parameters.values.items())
    yield Link(
        "trial", trial.run_id, (settings, f"notebook {trial.notebook.path} (SHA-256 {trial.notebook.sha256[:12]})")
    )
    rows = ", ".join(f"{name} {getattr(release.prepared, name).rows} rows" for name in ("train", "valid", "test"))
    yield Link("prepared", release.prepared.tree[:12], (rows,))
    results = release.validation.results
    held = sum(result.success for result in results)
    yield Link("validation", f"{held} of {len(results)} expectations held", (f"page {release.validation.docs.path}",))
    yield from _of_commit(workspace, release.commit.id, release.project)


def _of_run(workspace: Workspace, name: str) -> Iterator[Link]:
    log = RunLog(workspace)
    header = log.header(name)
    states = log.nodes(header.id)
    lines = tuple(f"{state.name}: {state.status}" for state in states.values())
    yield Link("run", header.id, (f"{header.dag} of {header.project} on {header.engine}, {header.started}", *lines))
    state = states.get("collect") or states.get("publish") or states.get("ingest") or states.get("adopt")
    if state is not None and state.output:
        yield from _of_commit(workspace, state.output["id"], header.project)


def _of_commit(workspace: Workspace, name: str, project: str | None = None) -> Iterator[Link]:
    """A data commit and, from its metadata or that of what it was merged from, the files it was made from."""
    revision = workspace.store.resolve(name)
    if "night" in revision.metadata:
        yield from _of_night(workspace, revision)
        return
    yield Link("commit", revision.id, (f"{revision.created}  {revision.message.splitlines()[0]}",))
    for table, files in sources_of(workspace.store, revision.id, project).items():
        for file in files:
            size = f", {file.size} bytes" if file.size else ""  # a database's rows have none, nor a digest of a file
            digest = (f"SHA-256 {file.sha256}",) if file.sha256 else ()
            yield Link("source", file.url, (f"table {table}{size}, stamp {file.stamp}", *digest))
