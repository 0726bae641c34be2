"""Predictions are written down as they were asked and answered, beside the requests, and found again by their receipts."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.errors import UnavailableError
from components.gateway import log
from flows.trail import trail
from tests.components.gateway.conftest import PROJECT, ROW, Running, Start, until
from tests.components.gateway.test_limits import set_online
from tests.components.gateway.test_v2 import INFER, binary, plain

pytestmark = pytest.mark.xdist_group("gateway")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit every fifth of a second."""
    monkeypatch.setattr("components.gateway.log.PredictionLog.__init__.__defaults__", (0.2,))


def counted(running: Running) -> dict[str, float]:
    """Requests written down, and those that were dropped."""
    for family in text_string_to_metric_families(running.client.get("/metrics").text):
        if family.name == "trilha_gateway_log":
            return {one.labels["fate"]: one.value for one in family.samples if one.name.endswith("_total")}
    return {}


def rows(running: Running) -> list[dict[str, object]]:
    """All that is written down, in the order of the receipts."""
    store = running.workspace.store
    head = store.resolve(log.BRANCH).id
    found = [row for entry in store.ls(head) for row in pq.read_table(store.local(head, entry.path)).to_pylist()]
    return sorted(found, key=lambda row: str(row["receipt"]))


def test_what_is_written_down(start: Start, repository: Path) -> None:
    """Every way of asking: inputs, answers, release, moment, and each row's own receipt."""
    set_online(repository, log=1.0)
    running = start()
    typed = running.predict(ROW, {**ROW, "wind": None, "carrier": None}).json()
    headers, body = binary([ROW])
    by_bytes = running.client.post(INFER, content=body, headers=headers)
    by_json = running.client.post(INFER, json=plain([ROW]))
    rest = running.client.post(f"/v1/models/{PROJECT}:predict", json={"instances": [ROW]})
    until(lambda: counted(running).get("written") == 4)
    found = {str(row["receipt"]): row for row in rows(running)}
    for receipt in (typed["receipt"], *(one.headers["Trilha-Receipt"] for one in (by_bytes, by_json, rest))):
        row = found[f"{receipt}.0"]
        assert {name: row[f"input.{name}"] for name in ROW} == ROW
        assert row["probability"] == pytest.approx(typed["answers"][0]["probability"], abs=1e-6)
        assert (row["request"], row["release"]) == (receipt, 1)
    second = found[f"{typed['receipt']}.1"]
    assert (second["input.wind"], second["input.carrier"]) == (None, None)
    assert len(found) == 5


def test_columns_that_are_left_out(start: Start, repository: Path) -> None:
    """What the project redacts is nowhere in the file."""
    set_online(repository, log=1.0, redact=["carrier", "wind"])
    running = start()
    running.predict({**ROW, "carrier": "unmistakable"})
    until(lambda: counted(running).get("written") == 1)
    (row,) = rows(running)
    assert (row["input.carrier"], row["input.wind"], row["input.origin"]) == (None, None, "JFK")
    store = running.workspace.store
    (entry,) = store.ls(log.BRANCH)
    assert b"unmistakable" not in store.local(log.BRANCH, entry.path).read_bytes()


def test_what_has_no_columns(start: Start, repository: Path) -> None:
    """A V2 client may ask for one output, or in a form of Triton's own: its neighbours are written down whole."""
    set_online(repository, log=1.0)
    running = start()
    odd = plain([ROW]) | {"outputs": [{"name": "probability", "parameters": {"classification": 1}}]}
    one = plain([ROW]) | {"outputs": [{"name": "label"}]}
    answers = [running.client.post(INFER, json=body) for body in (odd, one, plain([ROW]))]
    assert {answer.status_code for answer in answers} == {200}
    until(lambda: counted(running).get("written") == 3)
    found = [next(row for row in rows(running) if row["request"] == one.headers["Trilha-Receipt"]) for one in answers]
    assert [row["input.wind"] for row in found] == [None, 3.0, 3.0]
    assert [row["label"] is None for row in found] == [True, False, False]
    assert [row["probability"] is None for row in found] == [True, True, False]


def test_a_share(start: Start, repository: Path) -> None:
    """About the share that is asked for; which ones, their receipts say."""
    set_online(repository, log=0.3)
    running = start()
    receipts = [running.predict(ROW).json()["receipt"] for _ in range(200)]
    chosen = {one for one in receipts if int(one[-4:], 16) < 0.3 * 65_536}
    until(lambda: counted(running).get("written") == len(chosen))
    assert {row["request"] for row in rows(running)} == chosen
    assert 20 < len(chosen) < 110


def test_nothing_is_written_unasked(gateway: Running) -> None:
    """A project that does not ask for it has no branch, and no thread."""
    gateway.predict(ROW)
    assert gateway.app._log._thread is None
    assert log.BRANCH not in gateway.workspace.store.branches()


def test_a_receipt_leads_to_what_was_said(start: Start, repository: Path) -> None:
    """`trilha trail` shows the row that was asked and its answer, where it was written down."""
    set_online(repository, log=1.0)
    running = start()
    told = running.predict(ROW, {**ROW, "wind": 7}).json()
    until(lambda: counted(running).get("written") == 1)
    (first, *_) = trail(running.workspace, f"{told['receipt']}.1")
    assert first.what == "prediction"
    assert "input.wind=7.0" in first.lines[1]
    assert len(trail(running.workspace, told["receipt"])[0].lines) == 3


def test_what_waits_is_written_at_the_end(start: Start, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping the gateway loses nothing that waits."""
    monkeypatch.setattr("components.gateway.log.PredictionLog.__init__.__defaults__", (60.0,))
    set_online(repository, log=1.0)
    running = start()
    running.predict(ROW)
    began = time.monotonic()
    running.app._log.close()
    assert time.monotonic() - began < 20
    assert len(rows(running)) == 1


def test_more_than_can_be_written(start: Start, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is away for long costs entries, which are counted, and no request."""

    def away(*_: object) -> None:
        raise UnavailableError("the store is away")

    monkeypatch.setattr("components.gateway.log.commit", away)
    monkeypatch.setattr("components.gateway.log.ENTRIES", 20)
    set_online(repository, log=1.0)
    running = start()
    assert {running.predict(ROW).status_code for _ in range(60)} == {200}
    until(lambda: counted(running).get("dropped", 0) >= 20)
    assert "written" not in counted(running)
