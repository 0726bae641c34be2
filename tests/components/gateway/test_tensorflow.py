"""What TensorFlow Serving's clients send is answered in the shapes that its documentation and its own tests show."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from components.records import Release
from tests.components.gateway.conftest import PROJECT, ROW, Running, until
from tests.components.gateway.test_releases import another
from tests.triton import FEATURES, Fitted, fit

pytestmark = pytest.mark.xdist_group("gateway")

MODEL = f"/v1/models/{PROJECT}"
TYPED = f"/v1/projects/{PROJECT}/predict"


def post(gateway: Running, path: str, body: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = gateway.client.post(path, content=content)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def probability(gateway: Running) -> float:
    """What the model says of ROW."""
    found: float = gateway.predict(ROW).json()["answers"][0]["probability"]
    return found


def test_rows(gateway: Running, probability: float) -> None:
    """`instances`, a list of objects: `predictions`, a list of objects, since there are two outputs."""
    told = post(gateway, f"{MODEL}:predict", {"signature_name": "serving_default", "instances": [ROW, ROW]})
    label = int(probability >= 0.5)
    assert told == {"predictions": [{"probability": probability, "label": label}] * 2}


def test_columns(gateway: Running, probability: float) -> None:
    """`inputs`, an object of lists: `outputs`, an object of lists."""
    told = post(gateway, f"{MODEL}:predict", {"inputs": {name: [value, value] for name, value in ROW.items()}})
    assert told["outputs"]["probability"] == [probability] * 2
    assert list(told) == ["outputs"]


@pytest.mark.parametrize(
    "change",
    [
        {"wind": [3]},
        {"wind": 3.0},
        {"carrier": ["UA"]},
        {"carrier": {"b64": base64.b64encode(b"UA").decode()}},
        {"carrier": [{"b64": base64.b64encode(b"UA").decode()}]},
    ],
)
def test_forms_of_a_value(gateway: Running, probability: float, change: dict[str, Any]) -> None:
    """A value, a list of one, and text as base 64 are the same."""
    told = post(gateway, f"{MODEL}:predict", {"instances": [ROW | change]})
    assert told["predictions"][0]["probability"] == probability


def test_tokens_that_are_no_json(gateway: Running) -> None:
    """NaN, as TensorFlow Serving takes it, is a missing value; null is one as well."""
    body = json.dumps({"instances": [ROW | {"wind": None}, ROW | {"wind": float("nan")}]}).encode()
    first, second = post(gateway, f"{MODEL}:predict", body)["predictions"]
    assert first == second


def test_classify(gateway: Running, probability: float) -> None:
    """`results`: for each example a list of pairs of label and score."""
    (pairs,) = post(gateway, f"{MODEL}:classify", {"examples": [ROW]})["results"]
    assert [label for label, _ in pairs] == ["0", "1"]
    assert [score for _, score in pairs] == [pytest.approx(1 - probability), probability]


def test_regress_with_context(gateway: Running, probability: float) -> None:
    """`results`: a number for each example; what is in `context` belongs to all of them."""
    context = {name: ROW[name] for name in ("carrier", "origin")}
    example = {name: value for name, value in ROW.items() if name not in context}
    body = {"signature_name": "tensorflow/serving/regress", "context": context, "examples": [example, example]}
    assert post(gateway, f"{MODEL}:regress", body) == {"results": [probability] * 2}


def test_status(gateway: Running, behind: Release) -> None:
    """Every version that answers, newest first, as GetModelStatus says it."""
    good = {
        "version": str(behind.number), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}
    }  # fmt: skip
    for path in (MODEL, f"{MODEL}/versions/{behind.number}", f"{MODEL}/labels/champion"):
        assert gateway.client.get(path).json() == {"model_version_status": [good]}


def test_metadata(gateway: Running, behind: Release) -> None:
    """The signature as a SignatureDef: types, shapes, method."""
    told = gateway.client.get(f"{MODEL}/metadata").json()
    assert told["model_spec"] == {"name": PROJECT, "signature_name": "", "version": str(behind.number)}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert {name: tensor["dtype"] for name, tensor in signature["inputs"].items()} == {
        name: "DT_STRING" if kind == "string" else "DT_FLOAT" for name, kind in FEATURES.items()
    }
    assert signature["outputs"]["label"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}], "unknown_rank": False
    }  # fmt: skip


def test_versions_and_labels(gateway: Running, tmp_path: Any) -> None:
    """A version is a release, `champion` the one that serves, `previous` the one before; each answers for itself."""
    before = gateway.predict(ROW).json()["answers"][0]["probability"]
    other: Fitted = fit(tmp_path, seed=11, scale=2.0)
    another(gateway.workspace, other)
    until(lambda: gateway.predict(ROW).json()["release"] == 2)
    after = gateway.predict(ROW).json()["answers"][0]["probability"]
    assert before != after
    for where, release, value in (
        ("/versions/1", 1, before), ("/labels/previous", 1, before),
        ("/versions/2", 2, after), ("/labels/champion", 2, after), ("", 2, after),
    ):  # fmt: skip
        answer = gateway.client.post(f"{MODEL}{where}:predict", json={"instances": [ROW]})
        assert answer.json()["predictions"][0]["probability"] == value
        assert answer.headers["Trilha-Release"] == str(release)
    assert [one["version"] for one in gateway.client.get(MODEL).json()["model_version_status"]] == ["2", "1"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"1", b"{}", {"instances": []}, {"instances": 1}, {"instances": [1]}, {"instances": [ROW], "inputs": {}},
        {"instances": [{}]}, {"instances": [ROW | {"wind": "x"}]}, {"instances": [ROW | {"more": 1}]},
        {"instances": [ROW | {"wind": [1, 2]}]}, {"instances": [ROW | {"carrier": {"b64": "~"}}]},
        {"instances": [ROW | {"wind": float("inf")}]}, {"instances": [ROW | {"wind": []}]},
        {"inputs": {"wind": [1, 2], "hour": [1]}}, {"inputs": {}}, {"inputs": []}, {"inputs": 5}, {"inputs": {"wind": []}},
        {"signature_name": "x", "instances": [ROW]}, {"signature_name": [], "instances": [ROW]},
    ],
)  # fmt: skip
def test_what_is_refused(gateway: Running, body: Any) -> None:
    """400, with the message as `error`."""
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = gateway.client.post(f"{MODEL}:predict", content=content)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"examples": []}, {"examples": {}}, {"examples": [1]}, {"examples": [[ROW]]}, {"examples": [ROW], "context": []},
        {"examples": [ROW], "context": {"wind": 1}}, {"instances": [ROW]},
    ],
)  # fmt: skip
def test_examples_that_are_refused(gateway: Running, body: Any) -> None:
    """Likewise."""
    for verb in ("classify", "regress"):
        answer = gateway.client.post(f"{MODEL}:{verb}", json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/half:predict", f"{MODEL}/versions/9:predict", f"{MODEL}/labels/canary:predict", f"{MODEL}:explode",
        f"{MODEL}/versions:predict", f"{MODEL}/metadata:predict", "/v1/models/:predict", "/v1/models:predict",
    ],
)  # fmt: skip
def test_what_is_not_there(gateway: Running, path: str) -> None:
    """404, with the message as `error`."""
    answer = gateway.client.post(path, json={"instances": [ROW]})
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]
