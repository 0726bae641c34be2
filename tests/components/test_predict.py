from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.adapters import triton_config
from components.errors import ConfigError
from components.model_inputs import to_tensors
from components.predict import predict, tensors_of
from components.records import Release
from components.serving import take_down
from components.workspace import Workspace
from tests.triton import FEATURES, Fitted, release_of

ROW: dict[str, Any] = {"carrier": "UA", "origin": "JFK", "distance": 1400.5, "wind": 3, "hour": 17}


@pytest.fixture
def release(served: Workspace, fitted: Fitted) -> Release:
    return release_of(served, fitted)


def test_answers_are_the_notebook_s(served: Workspace, release: Release, fitted: Fitted) -> None:
    """Every row of the test split gets the answer that the notebook gave, in its order."""
    rows = pq.read_table(fitted.test).select(list(FEATURES)).to_pylist()
    expected = pq.read_table(fitted.predictions)
    answers = predict(served, release, rows)
    assert [answer.label for answer in answers] == expected["label"].to_pylist()
    differences = [
        abs(answer.probability - value)
        for answer, value in zip(answers, expected["probability"].to_pylist(), strict=True)
    ]
    assert max(differences) < 1e-6


def test_model_that_is_not_loaded(served: Workspace, release: Release) -> None:
    """A release that the server was not told of, after a restart say, is loaded when it is asked."""
    take_down(served.server, release.bundle.model)
    assert len(predict(served, release, [ROW])) == 1


def test_more_rows_than_one_request_takes(
    served: Workspace, release: Release, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many rows are asked in several requests; the answers come back in one list, in order."""
    rows = pq.read_table(fitted.test).select(list(FEATURES)).to_pylist()
    whole = predict(served, release, rows)
    monkeypatch.setattr("components.predict.MAX_ROWS", 33)
    assert predict(served, release, rows) == whole
    assert triton_config.MAX_ROWS >= 10_000


@pytest.mark.parametrize("missing", [None, math.nan])
@pytest.mark.parametrize("column", FEATURES)
def test_missing_values(served: Workspace, release: Release, column: str, missing: object) -> None:
    """Null and NaN stand for a missing value in any column, as they did when the model learned."""
    (answer,) = predict(served, release, [{**ROW, column: missing}])
    assert 0 <= answer.probability <= 1


def test_key_and_target_are_left_out(release: Release) -> None:
    """Rows of the project's own tables can be given as they are."""
    assert list(tensors_of([{**ROW, "flight": "f1", "late": 1}], release)) == list(FEATURES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wnid": 1.0}, r"row 2: unknown column 'wnid' \(did you mean 'wind'\?\); accepted: carrier, origin"),
        ({"zzz": 1.0}, r"row 2: unknown column 'zzz'; accepted"),
        ({"carrier": 7}, r"row 2: 'carrier' is 7; accepted: text, or null"),
        ({"wind": "3"}, r"row 2: 'wind' is \"3\"; accepted: a number, or null"),
        ({"wind": True}, r"row 2: 'wind' is true; accepted: a number"),
        ({"wind": math.inf}, r"row 2: 'wind' is Infinity; accepted: a number"),
        ({"hour": 7.5}, r"row 2: 'hour' is 7.5; accepted: a whole number"),
        ({"hour": 10**400}, r"row 2: 'hour' is 10{59}; accepted: a whole number from -2\^63 to 2\^63 - 1, or null"),
        ({"hour": 2**63}, r"row 2: 'hour' is 9223372036854775808; accepted: a whole number from -2\^63 to 2\^63 - 1"),
        ({"wind": 10**400}, r"row 2: 'wind' is 10{59}; accepted: a number, or null"),
        ({"carrier": "\ud800"}, r"row 2: 'carrier' is \"\\ud800\"; accepted: text, or null"),
        ({"wind": [1.0]}, r"row 2: 'wind' is \[1.0\]; accepted: a number"),
    ],
)
def test_what_does_not_fit(release: Release, change: dict[str, object], message: str) -> None:
    """An unknown column, with the nearest spelling, and a value of another type are named with their row."""
    with pytest.raises(ConfigError, match=message):
        tensors_of([ROW, {**ROW, **change}], release)


def test_missing_column(release: Release) -> None:
    """A column that a row lacks is named, and what to give for it."""
    row = {name: value for name, value in ROW.items() if name != "hour"}
    with pytest.raises(
        ConfigError, match=r"row 1: column 'hour' is missing; .*\"hour\": a whole number from .*, or null"
    ):
        tensors_of([row], release)


def test_numbers_may_be_written_either_way(release: Release) -> None:
    """A whole number without a point is a number, and one with a point and nothing behind it is whole."""
    tensors = tensors_of([{**ROW, "distance": 3, "hour": 5.0, "wind": 10**20}], release)
    assert (tensors["distance"].item(), tensors["hour"].item(), tensors["wind"].item()) == (
        3.0,
        5.0,
        pytest.approx(1e20),
    )


def test_rows_and_tables_make_the_same_tensors(release: Release, fitted: Fitted) -> None:
    """Rows as people write them reach the model as those it learned from did, bit by bit."""
    table = pq.read_table(fitted.test)
    expected, tensors = to_tensors(table, FEATURES), tensors_of(table.to_pylist(), release)
    for name, array in expected.items():
        assert tensors[name].dtype == array.dtype
        assert np.array_equal(tensors[name], array, equal_nan=array.dtype != np.object_)
