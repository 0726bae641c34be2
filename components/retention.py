"""What nothing needs any more, over every part of a profile, and how it goes: `trilha gc`.

Order is what makes it safe to be killed, and safe beside runs. What names others goes before what it names: releases,
then branches, then the ledger's entries. From then on no run finds what is to go, and one that had found it before has
said so in the ledger, which is looked at again; then everything else goes. Killed in between, it leaves what nothing
names, and the next time takes that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from components import config
from components.artifacts import COPIES
from components.errors import TrilhaError
from components.place import Place
from components.reach import Reach, reach
from components.releases import projects
from components.sweeps import Alone, Entries, Folders, Manifests, Models, Tables, stale_tags

if TYPE_CHECKING:
    from components.ports import Leftover, Sweep
    from components.workspace import Workspace

FIRST: Final = {"releases": {"release", "tag"}, "data": {"branch"}, "ledger": {"entry"}}
"""What goes before all is looked at again: store -> kinds of leftovers."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """By store, what nothing needs, or what is gone; and the stores that could not be looked at, with the reason."""

    found: dict[str, list[Leftover]] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(leftover.size for found in self.found.values() for leftover in found)

    def add(self, store: str, leftovers: list[Leftover]) -> None:
        """More of a store."""
        if leftovers:
            self.found.setdefault(store, []).extend(leftovers)


def look(workspace: Workspace, before: float) -> Leftovers:
    """What nothing needs, and nobody used since `before` (POSIX seconds); nothing is changed.

    Raises:
        UnavailableError: the data store, or where the ledger lies, cannot be reached.
    """
    found = Leftovers()
    for store, sweep in _sweeps(workspace, reach(workspace, before), before).items():
        with _seen(store, found):
            made = sweep()
            found.add(store, made.leftovers() if made else [])
    return found


def collect(workspace: Workspace, before: float) -> Leftovers:
    """Remove what nothing needs, and nobody used since `before` (POSIX seconds); returns what is gone.

    Raises:
        ConflictError: releases were written all the time.
        UnavailableError: as `look`.
    """
    gone = Leftovers()
    with workspace.lock("gc"):
        named: dict[tuple[str, str], Leftover] = {}  # what is called by a branch that goes has no such name after it
        sweeps = _sweeps(workspace, reach(workspace, before), before)
        for store, kinds in FIRST.items():
            sweep = sweeps[store]()
            left = sweep.leftovers() if sweep else []
            named |= {(one.kind, one.id): one for one in left}
            gone.add(store, sweep.discard([one for one in left if one.kind in kinds]) if sweep else [])
        sweeps = _sweeps(workspace, reach(workspace, before), before)
        for store, make in sweeps.items():
            with _seen(store, gone):
                sweep = make()
                left = [named.get((one.kind, one.id), one) for one in sweep.leftovers()] if sweep else []
                rest = [one for one in left if one.kind not in FIRST.get(store, ())]
                gone.add(store, sweep.discard(rest) if sweep else [])
    return gone


@contextmanager
def _seen(store: str, into: Leftovers) -> Iterator[None]:
    """A store that cannot be reached keeps nobody from the others; without the data store there is no telling."""
    try:
        yield
    except TrilhaError as error:
        if store in FIRST:
            raise
        into.unseen[store] = str(error)


def _sweeps(workspace: Workspace, known: Reach, before: float) -> dict[str, Callable[[], Sweep | None]]:
    """Store -> how its sweep is made, in the order in which they are looked at."""
    alone = partial(_alone, workspace, before)
    names = {*config.project_names(), *projects(workspace.store)}
    state, home = workspace.state, str(workspace.home)

    def folders(url: str, what: str, depth: int, needed: Callable[[str], bool], alone: Alone | None = None) -> Folders:
        return Folders(Place(url), what, depth, needed, before, alone)

    def is_board(name: str) -> bool:
        return name.rpartition("/")[2] in known.short

    def is_page(name: str) -> bool:
        project, _, page = name.partition("/")
        number = page.removesuffix(".html")
        return not number.isdigit() or (project, int(number)) in known.manifests

    found: dict[str, Callable[[], Sweep | None]] = {
        "releases": lambda: Manifests(workspace, known, before),
        "data": lambda: workspace.store.sweep(known.names, before, stale_tags(workspace, known)),
        "ledger": lambda: Entries(workspace, known, before, alone),
        "scoring": lambda: folders(f"{state}/scoring", "notes of", 1, known.names.__contains__, alone),
        "artifacts": lambda: folders(f"{state}/artifacts", "artifacts", 1, known.names.__contains__, alone),
        "runs": lambda: folders(f"{state}/runs", "run", 1, known.names.__contains__),
        "mlflow": lambda: _mlflow(workspace, known, before),
        "tensorboard": lambda: folders(f"{state}/tensorboard", "board", 2, is_board),
        "triton": lambda: Models(workspace, known, names, before),
        "online": lambda: Tables(workspace, known, names),
        "pages": lambda: folders(f"{home}/pages", "page", 2, is_page),
        "containers": lambda: folders(f"{home}/kubeflow", "logs of", 1, known.names.__contains__),
        "failed": lambda: folders(f"{home}/failed", "notebook", 2, lambda _: False),
        "scratch": lambda: folders(f"{home}/scratch", "scratch", 1, lambda name: name == COPIES),
        "copies": lambda: folders(f"{home}/scratch/{COPIES}", "copy", 1, known.names.__contains__),
    }
    if "://" in state:  # then the trials of this machine have theirs here as well
        found["boards"] = lambda: folders(f"{home}/tensorboard", "board", 2, is_board)
    return found


def _mlflow(workspace: Workspace, known: Reach, before: float) -> Sweep | None:
    from components.adapters.mlflow_sweep import open_sweep

    return open_sweep(workspace, known.names, before, partial(_alone, workspace, before))


@contextmanager
def _alone(workspace: Workspace, before: float, key: str) -> Iterator[bool]:
    """Keep every run of this machine from the step of that key inside; whether none has used it since `before`."""
    with workspace.lock(key):
        used = workspace.ledger.used_at(key)
        yield used is None or used < before
