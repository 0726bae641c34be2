"""What of the parts of a profile nothing needs: releases, ledger entries, files by key, models, tables.

What of the data store and of MLflow nothing needs, their adapters know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from components.bundle import bundle_of
from components.errors import ConflictError
from components.place import Place, Stat
from components.ports import Leftover
from components.reach import SHORT, Reach, reach
from components.releases import BRANCH, drop, path_of

if TYPE_CHECKING:
    from components.workspace import Workspace

ATTEMPTS: Final = 5
PROBE: Final = "trilha-probe-"
"""How the names of models begin that ask a server what it can do."""

Alone = Callable[[str], AbstractContextManager[bool]]
"""Keeps others from a key inside, and tells whether it is of no use to anybody since the moment in question."""


class Manifests:
    """Releases that are more than the profile keeps, and tags of such that went before."""

    def __init__(self, workspace: Workspace, reach: Reach, before: float) -> None:
        self._workspace = workspace
        self._reach = reach
        self._before = before

    def leftovers(self) -> list[Leftover]:
        store = self._workspace.store
        sizes = {entry.path: entry.size for entry in store.ls(BRANCH)} if BRANCH in store.branches(BRANCH) else {}
        found = []
        for release in self._reach.dropped:
            name = f"{release.project}/{release.number}"
            size = sizes.get(path_of(release.project, release.number), 0)
            found.append(Leftover("release", name, f"release {name}, of {release.created[:10]}", size))
        tags = sorted(stale_tags(self._workspace, self._reach))
        return found + [Leftover("tag", name, f"tag {name}", 0) for name in tags]

    def discard(self, leftovers: Sequence[Leftover]) -> list[Leftover]:
        """The manifests go in one commit, if none was written since they were looked at; else all is looked at anew."""
        store, wanted = self._workspace.store, {one.id for one in leftovers if one.kind == "release"}
        gone: set[str] = set()
        for attempt in range(ATTEMPTS if wanted else 0):
            head = store.resolve(BRANCH).id
            now = reach(self._workspace, self._before)
            going = [one for one in now.dropped if f"{one.project}/{one.number}" in wanted]
            try:
                if going:
                    drop(store, going, head)
            except ConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                gone = {f"{one.project}/{one.number}" for one in going}
                break
        gone |= stale_tags(self._workspace, reach(self._workspace, self._before)) if leftovers else set()
        for leftover in leftovers:
            if leftover.kind == "tag" and leftover.id in gone:
                store.untag(leftover.id)
        return [one for one in leftovers if one.id in gone]


def stale_tags(workspace: Workspace, known: Reach) -> set[str]:
    """Tags that `reconcile` gave to releases which are dropped, also those whose dropping was killed half-way."""
    newest: dict[str, int] = {}
    for project, number in known.manifests:
        newest[project] = max(number, newest.get(project, 0))
    found = set()
    for tag in workspace.store.tags():
        kind, _, rest = tag.partition("/")
        project, _, last = rest.partition("/")
        if kind == "release" and last.isdigit() and int(last) < newest.get(project, 0):
            found |= set() if (project, int(last)) in known.manifests else {tag}
    return found


class Entries:
    """Ledger entries that neither were used of late nor are of what is needed."""

    def __init__(self, workspace: Workspace, reach: Reach, before: float, alone: Alone) -> None:
        self._ledger = workspace.ledger
        self._reach = reach
        self._before = before
        self._alone = alone

    def leftovers(self) -> list[Leftover]:
        return [
            Leftover("entry", key, self._name(key), stat.size)
            for key, stat in self._ledger.used().items()
            if stat.changed < self._before and key not in self._reach.names
        ]

    def discard(self, leftovers: Sequence[Leftover]) -> list[Leftover]:
        gone = []
        for leftover in leftovers:
            with self._alone(leftover.id) as alone:
                if alone and self._ledger.forget(leftover.id, self._before):
                    gone.append(leftover)
        return gone

    def _name(self, key: str) -> str:
        entry = self._ledger.read(key)
        if entry is None:
            return f"an entry that cannot be read, {key[:SHORT]}"
        return f"{entry.key.step.rpartition(':')[2]} of {entry.started[:10]}, {key[:SHORT]}"


class Folders:
    """Folders below a place that nothing needs and that nobody wrote to of late.

    Args:
        place: where they are.
        what: what one is, for people.
        depth: of them below the place: 1, or 2 where each project has a folder.
        needed: tells, by its name, whether one is needed.
        before: POSIX seconds.
        alone: keeps others from the key that is its name; none where it is called otherwise.
    """

    def __init__(
        self,
        place: Place,
        what: str,
        depth: int,
        needed: Callable[[str], bool],
        before: float,
        alone: Alone | None = None,
    ) -> None:
        self._place = place
        self._what = what
        self._depth = depth
        self._needed = needed
        self._before = before
        self._alone = alone or (lambda _: nullcontext(enter_result=True))

    def leftovers(self) -> list[Leftover]:
        found: dict[str, Stat] = {}
        for name, stat in self._place.files().items():
            folder = "/".join(name.split("/")[: self._depth])
            found[folder] = found.get(folder, Stat(0, 0.0)) + stat
        return [
            Leftover(self._what, folder, f"{self._what} {folder}", stat.size)
            for folder, stat in sorted(found.items())
            if stat.changed < self._before and not self._needed(folder)
        ]

    def discard(self, leftovers: Sequence[Leftover]) -> list[Leftover]:
        gone = []
        for leftover in leftovers:
            with self._alone(leftover.id) as alone:
                now = self._place.files(leftover.id).values()
                if alone and all(stat.changed < self._before for stat in now):
                    self._place.remove(leftover.id)
                    gone.append(leftover)
        return gone


class Models:
    """Models in Triton's repository that are Trilha's, that it does not serve, and that no release is made of."""

    def __init__(self, workspace: Workspace, reach: Reach, projects: Collection[str], before: float) -> None:
        self._workspace = workspace
        self._reach = reach
        self._projects = projects
        self._before = before

    def leftovers(self) -> list[Leftover]:
        return [Leftover("model", model, f"model {model}", stat.size) for model, stat in sorted(self._idle().items())]

    def discard(self, leftovers: Sequence[Leftover]) -> list[Leftover]:
        gone = []
        for leftover in leftovers:
            with self._workspace.lock(f"serve-{self._project(leftover.id)}"):
                if leftover.id in self._idle():
                    self._workspace.server.unload(leftover.id)
                    gone.append(leftover)
        return gone

    def _idle(self) -> dict[str, Stat]:
        """What nothing needs, is not served, and was not put there of late; a server is asked only if there is any."""
        server = self._workspace.server
        found = {
            model: stat
            for model, stat in server.stored().items()
            if stat.changed < self._before and self._is_unneeded(model)
        }
        loaded = server.loaded() if found else frozenset()
        return {model: stat for model, stat in found.items() if model not in loaded}

    def _project(self, model: str) -> str:
        return next((project for project in self._projects if bundle_of(project, model)), "")

    def _is_unneeded(self, model: str) -> bool:
        if model.startswith(PROBE):
            return True
        bundle = bundle_of(self._project(model), model)
        return bundle is not None and bundle.rpartition("-")[2] not in self._reach.short


class Tables:
    """Tables of features known by entity that belong to no release."""

    def __init__(self, workspace: Workspace, reach: Reach, projects: Collection[str]) -> None:
        self._store = workspace.features
        self._reach = reach
        self._projects = projects

    def leftovers(self) -> list[Leftover]:
        return [
            Leftover(
                "table", f"{project}/{table}", f"table {table[:SHORT]} of {project}", self._store.size(project, table)
            )
            for project in sorted(self._projects)
            for table in sorted(self._store.tables(project))
            if table not in self._reach.names
        ]

    def discard(self, leftovers: Sequence[Leftover]) -> list[Leftover]:
        for leftover in leftovers:
            self._store.drop(*leftover.id.split("/"))
        return list(leftovers)
