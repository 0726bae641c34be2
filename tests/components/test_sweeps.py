"""Models and tables: what is served, what is a release's and what is somebody else's stays, whatever its age."""

from __future__ import annotations

import os
import time
from pathlib import Path

from components.bundle import CONFIG, part_names
from components.reach import Reach, reach
from components.retention import collect
from components.sweeps import Models, Tables
from components.workspace import Workspace
from tests.components.test_release import is_served, released
from tests.triton import Fitted, Triton

SOON = 60.0
NOTHING = Reach(frozenset(), frozenset(), frozenset(), ())


def put(repository: Path, model: str, seconds: float = 0.0) -> None:
    """A model that nobody loads, that many seconds old."""
    folder = repository / model
    (folder / "1").mkdir(parents=True)
    (folder / CONFIG).write_text("backend: 'none'\n")
    moment = time.time() - seconds
    os.utime(folder / CONFIG, (moment, moment))


def test_models(registry: Workspace, fitted: Fitted, triton: Triton) -> None:
    """Of Triton's repository goes what a killed qualification left; the release that serves is none the worse."""
    release = released(registry, fitted, "one")
    left = "flights-0123456789ab"
    ours = [left, *part_names(left).values(), "trilha-probe-full"]
    for model in (*ours, "somebodys-model", "digits-0123456789ab"):
        put(triton.repository, model, 3_600)
    put(triton.repository, "flights-fedcba987654")
    made = Models(registry, reach(registry, 0.0), {"flights"}, time.time() - 60)
    found = made.leftovers()
    assert [one.id for one in found] == sorted(ours)
    assert all(one.size == len("backend: 'none'\n") for one in found)
    assert made.discard(found) == found
    there = {path.name for path in triton.repository.iterdir()}
    assert not there & set(ours)
    assert {"somebodys-model", "digits-0123456789ab", "flights-fedcba987654"} <= there
    everything = Models(registry, NOTHING, {"flights"}, time.time() + SOON)
    assert [one.id for one in everything.leftovers()] == ["flights-fedcba987654"]
    is_served(registry, release, fitted)


def test_all_of_it(registry: Workspace, fitted: Fitted) -> None:
    """With a real registry and a real server, a release that serves is as it was after all that is old has gone."""
    release = released(registry, fitted, "one")
    lost = registry.tracker.trial(experiment="flights", name="lost", key="a" * 64, parameters={}, tags={})
    with lost as log:
        pass
    gone = collect(registry, time.time() + SOON)
    assert [one.id for one in gone.found["mlflow"]] == [log.run_id]
    assert not gone.unseen
    is_served(registry, release, fitted)
    assert registry.tracker.pointed(name="flights", alias="champion") == release.version.version


def test_tables(workspace: Workspace) -> None:
    """A table of features that no release names goes, in bytes as many as its file has."""
    store = workspace.features
    for table in ("a" * 64, "b" * 64):
        store.write("small", table, [(b"1", b"x")])
    known = Reach(frozenset({"a" * 64}), frozenset(), frozenset(), ())
    made = Tables(workspace, known, {"small"})
    found = made.leftovers()
    assert [(one.id, one.size) for one in found] == [(f"small/{'b' * 64}", store.size("small", "b" * 64))]
    assert found[0].size > 0
    assert made.discard(found) == found
    assert store.tables("small") == {"a" * 64}
    assert store.size("small", "b" * 64) == 0
