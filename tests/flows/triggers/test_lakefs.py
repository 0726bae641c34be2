"""A commit on a real lakeFS branch, by its action and the service, to the published data."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.adapters.lakefs_actions import VARIABLE
from components.workspace import Workspace, open_workspace
from flows.services import down, ensure
from flows.services.logs import log_path
from flows.triggers.install import install
from flows.triggers.token import make_token, read_token
from tests.examples import parcels
from tests.flows.triggers.deployed import Deployed, eventually
from tests.lakefs_server import Server, on_server, sdk, started

pytestmark = [
    pytest.mark.long,
    pytest.mark.lakefs,
    pytest.mark.xdist_group("prefect"),
    pytest.mark.skipif(shutil.which("lakefs") is None, reason="no lakefs on PATH"),
]

TOLD = "told that 'incoming' moved"


@pytest.fixture
def on_lakefs(watched: Deployed, small: Path, prefect_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The parts of profile `test` on a lakeFS server that knows the trigger service's token."""
    home = small / "lakefs"
    home.mkdir()
    make_token(open_workspace("test").home)
    with started(home, {VARIABLE: read_token(open_workspace("test"))}) as server:
        for name, value in server.credentials.items():
            monkeypatch.setenv(name, value)
        workspace = on_own_server(small, server, prefect_url)
        ensure(workspace, ["triggers"])
        try:
            yield workspace
        finally:
            down(workspace, ["triggers"])


def on_own_server(repository: Path, server: Server, prefect: str) -> Workspace:
    name = f"triggers-{os.getpid()}-{time.time_ns():x}"
    on_server(repository, server.url, name, f"{server.namespace}{name}")
    path = repository / "config" / "profiles" / "test.yaml"
    path.write_text(path.read_text() + f"services: {{triggers: {{quiet: 0}}, prefect: {{url: '{prefect}'}}}}\n")
    open_workspace.cache_clear()
    return open_workspace("test")


def test_a_commit_is_published(on_lakefs: Workspace, watched: Deployed, small: Path) -> None:
    """What others commit with lakeFS' own client starts one run, whose data is published; `install` alone starts none."""
    for _ in range(2):
        assert VARIABLE in install(on_lakefs)
    incoming = sdk(on_lakefs).branch("incoming")
    assert len(list(incoming.log())) == len(list(on_lakefs.store.log("main")))
    content = io.BytesIO()
    pq.write_table(parcels(700), content)
    incoming.object(f"{watched.project}/parcels/part-0.parquet").upload(content.getvalue())
    assert watched.runs() == []
    before = log_path(on_lakefs.home, "triggers").read_text().count(TOLD)
    commit = incoming.commit("New parcels").get_commit().id
    assert eventually(lambda: log_path(on_lakefs.home, "triggers").read_text().count(TOLD) > before)
    assert eventually(watched.commits) == [commit]
    watched.work_once(small)
    [run] = watched.runs()
    assert run["state_name"] == "Completed", run["state"]["message"]
    [entry] = on_lakefs.store.ls("main", watched.project)
    assert on_lakefs.store.local("main", entry.path).read_bytes() == content.getvalue()
