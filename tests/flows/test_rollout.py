"""Gateways as processes of their own: they share a roll-out's state, and one that is killed takes nothing with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from components.records import Release
from components.releases import newest
from components.rollout_settings import RolloutRules
from components.serving import serve
from components.tally import open_tally
from components.workspace import Workspace
from tests.components.gateway.conftest import PROJECT, until
from tests.components.gateway.test_rollout import QUICK, Load, is_so, last
from tests.conftest import place_small
from tests.triton import Fitted, fit, free_ports, release_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gateway")]

Process = tuple[subprocess.Popen[bytes], httpx.URL]


@pytest.fixture
def behind(served: Workspace, repository: Path, fitted: Fitted) -> Release:
    """A release of the project `small`, on the real Triton of the profile, which needs no server for MLflow."""
    path = repository / "config" / "profiles" / "test.yaml"
    registry = f"services: {{mlflow: {{url: 'sqlite:///{repository}/mlflow.db'}}, "
    path.write_text(path.read_text().replace("services: {", registry))
    place_small(repository)
    release = release_of(served, fitted, PROJECT)
    serve(served, release.bundle, PROJECT)
    return release


@pytest.fixture
def start(repository: Path, behind: Release) -> Iterator[Callable[[], Process]]:
    """Starts a gateway that is a process; all end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def begin() -> Process:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "flows.gateway", "--profile", "test", "--port", str(port), PROJECT]
        log = (repository / f"gateway-{port}.log").open("wb")
        running.append(subprocess.Popen(command, cwd=repository, stdout=log, stderr=log))
        url = f"http://127.0.0.1:{port}"
        until(lambda: is_ready(url), 60)
        return running[-1], httpx.URL(url)

    yield begin
    for one in running:
        one.kill()
        one.wait()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def says(url: httpx.URL) -> int:
    """The release that serves, as a gateway sees it."""
    return int(httpx.get(f"{url}/v1/projects/{PROJECT}", trust_env=False).json()["release"])


@pytest.mark.long
def test_killed_in_the_middle(
    start: Callable[[], Process], served: Workspace, behind: Release, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`kill -9` of one of two, and another one in its place: what it counted counts, the candidate is promoted by itself,
    no request to the others fails, and all three say the same in the end.
    """
    one, two = start(), start()
    rules = RolloutRules(**{**QUICK, "shares": (0.5,), "seconds": 12.0, "auto": True})
    alike = fit(tmp_path_factory.mktemp("alike"), seed=5)
    made = release_of(served, alike, PROJECT, "candidate", rules)
    with Load(two[1], clients=3) as load:
        with Load(one[1], clients=1) as others:
            others.more(60)
            until(lambda: len(open_tally(served).counts(PROJECT, "1.0")) == 2)
        others.check()
        os.kill(one[0].pid, signal.SIGKILL)
        assert last(served).state == "running"
        third = start()
        with Load(third[1], clients=1) as late:
            done = is_so(served, "promoted")
            until(lambda: {says(two[1]), says(third[1])} == {made.number})
            late.more()
        late.check()
    assert set(load.check()) == {behind.number, made.number}
    assert len(open_tally(served).counts(PROJECT, "1.0")) == 3
    assert [event.what for event in done.events] == ["started at 50%", "promoted"]
    assert newest(served.store, PROJECT).number == made.number
