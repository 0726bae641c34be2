"""Typed JSON: the notebook's own answers, a receipt for each, and every mistake named."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.gateway import receipts
from components.predict import accepted
from components.records import Release
from tests.components.gateway.conftest import PROJECT, ROW, Running
from tests.triton import FEATURES, Fitted

pytestmark = pytest.mark.xdist_group("gateway")


def test_answers_are_the_notebook_s(gateway: Running, fitted: Fitted) -> None:
    """Every row of the test split, missing values and rare texts included, gets the notebook's answer, in its order."""
    rows = pq.read_table(fitted.test).select(list(FEATURES)).to_pylist()
    expected = pq.read_table(fitted.predictions)
    answer = gateway.predict(*rows).json()
    assert [one["label"] for one in answer["answers"]] == expected["label"].to_pylist()
    pairs = zip(answer["answers"], expected["probability"].to_pylist(), strict=True)
    assert max(abs(one["probability"] - value) for one, value in pairs) < 1e-6


def test_an_answer_names_its_release(gateway: Running, behind: Release) -> None:
    """Release number, and a receipt that carries project, number and digest; no two receipts are the same."""
    answers = [gateway.predict(ROW).json() for _ in range(3)]
    assert {(one["project"], one["release"], one["default"]) for one in answers} == {(PROJECT, behind.number, False)}
    found = [receipts.parse(one["receipt"]) for one in answers]
    assert {(one.project, one.release, one.digest) for one in found if one} == {
        (PROJECT, behind.number, behind.digest[:12])
    }
    assert len({one["receipt"] for one in answers}) == 3


def test_rows_of_the_project_s_own_tables(gateway: Running) -> None:
    """The key and the target may be there, and change nothing."""
    bare, whole = gateway.predict(ROW).json(), gateway.predict({**ROW, "flight": "f1", "late": 1}).json()
    assert bare["answers"] == whole["answers"]


@pytest.mark.parametrize("column", FEATURES)
def test_missing_values(gateway: Running, column: str) -> None:
    """Null stands for a missing value in any column."""
    (one,) = gateway.predict({**ROW, column: None}).json()["answers"]
    assert 0 <= one["probability"] <= 1


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"wnid": 1.0}, "rows[1].wnid", "unknown column 'wnid' (did you mean 'wind'?)"),
        ({"carrier": 7}, "rows[1].carrier", "expected str | null, got int"),
        ({"wind": "3"}, "rows[1].wind", "expected float | null, got str"),
        ({"wind": True}, "rows[1].wind", "got bool"),
        ({"wind": [1.0]}, "rows[1].wind", "got array"),
        ({"hour": 7.5}, "rows[1].hour", "is 7.5"),
        ({"hour": 2**63}, "rows[1].hour", "'hour'"),
        ({"hour": 10**30}, "rows[1].hour", "'hour'"),
    ],
)
def test_what_does_not_fit(gateway: Running, change: dict[str, Any], field: str, words: str) -> None:
    """422 with the row and the column, and what is accepted for it."""
    answer = gateway.predict(ROW, {**ROW, **change})
    assert answer.status_code == 422, answer.text
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["field"] == field
    assert words in told["detail"]
    assert told["accepted"]


def test_number_beyond_all_floats(gateway: Running) -> None:
    """A number that no float holds is refused with its column."""
    body = json.dumps({"rows": [ROW]}).replace("1400.5", "1e999")
    told = gateway.client.post(f"/v1/projects/{PROJECT}/predict", content=body).json()
    assert (told["status"], told["field"]) == (422, "rows[0].distance")


def test_missing_column(gateway: Running) -> None:
    """The column is named, and what to give for it."""
    told = gateway.predict({name: value for name, value in ROW.items() if name != "hour"}).json()
    assert told["status"] == 422
    assert told["field"] == "rows[0].hour"
    assert told["accepted"] == f'"hour": {accepted("bigint")}'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 422),
        (b'{"rows": []}', 422),
        (b'{"rows": [1]}', 422),
        (b'{"rows": null}', 422),
        (b'{"row": []}', 422),
        (b'{"rows": [{"wind": NaN}]}', 400),
        (b'{"rows": [{"carrier": "\\ud800"}]}', 400),
        (b'{"rows": [{"carrier": "\xff"}]}', 400),
        (b"[" * 100_000, 422),
        (b'{"rows": [{"flight": ' + b"[" * 100_000, 400),
    ],
)
def test_no_request_at_all(gateway: Running, body: bytes, status: int) -> None:
    """What is not JSON is 400, what is no rows is 422, in words that say what is accepted; the gateway goes on."""
    answer = gateway.client.post(f"/v1/projects/{PROJECT}/predict", content=body)
    assert answer.status_code == status, answer.text
    assert "carrier" in answer.json()["accepted"]
    assert gateway.predict(ROW).status_code == 200


def test_numbers_may_be_written_either_way(gateway: Running) -> None:
    """A whole number without a point is a number, and one with a point and nothing behind it is whole."""
    body = json.dumps({"rows": [ROW]}).replace("17", "17.0").replace("1400.5", "1400")
    answer = gateway.client.post(f"/v1/projects/{PROJECT}/predict", content=body)
    assert answer.status_code == 200, answer.text


def test_unknown_project(gateway: Running) -> None:
    """404, with those that are there."""
    told = gateway.predict(ROW, project="lage").json()
    assert (told["status"], told["accepted"]) == (404, PROJECT)


def test_too_many_rows(gateway: Running) -> None:
    """More rows than Triton takes at once are refused, and the number is said."""
    answer = gateway.client.post(f"/v1/projects/{PROJECT}/predict", json={"rows": [ROW] * 16_385})
    assert answer.status_code == 422
    assert "16384" in answer.json()["detail"]


def test_what_the_page_of_a_project_says(gateway: Running, behind: Release) -> None:
    """Features, an example that is accepted as it is, the release and its digest."""
    told = gateway.client.get(f"/v1/projects/{PROJECT}").json()
    assert (told["release"], told["digest"], told["features"]) == (behind.number, behind.digest, FEATURES)
    assert gateway.predict(told["example"]).status_code == 200
