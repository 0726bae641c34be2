"""A roll-out goes on by itself: what every gateway process counted is put together, judged, and acted upon.

Of a selection, counts are put together likewise, and what others learned of rewards is looked up.

Each process does all of this every second. Nobody leads: a step forward, a promotion or an abort is one commit by
compare-and-swap on the record, so of several that decide the same, one does it, and the others see that it is done.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from components.errors import ConflictError, TrilhaError
from components.gateway.catalogue import LOOK
from components.gateway.routing import RolloutRouter, SelectionRouter, step_of
from components.reconcile import settled
from components.rollouts import advanced, change, ended, now
from components.verdict import Arm, Counts, judge

if TYPE_CHECKING:
    from components.gateway.catalogue import Catalogue, Entry
    from components.records import Release
    from components.rollouts import Rollout
    from components.tally import Tally
    from components.workspace import Workspace

WHO = "gateway"
SETTLE = 5.0
"""Seconds between two looks at whether promoted releases are settled."""
RETRY = 60.0
"""And after one that failed."""
SELECTION = "selection"
"""What the counts of arms are kept under."""


class Conductor:
    """Watches the roll-outs of one gateway process.

    Args:
        workspace: its data store has the records.
        catalogue: which roll-outs are under way, and the routers that count.
        tally: where processes put their counts together.
        settle: moves what derives from a promoted release; it may take a while, and raises `TrilhaError`.
    """

    def __init__(
        self, workspace: Workspace, catalogue: Catalogue, tally: Tally, settle: Callable[[str], object]
    ) -> None:
        self._workspace = workspace
        self._catalogue = catalogue
        self._tally = tally
        self._settle = settle
        self._process = uuid.uuid4().hex
        self._said = ""

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK)
            for project, entry in list(self._catalogue.projects.items()):
                if entry.rollout is not None or entry.router is not None:
                    await asyncio.to_thread(self._look, project, entry)

    def _look(self, project: str, entry: Entry) -> None:
        try:
            if entry.rollout is not None and entry.refused:
                self._end(entry.rollout, "aborted", entry.refused)
            elif isinstance(entry.router, RolloutRouter):
                self._go_on(entry.router.rollout, entry.router.counts)
            elif isinstance(entry.router, SelectionRouter):
                self._learn(project, entry.router)
        except ConflictError:
            return  # another process, or a person, was first; the next look sees it
        except TrilhaError as error:
            if str(error) != self._said:  # once, not every second
                self._said = str(error)
                _say(f"who answers for {project} stays as it is: {error}")
        except Exception:  # noqa: BLE001  # whatever it is, requests are answered, and the next look may fare better
            traceback.print_exc(file=sys.stderr)

    async def finish(self) -> None:
        """See for ever that what derives from a promoted release is moved, whoever promoted it and was killed then."""
        while True:
            await asyncio.sleep(SETTLE)
            champions = [entry.champion.release for entry in self._catalogue.projects.values() if entry.champion]
            for release in champions:
                if release.rollout is not None and not await asyncio.to_thread(self._finish, release):
                    await asyncio.sleep(RETRY)

    def _finish(self, release: Release) -> bool:
        """Whether all is moved now."""
        try:
            if not settled(self._workspace, release):
                with self._workspace.lock(f"settle-{release.project}"):
                    if not settled(self._workspace, release):  # else another process just did it
                        self._settle(release.project)
        except TrilhaError as error:
            _say(f"{release.project}/{release.number} is promoted, but {error}")
        except Exception:  # noqa: BLE001  # as above
            traceback.print_exc(file=sys.stderr)
        else:
            return True
        return False

    def _go_on(self, rollout: Rollout, mine: Counts) -> None:
        step = step_of(rollout)
        self._tally.count(rollout.project, step, self._process, msgspec.json.encode(mine))
        looks = judge(rollout.rules, counts_of(self._tally, rollout))
        worse = [look.words for look in looks if look.finding == "worse"]
        waiting = [f"{look.what}: {look.words}" for look in looks if look.finding == "open"]
        seconds = (datetime.now(UTC) - rollout.since).total_seconds()
        if worse:
            self._end(rollout, "aborted", "; ".join(worse))
        elif waiting and seconds >= rollout.rules.longest:
            self._end(rollout, "aborted", f"not shown within {rollout.rules.longest:g} s: {'; '.join(waiting)}")
        elif not waiting and seconds >= rollout.rules.seconds:
            why = "; ".join(look.words for look in looks)
            if rollout.step + 1 < len(rollout.rules.steps):
                self._write(rollout, lambda one: advanced(one, WHO, why))
            elif rollout.rules.auto:
                self._end(rollout, "promoted", why)

    def _learn(self, project: str, router: SelectionRouter) -> None:
        self._tally.count(project, SELECTION, router.name, msgspec.json.encode(router.counts))
        router.rewards = self._tally.rewards(project)

    def _end(self, rollout: Rollout, state: str, why: str) -> None:
        self._write(rollout, lambda one: ended(one, "promoted" if state == "promoted" else "aborted", WHO, why))

    def _write(self, rollout: Rollout, make: Callable[[Rollout], Rollout]) -> None:
        done = change(self._workspace.store, rollout, make)
        _say(f"{now()} {done.project}: {done.told}")


def counts_of(tally: Tally, rollout: Rollout) -> Counts:
    """What all processes counted in the step that a roll-out is in."""
    total = Counts()
    for counts in tally.counts(rollout.project, step_of(rollout)):
        total.add(msgspec.json.decode(counts, type=Counts))
    return total


def arms_of(tally: Tally, project: str) -> dict[int, Arm]:
    """What all processes counted of a project's arms, by release."""
    total: dict[int, Arm] = {}
    for counts in tally.counts(project, SELECTION):
        for release, arm in msgspec.json.decode(counts, type=dict[int, Arm]).items():
            total.setdefault(release, Arm()).add(arm)
    return total


def _say(text: str) -> None:
    """A line for `trilha logs gateway`."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # standard error is the service's log
