"""A user's day at the command line, with every real part: run, run again, look, ask, change, roll back, follow the trail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.workspace import Workspace, open_workspace
from flows.services import down
from tests.conftest import write_parcels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def trilha(*arguments: str, code: int = 0) -> str:
    """Run the command in this repository's profile `test`; returns its standard output."""
    command = [str(Path(sys.executable).with_name("trilha")), *arguments, "--profile", "test"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def served(small: Path) -> Iterator[Workspace]:
    """The project `small`, released once."""
    workspace = open_workspace("test")
    try:
        trilha("run", "small", "--json")
        yield workspace
    finally:
        down(workspace)


ROW = '{"city": "north", "distance": 800.0, "weight": 2.5}'


def test_a_users_day(served: Workspace) -> None:
    """Each command says what a person needs next, and machines get the same as JSON."""
    again = json.loads(trilha("run", "small", "--json"))
    assert again["steps"] == {"done": 2, "found": 12}  # observe and champion look every time
    assert "nothing in its key changed" in trilha("why", "last", "train-00")
    assert {row["action"] for row in json.loads(trilha("plan", "small", "--json"))} == {"look", "found"}

    first = json.loads(trilha("show", "small", "--json"))
    assert (first["number"], first["decision"]["passed"]) == (1, True)
    shown = trilha("show", "small")
    assert Path(shown.split("file://")[1].strip()).is_file()

    answer = json.loads(trilha("predict", "small", "--row", ROW, "--json"))
    assert 0.5 < answer["answers"][0]["probability"] < 1
    assert "did you mean 'distance'" in trilha("predict", "small", "--row", ROW.replace("distance", "distanc"), code=2)

    chain = trilha("trail", "small/1")
    positions = [
        chain.index(word) for word in ("release", "bundle", "model", "trial", "validation", "commit", "source")
    ]
    assert positions == sorted(positions)
    assert "data/parcels.csv" in chain
    for name in (
        "small:1",
        first["commit"]["id"][:10],
        first["candidate"]["trial"]["run_id"],
        first["bundle"]["digest"][:8],
    ):
        assert "data/parcels.csv" in trilha("trail", name)
    assert "nothing is named 'nowhere'" in trilha("trail", "nowhere", code=3)


def test_a_better_model_is_released_and_rolled_back(served: Workspace) -> None:
    """More data: a second release. Back: a third one, with the first one's contents, and the server follows."""
    write_parcels(Path("data/parcels.csv"), rows=6_000)
    trilha("run", "small")
    newest, first = json.loads(trilha("releases", "small", "--json"))
    assert (newest["number"], first["number"]) == (2, 1)
    assert newest["bundle"]["digest"] != first["bundle"]["digest"]
    assert "champion" in newest["decision"]["baselines"]
    assert "trilha releases small" in trilha("rollback", "small", "--to", "2", code=3)

    back = json.loads(trilha("rollback", "small", "--json"))
    assert (back["number"], back["restores"], back["bundle"]) == (3, 1, first["bundle"])
    assert served.tracker.pointed(name="small", alias="champion") == first["version"]["version"]
    assert first["bundle"]["model"] in trilha("predict", "small", "--row", ROW)
    again = json.loads(trilha("run", "small", "--json"))
    assert again["steps"] == {"done": 2, "found": 12}  # rolled back stays rolled back
    assert json.loads(trilha("show", "small", "--json"))["number"] == 3


def test_reconcile_finishes_what_was_left(served: Workspace) -> None:
    """Alias moved away, model unloaded: both come back from the manifest."""
    model = json.loads(trilha("show", "small", "--json"))["bundle"]["model"]
    served.server.unload(model)
    trilha("reconcile", "small")
    assert model in served.server.loaded()
    down(served, ["triton"])
    trilha("up", "triton")
    assert model in trilha("predict", "small", "--row", ROW)


def test_bad_data_stops_before_anybody_sees_it(served: Workspace) -> None:
    """A duplicate key: the run ends at the gate, says what to look at, and `main` stays where it was."""
    before = served.store.resolve("main").id
    text = Path("data/parcels.csv").read_text()
    Path("data/parcels.csv").write_text(text + text.splitlines()[1] + "\n")
    error = trilha("run", "small", code=5)
    assert "id" in error
    assert "parcels" in error
    assert served.store.resolve("main").id == before
    assert json.loads(trilha("show", "small", "--json"))["number"] == 1
    assert [branch for branch in served.store.branches() if branch.startswith("ingest/small/")]
