"""A roll-out at the command line: a run ends in a candidate, the gateway holds it to its rules, a person has the last word."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from components.project import Serve
from components.rollout_settings import RolloutRules
from components.workspace import Workspace, open_workspace
from flows.services import down, ensure
from tests.components.gateway.conftest import until
from tests.conftest import write_parcels
from tests.flows.cli.test_lifecycle import ROW, of, serving, trilha
from tests.triton import Fitted, release_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

RULES = """
rollout: {shares: [0.5], errors: 0.3, latency: 50, disagreement: 0.6, compare: 0.5, samples: 20, seconds: 1}
"""


@pytest.fixture
def served(small: Path) -> Iterator[Workspace]:
    """The project `small` with a roll-out in its settings, released once; its gateway is up."""
    project = small / "config" / "projects" / "small" / "project.yaml"
    project.write_text(project.read_text() + RULES)
    workspace = open_workspace("test")
    try:
        trilha("run", "small", "--json")
        ensure(workspace, ["triton", "gateway"])
        yield workspace
    finally:
        down(workspace)


def test_from_a_run_to_the_champion(served: Workspace) -> None:
    """The second release is a candidate, and everything says so; promoted under load, it serves, and no request fails."""
    assert "no roll-out yet; next: trilha rollout start small" in trilha("rollout", "status", "small")
    url = f"{served.endpoint('gateway')}/v1/projects/small/predict"
    until(lambda: httpx.post(url, json={"rows": [json.loads(ROW)]}, trust_env=False).status_code == 200, 60)
    stop, answers = threading.Event(), []

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not stop.is_set():
                answer = client.post(url, json={"rows": [json.loads(ROW)]})
                answers.append((answer.status_code, answer.json()))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        write_parcels(Path("data/parcels.csv"), rows=6_000)
        closing = trilha("run", "small")
        assert "roll-out canary, release 1 to 2: 50%, step 1 of 1" in closing
        second, first = json.loads(trilha("releases", "small", "--json"))
        assert serving(served) == of(first)
        assert "roll-out 1: running" in trilha("show", "small", "2")
        assert json.loads(trilha("show", "small", "--json"))["number"] == 1
        assert "small: canary, release 1 to 2" in trilha("status")
        until(lambda: {look["finding"] for look in status()["looks"]} == {"fine"}, 120)
        assert "small/1 serves" in trilha("rollout", "status", "small")
        assert trilha("rollout", "promote", "small", "--why", "looks good") == "small/2 serves\n"
        until(lambda: answers[-1][1]["release"] == 2 and answers[-20][1]["release"] == 2)
    finally:
        stop.set()
        thread.join()
    assert {code for code, _ in answers} == {200}
    assert serving(served) == of(second)
    receipt = answers[-1][1]["receipt"]
    assert "looks good" in trilha("trail", receipt)
    assert "serves; roll-out 1: promoted" in trilha("releases", "small")
    assert "is what small serves" in trilha("rollout", "start", "small", "--release", "2", code=2)
    assert "accepted: 5% or 0.05" in trilha("rollout", "start", "small", "--share", "many", code=2)
    assert "no roll-out of small is under way" in trilha("rollout", "abort", "small", code=3)
    begun = trilha("rollout", "start", "small", "--how", "shadow", "--share", "50%", "--why", "back?")
    assert begun.startswith("small: shadow, release 2 to 3: 50%, step 1 of 1")
    assert trilha("rollout", "abort", "small") == "small/2 serves; 3 was given up\n"

    trilha("rollout", "start", "small", "--release", "1", "--how", "blue-green", "--auto", "--why", "back, by itself")
    with httpx.Client(trust_env=False, timeout=30) as client:
        until(lambda: client.post(url, json={"rows": [json.loads(ROW)]}).json()["release"] == 4)
        until(lambda: bool(client.post(url, json={"rows": [json.loads(ROW)]}) and serving(served) == of(first)), 120)
    assert "small/4 serves" in trilha("rollout", "status", "small")


def status() -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = json.loads(trilha("rollout", "status", "small", "--json"))
    return found


def test_counts_that_are_not_seen_from_here(small: Path, fitted: Fitted) -> None:
    """Where the gateways' Redis is not known, the record of the roll-out is told all the same."""
    workspace = open_workspace("test")
    release_of(workspace, fitted, "small")
    release_of(workspace, fitted, "small", "candidate", RolloutRules(), Serve(golden=16, join="fused"))
    profile = small / "config" / "profiles" / "test.yaml"
    profile.write_text(f"{profile.read_text()}services: {{gateway: {{cache: {{redis_env: NOWHERE_SET}}}}}}\n")
    assert "roll-out 1: canary, release 1 to 2" in trilha("rollout", "status", "small")
