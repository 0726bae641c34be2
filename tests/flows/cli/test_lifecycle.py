"""A user's day at the command line, with every real part: run, run again, look, ask, change, roll back, follow the trail."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.bundle import bundle_of
from components.records import Artifact
from components.tuned import Found, Knobs, TunedFile, write
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


def serving(workspace: Workspace) -> tuple[str | None, str | None]:
    """The version that the registry's alias names, and the bundle that the project's own name answers with."""
    now = Workspace(workspace.name, workspace.profile)  # a Triton that was started again is somewhere else
    (bundle,) = {bundle_of("small", part) for part in now.server.parts("small")}
    return now.tracker.pointed(name="small", alias="champion"), bundle


def of(release: dict[str, Any]) -> tuple[str, str]:
    """What `serving` yields where the release serves."""
    return release["version"]["version"], release["bundle"]["model"]


def killed_rollback(to: int) -> None:
    """`trilha rollback`, by `kill -9` between its manifest and what derives from it."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(to)], capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


KILLED = """
import os, signal, sys
import components.release
from flows.cli import main

components.release.reconcile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["trilha", "rollback", "small", "--to", sys.argv[1], "--profile", "test"]
main()
"""


@pytest.fixture
def two(served: Workspace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first release and, of more data, the second one, which serves."""
    write_parcels(Path("data/parcels.csv"), rows=6_000)
    trilha("run", "small")
    second, first = json.loads(trilha("releases", "small", "--json"))
    assert (second["number"], first["number"]) == (2, 1)
    return first, second


def test_a_better_model_is_released_and_rolled_back(
    served: Workspace, two: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """More data: a second release. Back: a third one, with the first one's contents, and the server follows."""
    first, second = two
    assert second["bundle"]["digest"] != first["bundle"]["digest"]
    assert "champion" in second["decision"]["baselines"]
    assert serving(served) == of(second)
    assert "small/2 serves as small-" in trilha("rollback", "small", "--to", "2")

    back = json.loads(trilha("rollback", "small", "--json"))
    assert (back["number"], back["restores"], back["bundle"]) == (3, 1, first["bundle"])
    assert serving(served) == of(first)
    assert first["bundle"]["model"] in trilha("predict", "small", "--row", ROW)
    again = json.loads(trilha("run", "small", "--json"))
    assert again["steps"] == {"done": 2, "found": 12}  # rolled back stays rolled back
    assert json.loads(trilha("show", "small", "--json"))["number"] == 3


@pytest.mark.long
def test_what_is_newest_serves_in_the_end(served: Workspace, two: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """A rollback that was killed, files that went: a run or the same again makes it good, or says what does."""
    first, second = two
    killed_rollback(to=1)
    assert json.loads(trilha("show", "small", "--json"))["restores"] == 1
    assert serving(served) == of(second)
    assert "small/3" in trilha("run", "small")
    assert serving(served) == of(first)

    killed_rollback(to=2)
    assert serving(served) == of(first)
    assert "small/4 serves what release 2 did" in trilha("rollback", "small")  # no second one that undoes it
    assert serving(served) == of(second)

    trilha("rollback", "small")
    shutil.rmtree(served.artifacts.local(Artifact(**first["bundle"]["golden"])).parent)
    down(served, ["triton"])
    assert "small/5" in trilha("run", "small")
    assert serving(served) == of(first)
    assert first["bundle"]["model"] in trilha("predict", "small", "--row", ROW)

    for lost in (first["bundle"]["golden"], first["candidate"]["trial"]["graphs"]["model"]):
        served.artifacts.local(Artifact(**lost)).unlink()
    error = trilha("run", "small", code=3)
    assert "the run is done, but small/5 does not serve: bundle" in error
    assert "rollback small --to NUMBER" in error
    assert trilha("rollback", "small", "--to", "1", code=3).startswith("error: bundle")
    assert "small/6 serves what release 2 did" in trilha("rollback", "small", "--to", "2")
    assert second["bundle"]["model"] in trilha("predict", "small", "--row", ROW)


@pytest.mark.long
def test_reconcile_finishes_what_was_left(served: Workspace) -> None:
    """Alias moved away, model unloaded: both come back from the manifest."""
    release = json.loads(trilha("show", "small", "--json"))
    model = release["bundle"]["model"]
    other = served.tracker.register(
        name="small", run_id=release["candidate"]["trial"]["run_id"], graphs={}, key="another", tags={}
    )
    served.tracker.point(name="small", alias="champion", version=other)
    served.server.unload(model)
    assert served.tracker.pointed(name="small", alias="champion") == other != release["version"]["version"]
    assert model not in served.server.loaded()
    assert f"small/1 serves as {model}" in trilha("reconcile", "small")
    assert serving(served) == of(release)
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


@pytest.mark.long
def test_a_release_with_settings_of_its_own(served: Workspace, small: Path) -> None:
    """What project.yaml sets and what was tuned go into the next release's manifest, by three steps and no training."""
    folder = small / "config" / "projects" / "small"
    path = folder / "project.yaml"
    settings = "triton: {model_warmup: {rows: 2}, version_policy: {latest: {num_versions: 3}}}"
    text = path.read_text().replace(
        "serve: {golden: 32, p99_ms: 500}", f"serve: {{golden: 32, p99_ms: 500, {settings}}}"
    )
    assert settings in text
    path.write_text(text)
    found = Found(
        release=1, p99_ms=500, measured_p99_ms=1, requests_per_second=1, before=1, clients=1, generator="", machine="", at=""
    )  # fmt: skip
    write(folder, TunedFile(settings=Knobs(instances=2, preferred_batch_size=8), found=found))
    told = json.loads(trilha("run", "small", "--json"))
    assert told["steps"] == {"done": 5, "found": 9}  # observe and champion look every time
    triton = told["result"]["bundle"]["triton"]
    assert triton["instance_group"] == [{"count": 2, "kind": "cpu", "gpus": [], "rate_limiter": None}]
    assert triton["dynamic_batching"]["preferred_batch_size"] == [8]
    assert triton["model_warmup"]["rows"] == 2
    assert told["result"]["number"] == 2
    assert json.loads(trilha("predict", "small", "--row", ROW, "--json"))["release"] == 2
