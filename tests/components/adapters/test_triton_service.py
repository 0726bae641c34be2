"""Triton as a container starts it: the repository of the profile, with all that lies there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from components.adapters.triton_server import open_server
from components.adapters.triton_service import triton_address
from components.errors import ConfigError, NotFoundError
from components.place import Place
from components.workspace import open_workspace
from tests.object_stores import BUCKETS

pytestmark = pytest.mark.xdist_group("triton-service")  # the ports are always the same

HOST = "127.0.0.47"
"""Loopback, too, and nobody else's: the ports of a container are always the same."""
CONFIG = """
backend: "python"
input: [{name: "x", data_type: TYPE_FP32, dims: [1]}]
output: [{name: "y", data_type: TYPE_FP32, dims: [1]}]
"""
MODEL = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb.InferenceResponse([pb.tensor_from_numpy("y", 2 * pb.get_input_tensor_by_name(request, "x").as_numpy())])
            for request in requests
        ]
"""


ASKED = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [21]}]}
BIG = bytes(range(256)) * 30_000
"""More than an object store takes in one piece."""
Replica = Callable[[], tuple[subprocess.Popen[bytes], Path]]


@pytest.fixture(params=["s3", *(pytest.param(store, marks=pytest.mark.long) for store in ("gcs", "azure"))])
def models(request: pytest.FixtureRequest, repository: Path) -> str:
    """The repository in each of the object stores, which profile `test` names, with one model in it."""
    url = f"{request.getfixturevalue(BUCKETS[request.param])}/models"
    place = Place(url)
    place.write("double/config.pbtxt", CONFIG.encode())
    place.write("double/1/model.py", MODEL.encode())
    profile = repository / "config" / "profiles" / "test.yaml"
    services = f"services: {{triton: {{url: '{HOST}:8001', repository: '{url}'}}}}\n"
    profile.write_text(profile.read_text() + services)
    open_workspace.cache_clear()
    return url


@pytest.fixture
def as_triton_asks(request: pytest.FixtureRequest, models: str, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    """What a server's command begins with where it reads these models."""
    if not models.startswith("abfs://"):
        return []
    monkeypatch.setenv("no_proxy", HOST)
    found: list[str | Path] = request.getfixturevalue("triton_on_azure")
    return found


@pytest.fixture
def replica(repository: Path, as_triton_asks: list[str | Path]) -> Iterator[Replica]:
    """Starts a server; it ends with the test."""
    started = []

    def start() -> tuple[subprocess.Popen[bytes], Path]:
        command = [*as_triton_asks, sys.executable, "-m", "components.adapters.triton_service", "test", HOST]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        log = repository / "log"
        with log.open("wb") as output:
            started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        return started[0], log

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


def test_a_new_replica_serves_what_lies_in_the_bucket(replica: Replica, models: str) -> None:
    """A server that starts on the repository in an object store answers for the models there, and counts what it does.

    What is published is what a folder would have, byte for byte; it is loaded from there, answers, and goes.
    """
    process, log = replica()
    assert _answer(process, f"http://{HOST}:8000/v2/models/double/infer", ASKED, log)["outputs"][0]["data"] == [42.0]
    metrics = httpx.get(f"http://{HOST}:8002/metrics", trust_env=False).text
    assert 'nv_inference_request_success{model="double",version="1"} 1' in metrics

    server = open_server(open_workspace("test"))
    files = {"config.pbtxt": CONFIG.encode(), "1/model.py": MODEL.replace("2 *", "3 *").encode(), "1/big": BIG}
    before = server.stored()
    server.publish({"triple": files})
    assert {name: Place(models).read(f"triple/{name}") for name in files} == files
    server.load("triple")
    assert server.infer("triple", {"x": np.float32([7])})["y"].tolist() == [21.0]
    assert server.stored()["triple"].size == sum(map(len, files.values()))
    time.sleep(1.1)  # Azure says in whole seconds when something was changed, and Triton goes by that
    server.publish({"triple": {"1/model.py": MODEL.encode()}})
    server.load("triple")
    assert server.infer("triple", {"x": np.float32([7])})["y"].tolist() == [14.0]
    server.unload("triple")
    with pytest.raises(NotFoundError):
        server.infer("triple", {"x": np.float32([7])})
    assert server.stored() == before


def test_a_replica_that_is_not_like_the_others_does_not_serve(models: str, replica: Replica) -> None:
    """A server that cannot load all that lies there ends, and its log names the model."""
    place = Place(models)
    place.write("broken/config.pbtxt", b'backend: "no-such-backend"')
    place.write("broken/1/model.py", MODEL.encode())
    process, log = replica()
    assert process.wait(60) != 0
    assert "failed to load 'broken'" in log.read_text()


def _answer(process: subprocess.Popen[bytes], url: str, request: object, log: Path) -> dict:
    said, deadline = "", time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            response = httpx.post(url, json=request, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if response.status_code == 200:
            return response.json()
        said = response.text
        time.sleep(0.1)
    raise AssertionError(f"{said}\n{log.read_text()[-3000:]}")


@pytest.mark.parametrize(
    ("url", "environment", "address"),
    [
        ("/data/models", {}, "/data/models"),
        ("s3://trilha/models", {}, "s3://trilha/models"),
        ("s3://trilha/models", {"AWS_ENDPOINT_URL": "http://minio:9000"}, "s3://http://minio:9000/trilha/models"),
        ("s3://trilha/models", {"AWS_ENDPOINT_URL": "https://s3.example.com"}, "s3://https://s3.example.com:443/trilha/models"),
        ("gs://trilha/models", {}, "gs://trilha/models"),
        ("abfs://trilha/models", {"AZURE_STORAGE_ACCOUNT": "acme"}, "as://acme/trilha/models"),
        ("abfss://trilha@acme.dfs.core.windows.net/models", {"AZURE_STORAGE_ACCOUNT": "other"}, "as://acme/trilha/models"),
    ],
)  # fmt: skip
def test_addresses_in_the_words_of_triton(url: str, environment: dict[str, str], address: str) -> None:
    """One address in the profile serves Trilha and Triton, each in its own words."""
    assert triton_address(url, environment) == address


def test_what_triton_cannot_read() -> None:
    """A repository that Triton cannot read is refused, and so is a storage account that nobody names."""
    with pytest.raises(ConfigError, match="accepted: a folder, s3://"):
        triton_address("ftp://somewhere/models", {})
    with pytest.raises(ConfigError, match="no AZURE_STORAGE_ACCOUNT"):
        triton_address("abfs://trilha/models", {})
