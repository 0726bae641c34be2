"""The V2 protocol through the gateway, by Triton's own client and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tritonclient.http
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from components.gateway import receipts
from components.model_inputs import to_tensors
from components.project import Serve
from components.records import Release
from components.serve_settings import Triton as Settings
from components.serving import serve, take_down
from components.workspace import Workspace
from tests.components.gateway.conftest import PROJECT, ROW, Running, running
from tests.conftest import place_small
from tests.triton import FEATURES, Fitted, Triton, release_of

pytestmark = pytest.mark.xdist_group("gateway")

INFER = f"/v2/models/{PROJECT}/infer"


def plain(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as the protocol's JSON."""
    return {
        "inputs": [
            {
                "name": name,
                "datatype": "BYTES" if kind == "string" else "FP32",
                "shape": [len(rows), 1],
                "data": [row[name] for row in rows],
            }
            for name, kind in FEATURES.items()
        ]
    }


def binary(rows: list[dict[str, Any]]) -> tuple[dict[str, str], bytes]:
    """Rows as the header and the body that Triton's client makes of them."""
    inputs = []
    for name, kind in FEATURES.items():
        array = np.array([[row[name]] for row in rows], dtype=np.object_ if kind == "string" else np.float32)
        tensor = tritonclient.http.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    body, length = tritonclient.http.InferenceServerClient.generate_request_body(inputs)
    return {"Inference-Header-Content-Length": str(length)}, body


def test_triton_s_own_client(gateway: Running, fitted: Fitted) -> None:
    """Binary tensors in and out: the notebook's own answers."""
    rows = to_tensors(pq.read_table(fitted.test), FEATURES)
    client = tritonclient.http.InferenceServerClient(gateway.client.base_url.netloc.decode())
    inputs = []
    for name, array in rows.items():
        tensor = tritonclient.http.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(PROJECT)
    answer = client.infer(PROJECT, inputs)
    expected = pq.read_table(fitted.predictions)["probability"].to_numpy()
    assert np.abs(answer.as_numpy("probability").ravel() - expected).max() < 1e-6
    client.close()


def test_json_and_binary_and_typed_agree(gateway: Running, behind: Release) -> None:
    """Three ways to ask, one answer; it names the bundle that gave it, its release and its receipt."""
    typed = gateway.predict(ROW).json()["answers"][0]["probability"]
    by_json = gateway.client.post(INFER, json=plain([ROW]))
    headers, body = binary([ROW])
    by_bytes = gateway.client.post(INFER, content=body, headers=headers)
    found = {output["name"]: output for output in by_json.json()["outputs"]}
    assert found["probability"]["data"] == [pytest.approx(typed, abs=1e-6)]
    length = int(by_bytes.headers["Inference-Header-Content-Length"])
    header = json.loads(by_bytes.content[:length])
    assert header["model_name"] == by_json.json()["model_name"] == behind.bundle.model
    for answer in (by_json, by_bytes):
        receipt = receipts.parse(answer.headers["Trilha-Receipt"])
        assert receipt is not None
        assert (receipt.project, str(receipt.release)) == (PROJECT, answer.headers["Trilha-Release"])


@pytest.mark.parametrize("remembers", [False, True])
def test_a_bundle_of_one_graph(
    served: Workspace, repository: Path, fitted: Fitted, triton: Triton, *, remembers: bool
) -> None:
    """The graph is asked without the ensemble around it, but where Triton remembers answers; nobody sees which."""
    place_small(repository)
    settings = Settings(response_cache={"enable": remembers})
    release = release_of(served, fitted, PROJECT, serve=Serve(golden=16, join="fused", triton=settings))
    serve(served, release.bundle, PROJECT)
    model, alone = release.bundle.model, f"{release.bundle.model}-fused"
    with running(repository, {}) as gateway, InferenceServerClient(triton.address) as client:
        typed = gateway.predict(ROW).json()["answers"][0]["probability"]
        headers, body = binary([ROW])
        by_bytes = gateway.client.post(INFER, content=body, headers=headers)
        told = json.loads(by_bytes.content[: int(by_bytes.headers["Inference-Header-Content-Length"])])
        assert told["model_name"] == (model if remembers else alone)
        by_json = gateway.client.post(INFER, json=plain([ROW])).json()
        found = {output["name"]: output["data"] for output in by_json["outputs"]}
        assert found == {"probability": [pytest.approx(typed, abs=1e-6)], "label": [int(typed >= 0.5)]}
        asked = {name: client.get_inference_statistics(name).model_stats[0].inference_count for name in (model, alone)}
        assert asked == ({model: 2, alone: 1} if remembers else {model: 0, alone: 3})
        missing = plain([ROW])
        missing["inputs"].pop()
        refused = gateway.client.post(INFER, json=missing)
        assert refused.status_code == 400
        assert model not in refused.text
        assert "fused" not in refused.text
        take_down(served.server, model)
        assert gateway.predict(ROW).json()["answers"][0]["probability"] == pytest.approx(typed, abs=1e-6)


def test_metadata(gateway: Running, behind: Release) -> None:
    """The project's name, its releases as versions, and the tensors it takes and yields."""
    client = tritonclient.http.InferenceServerClient(gateway.client.base_url.netloc.decode())
    told = client.get_model_metadata(PROJECT)
    assert (told["name"], told["versions"]) == (PROJECT, [str(behind.number)])
    assert {tensor["name"]: tensor["datatype"] for tensor in told["inputs"]} == {
        name: "BYTES" if kind == "string" else "FP32" for name, kind in FEATURES.items()
    }
    assert {tensor["name"] for tensor in told["outputs"]} == {"probability", "label"}
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    client.close()


def test_a_version_is_a_release(gateway: Running, behind: Release) -> None:
    """A release that answers can be asked by number; another is 404, with those that answer."""
    path = f"/v2/models/{PROJECT}/versions/{{}}/infer"
    assert gateway.client.post(path.format(behind.number), json=plain([ROW])).status_code == 200
    for version in ("7", "0", "-1", "x", "9" * 30, "²"):
        told = gateway.client.post(path.format(version), json=plain([ROW])).json()
        assert (told["status"], told["field"], told["accepted"]) == (404, "version", str(behind.number))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "wnid"}, "wnid"),
        ({"datatype": "FP64"}, "wind"),
        ({"shape": [1, 2], "data": [1.0, 2.0]}, "wind"),
        ({"shape": [2, 1]}, "Shape does not match"),
        ({"shape": "x"}, "shape"),
        ({"data": ["x"]}, ""),
        ({"datatype": "NOTHING"}, "wind"),
    ],
)
def test_tensor_that_does_not_fit(gateway: Running, change: dict[str, Any], words: str) -> None:
    """400 in Triton's words, with the project's name and the tensors that are accepted."""
    body = plain([ROW])
    next(tensor for tensor in body["inputs"] if tensor["name"] == "wind").update(change)
    answer = gateway.client.post(INFER, json=body)
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert words in told["error"]
    assert "wind FP32 [rows, 1]" in told["accepted"]
    assert f"{PROJECT}-" not in told["error"]


def test_truncated_tensors(gateway: Running) -> None:
    """A body that was cut, at any place, or a header's length that is not its own, is 400; the next one is answered."""
    headers, body = binary([ROW, ROW])
    length = int(headers["Inference-Header-Content-Length"])
    cuts = [body[:end] for end in (0, 1, length - 1, length, length + 3, len(body) - 1)] + [body + b"more"]
    for cut in cuts:
        assert gateway.client.post(INFER, content=cut, headers=headers).status_code == 400
    for wrong in (length - 1, length + 1, len(body) + 1, -1, "x", 0):
        headers["Inference-Header-Content-Length"] = str(wrong)
        assert gateway.client.post(INFER, content=body, headers=headers).status_code == 400
    assert gateway.predict(ROW).status_code == 200


def test_text_that_is_none(gateway: Running) -> None:
    """Bytes that are no UTF-8 are the request's fault."""
    headers, body = binary([{**ROW, "carrier": "QQ"}])
    answer = gateway.client.post(INFER, content=body.replace(b"QQ", b"\xff\xfe"), headers=headers)
    assert answer.status_code == 400, answer.text
    assert "UTF-8" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        f"/v2/repository/models/{PROJECT}/load",
        f"/v2/repository/models/{PROJECT}/unload",
        "/v2/systemsharedmemory/region/x/register",
        "/v2/trace/setting",
        "/v2/logging",
        f"/v2/models/{PROJECT}/config",
        f"/v2/models/{PROJECT}/../../repository/index",
        f"/v2/models/{PROJECT}%2f..%2f..%2frepository%2findex",
        "//v2/repository/index",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_model_control_is_not_there(gateway: Running, path: str, method: str) -> None:
    """What changes the server, or tells of more than the model, is on no path, however it is spelt."""
    answer = gateway.client.request(method, path, content=b"{}" if method == "POST" else None)
    assert answer.status_code == 404, answer.text
    assert gateway.predict(ROW).status_code == 200


def test_the_model_behind_has_no_name_here(gateway: Running, behind: Release) -> None:
    """Bundles and their parts cannot be asked past the project's name."""
    for name in (behind.bundle.model, f"{behind.bundle.model}-pre"):
        assert gateway.client.post(f"/v2/models/{name}/infer", json=plain([ROW])).status_code == 404
    client = tritonclient.http.InferenceServerClient(gateway.client.base_url.netloc.decode())
    with pytest.raises(InferenceServerException):
        client.load_model(behind.bundle.model)
    client.close()
