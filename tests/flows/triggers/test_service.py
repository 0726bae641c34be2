"""The whole way, with every real part: a push or a commit, a hook, the service, Prefect, a worker, the published data."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from components.workspace import Workspace, open_workspace
from flows.services import down, ensure
from flows.services.logs import log_path
from flows.triggers.install import install
from flows.triggers.token import read_token, token_path
from tests.examples import commit_parcels, parcels
from tests.flows.triggers.deployed import Deployed, eventually

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect")]


@pytest.fixture
def service(watched: Deployed, small: Path) -> Iterator[Workspace]:
    """The parts of a profile whose trigger service may be started; it is stopped at the end."""
    workspace = impatient(small)
    yield workspace
    down(workspace, ["triggers"])


def impatient(repository: Path) -> Workspace:
    """The parts of profile `test` again, without a quiet time."""
    path = repository / "config" / "profiles" / "test.yaml"
    path.write_text(path.read_text().replace("services: {", "services: {triggers: {quiet: 0}, "))
    open_workspace.cache_clear()
    return open_workspace("test")


def git(*arguments: str | Path, at: Path) -> str:
    """Stock Git, of a user of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_CONFIG_NOSYSTEM"] = "1"
    who = ("-c", "user.name=A Person", "-c", "user.email=person@example.org")
    done = subprocess.run(
        ["git", *who, *map(str, arguments)], cwd=at, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def push(clone: Path, project: str, rows: int) -> str:
    """Push the parcels to `incoming` as others would; returns the commit's id."""
    folder = clone / project / "parcels"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(parcels(rows), folder / "data.parquet")
    git("add", ".", at=clone)
    git("commit", "--message", f"{rows} parcels", at=clone)
    git("push", "origin", "HEAD:incoming", at=clone)
    return git("rev-parse", "HEAD", at=clone)


def was_told(workspace: Workspace) -> bool:
    """Whether the hook reached the service, which else would look by itself some time later."""
    return "told that 'incoming' moved" in log_path(workspace.home, "triggers").read_text()


def published_rows(workspace: Workspace, project: str) -> int:
    return pq.read_metadata(workspace.store.local("main", f"{project}/parcels/data.parquet")).num_rows


@pytest.mark.long
@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="no git-lfs on PATH")
def test_a_push_is_published(
    service: Workspace, watched: Deployed, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pushed while nobody listened: found when the service starts. Pushed then: the waiting run takes that instead."""
    monkeypatch.setenv("HOME", str(small))
    assert service.store.branches() == ["main"]
    git("lfs", "install", "--skip-repo", at=small)
    git("clone", service.home / "data.git", "clone", at=small)
    first = push(small / "clone", watched.project, 400)
    assert "tells of incoming" in install(service)
    ensure(service, ["triggers"])
    assert eventually(watched.commits) == [first]
    assert not was_told(service)
    second = push(small / "clone", watched.project, 500)
    assert eventually(lambda: was_told(service))
    assert eventually(lambda: watched.commits() == [second])
    watched.work_once(small)
    [run] = watched.runs()
    assert run["state_name"] == "Completed", run["state"]["message"]
    assert {"trigger", watched.project, "test"} <= set(run["tags"])
    assert published_rows(service, watched.project) == 500
    assert service.store.resolve("incoming").id == second
    answer = httpx.post(
        f"{service.endpoint('triggers')}/projects/{watched.project}/runs",
        json={"commit": second},
        headers={"Authorization": f"Bearer {read_token(service)}"},
        trust_env=False,
    )
    assert answer.json()["run"] == run["id"]
    assert token_path(service.home).stat().st_mode & 0o777 == 0o600
    log = log_path(service.home, "triggers").read_text()
    assert run["id"] in log
    assert read_token(service) not in log
    down(service, ["triggers"])
    push(small / "clone", watched.project, 600)  # nobody listens, and the push is none the worse for it


def test_a_commit_of_our_own(service: Workspace, watched: Deployed) -> None:
    """The adapter's commits run the same hook as a push."""
    install(service)
    ensure(service, ["triggers"])
    commit = commit_parcels(service, 300, "incoming", watched.project)
    assert eventually(lambda: was_told(service))
    assert eventually(watched.commits) == [commit]
