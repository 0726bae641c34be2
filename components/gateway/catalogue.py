"""Which releases answer: read from the manifests, brought up on Triton, exchanged in one step, healed when it was away.

A request picks a `Door` once and keeps it, so that what it is checked against, what answers, and what its receipt names
are one release. The door before stays good until the new one answers.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from components import config
from components.bundle import answering
from components.errors import TrilhaError, UnavailableError
from components.gateway.problems import RETRY_SECONDS, Problem
from components.gateway.receipts import prefix_of
from components.gateway.routing import Router, Routers
from components.gateway.signature import Signature
from components.online_settings import Online
from components.releases import BRANCH, release_number, releases, served
from components.rollouts import Rollout, under_way
from components.selection_settings import Selection
from components.serving import stand_by
from components.versions import kept

if TYPE_CHECKING:
    from components.adapters.triton_http import TritonHttp
    from components.records import Release
    from components.workspace import Workspace

LOOK: Final = 1.0
"""Seconds between two looks at the manifests and at Triton."""
KEPT: Final = 8
"""Releases of a project that can be asked by number, where Triton holds them, and those of its version policy."""
LABELS: Final = ("champion", "previous")


class Door:
    """One release that answers. Made once a release, read by every request.

    `model` is its bundle's name, `asked` that of the model in it which is asked.
    """

    __slots__ = ("asked", "model", "number", "path", "prefix", "project", "release", "signature")

    def __init__(self, release: Release) -> None:
        self.release = release
        self.project = release.project
        self.number = release.number
        self.model = release.bundle.model
        self.asked = answering(release.bundle)
        self.path = f"/v2/models/{self.asked}/infer"
        self.prefix = prefix_of(release)
        self.signature = Signature(release)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a project. `doors` are the releases that Triton holds, by number; `trouble` is what is amiss.

    `router` chooses between releases where several may answer. `rollout` is the one under way, `refused` why its
    candidate cannot take part. `selection` is what project.yaml says of releases side by side, and `arms` are those.
    """

    online: Online = field(default_factory=Online)
    champion: Door | None = None
    previous: Door | None = None
    doors: dict[int, Door] = field(default_factory=dict)
    trouble: str = ""
    router: Router | None = None
    rollout: Rollout | None = None
    refused: str = ""
    selection: Selection | None = None
    arms: dict[int, Door] = field(default_factory=dict)


class Catalogue:
    """The projects behind the gateway.

    Args:
        workspace: the profile's parts.
        triton: for a look at its health.
        projects: those to serve; all of them where none is named.
        revive: starts Triton again where it is ours to start; it may take a while.
    """

    def __init__(
        self, workspace: Workspace, triton: TritonHttp, projects: Sequence[str], revive: Callable[[], object]
    ) -> None:
        self._workspace = workspace
        self._triton = triton
        self._named = tuple(projects)
        self._revive = revive
        self._entries: dict[str, Entry] = {}
        self._made: dict[tuple[str, int, str], Door] = {}
        self._routers = Routers(_say)
        self._head = ""
        self._stamps: tuple[int, ...] = ()
        self._away = True  # nobody has looked yet
        self._one_at_a_time = asyncio.Lock()
        self._healing: asyncio.Task[None] | None = None

    # --- what requests ask --------------------------------------------------------------------------------------------

    @property
    def projects(self) -> dict[str, Entry]:
        return self._entries

    @property
    def ready(self) -> bool:
        """Whether every project that has a release is answered for."""
        served = [entry for entry in self._entries.values() if entry.champion or entry.trouble]
        return not self._away and bool(served) and all(entry.champion for entry in served)

    def entry(self, project: str) -> Entry:
        """A project.

        Raises:
            Problem: 404.
        """
        found = self._entries.get(project)
        if found is None:
            raise Problem(404, f"no project {project!r}", field="project", accepted=", ".join(sorted(self._entries)))
        return found

    def door(self, project: str, version: str = "", label: str = "") -> Door:
        """The release that answers; the champion where neither a version nor a label is given.

        Raises:
            Problem: 404 for what does not exist, 503 for what is not up yet.
        """
        entry = self.entry(project)
        if version:
            found = entry.doors.get(int(version)) if version.isdecimal() and len(version) < 10 else None
            if found is None:
                known = ", ".join(map(str, sorted(entry.doors))) or "none just now"
                raise Problem(404, f"release {version} of {project} does not answer", field="version", accepted=known)
            return found
        if label not in {"", *LABELS}:
            raise Problem(404, f"no label {label!r}", field="label", accepted=", ".join(LABELS))
        found = entry.previous if label == "previous" else entry.champion
        if found is not None:
            return found
        if entry.trouble:
            raise Problem(503, f"{project} is not up: {entry.trouble}", retry_after=RETRY_SECONDS)
        if label == "previous":
            raise Problem(404, f"{project} has no release before the one that answers", field="label")
        raise Problem(404, f"project {project!r} has no release yet", field="project")

    # --- what goes on beside ------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK)
            await self.look()

    async def look(self, *, anyway: bool = False) -> None:
        """Find a new release, or a Triton that is gone, and make it good.

        Args:
            anyway: ask Triton for every model, also where nothing seems to have changed.
        """
        async with self._one_at_a_time:
            up = await self._triton.is_ready(LOOK * 2)
            try:
                await asyncio.to_thread(self._look, up=up, anyway=anyway)
            except TrilhaError as error:
                _say(f"the releases cannot be read: {error}")

    async def heal(self) -> None:
        """Return when every model was looked after: called by a request whose model was not there."""
        await asyncio.shield(self.heal_soon())

    def heal_soon(self) -> asyncio.Task[None]:
        """Have every model looked after, once for all who ask at the same time."""
        if self._healing is None or self._healing.done():
            self._healing = asyncio.create_task(self.look(anyway=True))
        return self._healing

    def _look(self, *, up: bool, anyway: bool) -> None:
        if not up:
            self._away = True
            try:
                self._revive()
            except TrilhaError as error:
                _say(f"Triton cannot be started: {error}")
        store = self._workspace.store
        head = store.resolve(BRANCH).id if BRANCH in store.branches(BRANCH) else ""
        names = self._named or config.project_names()
        stamps = tuple(map(_stamp, names))
        if (head, stamps) == (self._head, self._stamps) and self._entries and not (anyway or self._away):
            return
        away = False
        for name in names:
            try:
                entry, gone = self._entry(name)
            except Exception as error:  # noqa: BLE001  # what is wrong with one project is no other's trouble
                traceback.print_exc(file=sys.stderr)
                entry, gone = replace(self._entries.get(name, Entry()), trouble=type(error).__name__), False
            self._entries = {**self._entries, name: entry}
            away = away or gone
        self._away, self._head, self._stamps = away, head, stamps

    def _entry(self, project: str) -> tuple[Entry, bool]:
        """What is so of a project now, and whether Triton is away; it is told of the release that serves first."""
        before = self._entries.get(project, Entry())
        try:
            file = config.load_project(project).file
        except TrilhaError as error:  # somebody is just writing there: what answers goes on as it was
            return replace(before, trouble=str(error)), False
        online = file.online
        store = self._workspace.store
        serving = next(served(store, project), None)
        if serving is None:
            return Entry(online), False
        try:
            stand_by(self._workspace, serving.bundle, project)
            rollout, refused = self._rollout(project)
            arms, trouble = self._arms(project, file.selection)
            loaded = self._workspace.server.loaded()
        except TrilhaError as error:
            if str(error) != before.trouble:
                _say(f"{project}/{serving.number}: {error}")
            if isinstance(error, UnavailableError):
                return Entry(online, trouble=str(error), selection=file.selection, arms=before.arms), True
            # Triton refuses the new bundle: the one before goes on, until there is another release.
            return replace(before, online=online, trouble=str(error)), False
        if trouble and trouble != before.trouble:
            _say(f"{project}: {trouble}")
        newest = islice(releases(store, project), KEPT)
        known = {release.number: release for release in (*newest, *kept(store, serving), serving, *arms)}
        doors = {number: self._door(one) for number, one in known.items() if one.bundle.model in loaded}
        champion = doors[serving.number]
        if before.champion is not champion:
            _say(f"{project}/{champion.number} answers ({champion.model})")
        others = [doors[number] for number in sorted(doors, reverse=True) if number < champion.number]
        previous = next((door for door in others if door.model != champion.model), None)
        router = self._routers.of(rollout, file.selection, champion, doors)
        sides = {arm.number: self._door(arm) for arm in arms}
        return Entry(online, champion, previous, doors, trouble, router, rollout, refused, file.selection, sides), False

    def _rollout(self, project: str) -> tuple[Rollout | None, str]:
        """The roll-out under way, whose candidate Triton holds now, or why it does not."""
        rollout = under_way(self._workspace.store, project)
        if rollout is None:
            return None, ""
        candidate = release_number(self._workspace.store, project, rollout.candidate)
        try:
            stand_by(self._workspace, candidate.bundle, project)
        except UnavailableError:
            raise
        except TrilhaError as error:
            return rollout, f"the candidate cannot be served: {error.problem}"
        return rollout, ""

    def _arms(self, project: str, selection: Selection | None) -> tuple[list[Release], str]:
        """The releases of a selection, which Triton holds now, and what is amiss with others."""
        arms, troubles = [], []
        for number in selection.arms if selection else ():
            try:
                arm = release_number(self._workspace.store, project, number)
                stand_by(self._workspace, arm.bundle, project)
            except UnavailableError:
                raise
            except TrilhaError as error:
                troubles.append(f"arm {number} does not take part: {error.problem}")
            else:
                arms.append(arm)
        return arms, "; ".join(troubles)

    def _door(self, release: Release) -> Door:
        key = (release.project, release.number, release.digest)
        if key not in self._made:
            self._made[key] = Door(release)
        return self._made[key]


def _stamp(project: str) -> int:
    """When somebody last wrote a project's settings."""
    try:
        return (config.root() / "config" / "projects" / project / "project.yaml").stat().st_mtime_ns
    except OSError:
        return 0


def _say(text: str) -> None:
    """A line for `trilha logs gateway`."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # standard error is the service's log
