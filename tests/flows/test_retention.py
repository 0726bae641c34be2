"""A whole lifecycle and its rubbish: what stays serves, is found and is made again; also beside runs, and killed."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from components.artifacts import sha256
from components.mend import mend
from components.qualify import replay
from components.reconcile import reconcile
from components.records import Artifact, Release, parts
from components.release import roll_back
from components.releases import newest, release_number, releases
from components.retention import collect, look
from components.runs import RunLog
from components.serving import whole
from components.workspace import Workspace, open_workspace
from flows.execute import execute, lifecycle_of
from flows.services import down, ensure
from flows.trail import trail
from tests.conftest import write_parcels

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SOON = 60.0


@pytest.fixture
def up(small: Path) -> Iterator[Workspace]:
    """The project `small` with services of its own, and a profile that keeps one release."""
    profile = small / "config" / "profiles" / "test.yaml"
    profile.write_text(f"{profile.read_text()}retention: {{releases: 1, days: 1}}\n")
    open_workspace.cache_clear()
    workspace = open_workspace("test")
    try:
        ensure(workspace, ["mlflow", "triton"])
        yield workspace
    finally:
        down(workspace)


def run(small: Path, rows: int) -> dict[str, str]:
    """The lifecycle on so many parcels; returns what became of each node."""
    write_parcels(small / "data" / "parcels.csv", rows)
    execute(lifecycle_of("small", "test"), project="small", profile="test")
    log = RunLog(open_workspace("test"))
    return {name: state.status for name, state in log.nodes(log.header("last").id).items()}


def is_whole(workspace: Workspace, release: Release) -> None:
    """All that the release names is there, byte by byte, and makes it again."""
    assert workspace.store.has(release.commit.id)
    for part in parts(release):
        if isinstance(part, Artifact):
            assert sha256(workspace.artifacts.local(part)) == part.sha256
    assert not mend(workspace, release)
    golden = workspace.artifacts.local(release.bundle.golden)
    before = golden.read_bytes()
    golden.unlink()
    assert mend(workspace, release)
    assert golden.read_bytes() == before


def serves(workspace: Workspace, release: Release) -> None:
    """The server answers the release's golden requests as the notebook did."""
    assert reconcile(workspace, "small") == release
    golden = pq.read_table(whole(workspace, release.bundle.golden))
    replay(workspace.server, release.bundle, golden, release.qualification.tolerance)


def test_a_lifecycle(small: Path, up: Workspace) -> None:
    """Of three releases the newest serves, the one before is rolled back to, and the first is made again, digest for
    digest, from its data; a run without a change finds all it did before.
    """
    known = {}
    for number, rows in enumerate((2_000, 2_100, 2_200), start=1):
        assert set(run(small, rows).values()) == {"done"}
        known[number] = release_number(up.store, "small", number)
    before = disk(up.home)
    gone = collect(up, time.time() + SOON)
    assert not gone.unseen
    assert {"releases", "data", "ledger", "artifacts", "runs", "mlflow", "tensorboard"} <= gone.found.keys()
    assert [one.id for one in gone.found["releases"]] == ["small/1", "release/small/1"]
    assert before - disk(up.home) > 0.9 * gone.size > 0
    assert [release.number for release in releases(up.store, "small")] == [3, 2]
    assert not look(up, time.time() + SOON).found

    for number in (2, 3):
        is_whole(up, known[number])
        assert [link.what for link in trail(up, f"small/{number}")][-1] == "source"
    serves(up, known[3])
    client = MlflowClient(up.endpoint("mlflow"))
    assert [str(one.version) for one in client.search_model_versions()] == ["3", "2"]
    for number in (2, 3):
        run_id = known[number].candidate.trial.run_id
        assert client.get_run(run_id).data.metrics
        assert client.list_artifacts(run_id)
    assert {name for name, status in run(small, 2_200).items() if status == "done"} == {"observe", "champion"}

    assert roll_back(up, "small", known[2]).restores == 2
    serves(up, newest(up.store, "small"))

    run(small, 2_000)
    again = newest(up.store, "small")
    assert (again.number, again.bundle.digest) == (5, known[1].bundle.digest)
    assert again.commit.tree == known[1].commit.tree
    is_whole(up, again)
    subprocess.run(["git", "fsck", "--strict"], cwd=up.home / "data.git", check=True, capture_output=True)


def test_beside_runs(small: Path, up: Workspace) -> None:
    """Runs that go on while all goes that nothing needs and that they did not find, over and over: each ends well."""
    over, failed = threading.Event(), []
    collected, begun = [], [time.time()]

    def often() -> None:
        while not over.wait(0.2):
            try:
                collected.append(collect(up, begun[-1]).size)
            except Exception as error:  # noqa: BLE001  # whatever it is, the test fails
                failed.append(error)

    thread = threading.Thread(target=often)
    thread.start()
    digests: dict[int, str] = {}
    try:
        for rows in (2_000, 2_100, 2_000, 2_200, 2_100, 2_000):
            begun.append(time.time() - 1)
            assert not {"failed", "skipped"} & set(run(small, rows).values())
            made = RunLog(up).node(RunLog(up).ids()[0], "release")
            assert made is not None
            release = Release.model_validate(made.output)
            assert digests.setdefault(rows, release.bundle.digest) == release.bundle.digest
            is_whole(up, release)
            serves(up, newest(up.store, "small"))
    finally:
        over.set()
        thread.join()
    assert not failed
    assert sum(collected) > 0
    for release in releases(up.store, "small"):
        is_whole(up, release)


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
