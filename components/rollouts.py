"""The records of a project's roll-outs, on the branch of the releases: one JSON object each, one commit a change.

    small/000004.json             the release that is the candidate, `rollout: 2`
    small/rollouts/000002.json    the roll-out: from release 3 to release 4, its step, its state, who did what and why

A candidate's manifest and its roll-out are written in one commit, so nobody ever takes it for the release that serves.
Every change is made by compare-and-swap on the branch's head: of several gateways that decide the same, one does it,
and all of them, also one that was restarted, see the same state.
"""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from components.errors import ConflictError, NotFoundError
from components.ports import DataStore
from components.records import Record, digest
from components.rollout_settings import RolloutRules

BRANCH: Final = "releases"
ATTEMPTS: Final = 5

State = Literal["running", "promoted", "aborted"]


class Event(Record):
    """One change: when (UTC, ISO 8601), by whom, what, and why."""

    moment: str
    who: str
    what: str
    why: str


class Rollout(Record):
    """From the release `running` to the release `candidate`. `step` counts the shares of `rules` from 0."""

    project: str
    number: int
    running: int
    candidate: int
    rules: RolloutRules
    step: int = 0
    state: State = "running"
    events: tuple[Event, ...] = ()

    @property
    def share(self) -> float:
        """Of the requests, in this step."""
        return self.rules.steps[self.step]

    @property
    def since(self) -> datetime:
        """When this step began, or the roll-out ended."""
        return datetime.fromisoformat(self.events[-1].moment)

    @property
    def told(self) -> str:
        """In a line."""
        how = f"{self.rules.how}, release {self.running} to {self.candidate}"
        if self.state == "running":
            return f"{how}: {self.share:.0%}, step {self.step + 1} of {len(self.rules.steps)}"
        return f"{how}: {self.state}, {self.events[-1].why}"


def rollouts(store: DataStore, project: str) -> Iterator[Rollout]:
    """The roll-outs of `project`, newest first."""
    if BRANCH not in store.branches(BRANCH):
        return
    head = store.resolve(BRANCH).id
    for entry in reversed(store.ls(head, f"{project}/rollouts")):
        yield Rollout.model_validate_json(store.local(head, entry.path).read_bytes())


def under_way(store: DataStore, project: str) -> Rollout | None:
    """The roll-out that is going on."""
    newest = next(rollouts(store, project), None)
    return newest if newest is not None and newest.state == "running" else None


def rollout_number(store: DataStore, project: str, number: int) -> Rollout:
    """The roll-out with that number.

    Raises:
        NotFoundError: there is none.
    """
    for rollout in rollouts(store, project):
        if rollout.number == number:
            return rollout
    raise NotFoundError(f"project {project!r} has no roll-out {number}")


def begun(project: str, number: int, running: int, candidate: int, rules: RolloutRules, who: str, why: str) -> Rollout:
    """A roll-out that begins now; it is not written yet."""
    event = Event(moment=now(), who=who, what=f"started at {rules.steps[0]:.0%}", why=why)
    return Rollout(
        project=project, number=number, running=running, candidate=candidate, rules=rules, events=(event,)
    )  # fmt: skip


def ended(rollout: Rollout, state: State, who: str, why: str) -> Rollout:
    """The roll-out, ended; it is not written yet."""
    event = Event(moment=now(), who=who, what=state, why=why)
    return rollout.model_copy(update={"state": state, "events": (*rollout.events, event)})


def advanced(rollout: Rollout, who: str, why: str) -> Rollout:
    """The roll-out in its next step; it is not written yet."""
    step = rollout.step + 1
    event = Event(moment=now(), who=who, what=f"went on to {rollout.rules.steps[step]:.0%}", why=why)
    return rollout.model_copy(update={"step": step, "events": (*rollout.events, event)})


def change(store: DataStore, seen: Rollout, make: Callable[[Rollout], Rollout]) -> Rollout:
    """Write what `make` makes of a roll-out, if it is as it was `seen`.

    Raises:
        ConflictError: it went on, or ended, in between.
    """
    for attempt in range(ATTEMPTS):
        head = store.resolve(BRANCH).id
        found = rollout_number(store, seen.project, seen.number)
        if len(found.events) != len(seen.events):
            raise ConflictError(
                f"roll-out {seen.project}/{seen.number} is another one by now: {found.told}",
                next_step=f"trilha rollout status {seen.project}",
            )
        made = make(found)
        event = made.events[-1]
        try:
            with files_of({path_of(made): made}) as puts:
                store.commit(
                    BRANCH, puts,
                    message=f"Roll-out {made.project} {made.number} {event.what}: {event.why}",
                    metadata={"project": made.project, "rollout": str(made.number), "who": event.who},
                    key=digest({"rollout": made.project, "number": made.number, "event": len(made.events)}),
                    expected=head,
                )  # fmt: skip
        except ConflictError:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return rollout_number(store, made.project, made.number)
    raise AssertionError  # the last round returns or raises


def path_of(rollout: Rollout) -> str:
    """Where its record is on the branch."""
    return f"{rollout.project}/rollouts/{rollout.number:06}.json"


@contextmanager
def files_of(records: Mapping[str, Record]) -> Iterator[dict[str, Path]]:
    """Records as files to commit, by their paths in the store."""
    with tempfile.TemporaryDirectory() as folder:
        puts = {}
        for number, (path, record) in enumerate(records.items()):
            puts[path] = Path(folder) / str(number)
            puts[path].write_text(record.model_dump_json(indent=1))
        yield puts


def whoami() -> str:
    """Who asks, for the records."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "somebody"


def now() -> str:
    """The moment, as records have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
