"""What is needed, as data: which releases stay, and every name in what is written down of them and of runs of late.

Names are read out of the text of records, of whatever kind a record is: keys, digests, ids of commits and of MLflow's
runs are all hexadecimal. So a name that occurs anywhere is needed, also where a later version of a step wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from components import config, runs, scores
from components.errors import NotFoundError, TrilhaError
from components.gateway.log import answered
from components.reconcile import tag_of
from components.releases import BRANCH, path_of, projects, releases, served
from components.rollouts import under_way
from components.runs import RunLog
from components.versions import kept

if TYPE_CHECKING:
    from components.ports import Revision
    from components.records import Release
    from components.workspace import Workspace

SHORT: Final = 12
"""Digits of a key or a digest that are enough to mean it, as in names of branches, models and folders."""
_HEX: Final = re.compile(rf"(?<![0-9a-f])[0-9a-f]{{{SHORT},64}}(?![0-9a-f])")
_FOLDER: Final = re.compile(r'"path": ?"([^"/]+)/')
"""Of an artifact: its key, whatever it looks like."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What is needed.

    Args:
        names: every name that occurs in what is needed.
        short: the first digits of each.
        manifests: the releases that stay, by project and number.
        dropped: those that nothing needs and that are more than the profile keeps, oldest first.
    """

    names: frozenset[str]
    short: frozenset[str]
    manifests: frozenset[tuple[str, int]]
    dropped: tuple[Release, ...]


def names_in(text: str) -> set[str]:
    """The names that occur in a text."""
    return {*_HEX.findall(text), *_FOLDER.findall(text), *runs.ID.findall(text)}


def reach(workspace: Workspace, before: float) -> Reach:
    """What is needed now.

    The manifests and the nights of predictions that stay; the runs that were written to since `before`, and the newest
    one of each project; the entries of the ledger that were written or found since then; and the entries of all the
    steps that these name.

    Args:
        workspace: its parts.
        before: POSIX seconds.
    """
    ledger = workspace.ledger
    used = ledger.used()
    young = {key for key, stat in used.items() if stat.changed >= before}
    staying, dropped = _releases(workspace, before, young)
    names: set[str] = set()
    for text in _texts(workspace, before, dropped):
        names |= names_in(text)
    forgotten = {release.key for release in dropped}
    read: set[str] = set()
    while new := (young | names & used.keys()) - read - forgotten:
        for key in new:
            names |= {key} | names_in(ledger.text(key))
        read |= new
    short = frozenset(name[:SHORT] for name in names)
    manifests = frozenset((release.project, release.number) for release in staying)
    return Reach(frozenset(names), short, manifests, tuple(dropped))


def _texts(workspace: Workspace, before: float, dropped: list[Release]) -> Iterator[str]:
    """What is written down of releases that stay, and of runs."""
    store = workspace.store
    if BRANCH in store.branches(BRANCH):
        head = store.resolve(BRANCH).id
        paths = {path_of(release.project, release.number) for release in dropped}
        for entry in store.ls(head):
            if entry.path not in paths:
                yield store.local(head, entry.path).read_text()
    for project in projects(store):
        for night in _nights(workspace, project):
            yield f"{night.id} {night.metadata}"
    log = RunLog(workspace)
    yield from map(log.text, _runs(log, before))


def _runs(log: RunLog, before: float) -> Iterator[str]:
    """The runs that are going on, or were of late, and the newest one of each project and DAG."""
    used, seen = log.used(), set[tuple[str, str]]()
    known = set(config.project_names())
    for run in sorted(used, reverse=True):
        with suppress(NotFoundError):  # it was killed before it had a header
            header = log.header(run)
            newest = header.project in known and (header.dag, header.project) not in seen
            seen.add((header.dag, header.project))
            if newest:
                yield run
                continue
        if used[run].changed >= before:
            yield run


def _nights(workspace: Workspace, project: str) -> Iterator[Revision]:
    """The nights of predictions that stay: each row of one has a receipt."""
    return islice(scores.nights(workspace.store, project), workspace.profile.retention.nights)


# --- releases ---------------------------------------------------------------------------------------------------------


def _releases(workspace: Workspace, before: float, young: set[str]) -> tuple[list[Release], list[Release]]:
    """The releases that stay, and those that are dropped, oldest first."""
    staying: list[Release] = []
    dropped: list[Release] = []
    store, most = workspace.store, workspace.profile.retention.releases
    for project in projects(store):
        found = list(releases(store, project))
        stay = {release.number for release in (found if most is None else found[:most])}
        if len(stay) < len(found):
            stay |= _needed(workspace, project, found, before)
        for release in reversed(found):
            (staying if release.number in stay or release.key in young else dropped).append(release)
    return staying, dropped


def _needed(workspace: Workspace, project: str, found: list[Release], before: float) -> set[int]:
    """The numbers of releases that something needs, however many there are.

    What serves and what a rollback goes to, what answers beside it or may, what was replaced a short while ago, and
    what a person has tagged or somebody has a receipt of.
    """
    store = workspace.store
    stay = set(_answering(workspace, project))
    until = before  # the newest one still stands
    for release in found:
        stay |= {release.number} if until >= before else set()
        until = datetime.fromisoformat(release.created).timestamp()
    ours = {tag_of(release) for release in found}
    tagged = {commit for name, commit in store.tags().items() if name not in ours}
    stay |= {release.number for release in found if release.commit.id in tagged}
    stay |= {int(night.metadata["release"]) for night in _nights(workspace, project)}
    return stay | answered(store, project)


def _answering(workspace: Workspace, project: str) -> Iterator[int]:
    store = workspace.store
    serving = next(served(store, project), None)
    if serving is not None:
        yield serving.number
        yield from (one.number for one in kept(store, serving))
        yield from [one.number for one in served(store, project) if one.digest != serving.digest][:1]
    rollout = under_way(store, project)
    if rollout is not None:
        yield from (rollout.running, rollout.candidate)
    try:
        selection = config.load_project(project).file.selection
        yield from selection.arms if selection else ()
    except NotFoundError:  # a project that is gone chooses between none
        return
    except TrilhaError:  # settings that nobody can read may name any of them
        yield from (release.number for release in releases(store, project))
