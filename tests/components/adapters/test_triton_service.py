"""Triton as a container starts it: the repository of the profile, with all that lies there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest

from components.adapters.triton_service import triton_address
from components.errors import ConfigError

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


@pytest.fixture
def models(repository: Path, bucket: str) -> tuple[Any, str]:
    """The repository in an object store that profile `test` names, with one model in it."""
    fs, root = fsspec.core.url_to_fs(f"{bucket}/models")
    fs.pipe_file(f"{root}/double/config.pbtxt", CONFIG.encode())
    fs.pipe_file(f"{root}/double/1/model.py", MODEL.encode())
    profile = repository / "config" / "profiles" / "test.yaml"
    services = f"services: {{triton: {{url: '{HOST}:8001', repository: '{bucket}/models'}}}}\n"
    profile.write_text(profile.read_text() + services)
    return fs, root


@pytest.fixture
def replica(repository: Path, models: tuple[Any, str]) -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], Path]]]:
    """Starts a server; it ends with the test."""
    started = []

    def start() -> tuple[subprocess.Popen[bytes], Path]:
        command = [sys.executable, "-m", "components.adapters.triton_service", "test", HOST]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        log = repository / "log"
        with log.open("wb") as output:
            started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        return started[0], log

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


def test_a_new_replica_serves_what_lies_in_the_bucket(
    replica: Callable[[], tuple[subprocess.Popen[bytes], Path]],
) -> None:
    """A server that starts on the repository in an object store answers for the models there, and counts what it does."""
    process, log = replica()
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [21]}]}
    answer = _answer(process, f"http://{HOST}:8000/v2/models/double/infer", request, log)
    assert answer["outputs"][0]["data"] == [42.0]
    metrics = httpx.get(f"http://{HOST}:8002/metrics", trust_env=False).text
    assert 'nv_inference_request_success{model="double",version="1"} 1' in metrics


def test_a_replica_that_is_not_like_the_others_does_not_serve(
    models: tuple[Any, str], replica: Callable[[], tuple[subprocess.Popen[bytes], Path]]
) -> None:
    """A server that cannot load all that lies there ends, and its log names the model."""
    fs, root = models
    fs.pipe_file(f"{root}/broken/config.pbtxt", b'backend: "no-such-backend"')
    fs.pipe_file(f"{root}/broken/1/model.py", MODEL.encode())
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
