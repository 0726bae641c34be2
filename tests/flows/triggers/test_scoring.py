"""A night that is ordered over HTTP: the service, Prefect, a worker, the predictions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from components.records import Release
from components.scores import BRANCH, nights
from components.workspace import Workspace
from flows.services import down, ensure
from flows.triggers.token import read_token
from tests.flights import ROWS, place_flights, released
from tests.flows.triggers.deployed import Deployed
from tests.triton import Fitted

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("prefect")]


@pytest.fixture
def service(repository: Path, on_prefect: Workspace) -> Iterator[Workspace]:
    """The parts of a profile whose trigger service runs."""
    place_flights(repository)
    try:
        ensure(on_prefect, ["triggers"])
        yield on_prefect
    finally:
        down(on_prefect)


@pytest.fixture
def release(service: Workspace, fitted: Fitted) -> Release:
    return released(service, fitted)


def ordered(service: Workspace, **order: str) -> dict[str, Any]:
    """What the service answers to an order."""
    answer = httpx.post(
        f"{service.endpoint('triggers')}/projects/flights/runs",
        json={"dag": "scoring", **order},
        headers={"Authorization": f"Bearer {read_token(service)}"},
        trust_env=False,
    )
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def answered(service: Workspace) -> int:
    """The rows that a reader finds on the branch."""
    paths = [entry.path for entry in service.store.ls(BRANCH, "flights") if entry.path.endswith(".parquet")]
    return sum(pq.read_metadata(service.store.local(BRANCH, path)).num_rows for path in paths)


def test_an_order_is_a_night(service: Workspace, release: Release, repository: Path, prefect_url: str) -> None:
    """One order makes one night by the release that serves; repeated, it is the same run, and no second night."""
    deployed = Deployed(prefect_url, "flights", "nights", dag="scoring")
    first = ordered(service, delivery="monday")
    assert first["new"]
    deployed.work_once(repository)
    [run] = deployed.runs()
    assert run["state_name"] == "Completed", run["state"]["message"]
    [night] = nights(service.store, "flights")
    assert night.metadata["release"] == str(release.number)
    assert answered(service) == ROWS
    again = ordered(service, delivery="monday")
    assert (again["run"], again["new"]) == (first["run"], False)
    assert ordered(service, delivery="tuesday")["new"]
    deployed.work_once(repository)
    assert [run["state_name"] for run in deployed.runs()] == ["Completed", "Completed"]
    assert [*nights(service.store, "flights")] == [night]  # nothing is answered twice
