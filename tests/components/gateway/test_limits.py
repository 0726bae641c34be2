"""Too large, too slow, too late: each has its status, and the next request is answered."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml
from tritonclient.http import InferenceServerClient

from components.project import Serve
from components.records import Release
from components.serve_settings import Triton
from components.serving import serve, take_down
from components.workspace import Workspace
from tests.components.gateway.conftest import PROJECT, ROW, Running, Start
from tests.components.gateway.test_v2 import binary, plain
from tests.triton import Fitted, release_of, slow

pytestmark = pytest.mark.xdist_group("gateway")

PREDICT = f"/v1/projects/{PROJECT}/predict"


def test_too_large(start: Start) -> None:
    """413 for a body that says its length and for one that does not, with what is accepted."""
    running = start(limits={"body": 1000})

    def pieces() -> Iterator[bytes]:
        yield from [b" " * 600] * 5

    for content in (b" " * 1001, pieces()):
        answer = running.client.post(PREDICT, content=content)
        assert answer.status_code == 413, answer.text
        assert answer.json()["accepted"] == "1000 bytes"
    assert running.predict(ROW).status_code == 200


def test_a_body_that_does_not_arrive(start: Start) -> None:
    """408 after the time that the profile gives; nobody else waits for it."""
    running = start(limits={"seconds": 0.5})
    host, port = running.client.base_url.host, running.client.base_url.port
    with socket.create_connection((host, port or 0), timeout=10) as slow:
        slow.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert running.predict(ROW).status_code == 200
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_compressed(gateway: Running) -> None:
    """415: a small body that becomes a large one is not taken."""
    answer = gateway.client.post(PREDICT, content=b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["accepted"]) == (415, "identity")


def set_online(repository: Path, **online: object) -> None:
    path = repository / "config" / "projects" / PROJECT / "project.yaml"
    project = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**project, "online": online}))


def test_a_late_model(start: Start, repository: Path) -> None:
    """504 where the project names no default answer."""
    set_online(repository, seconds=0.000001)
    running = start()
    answer = running.predict(ROW)
    assert answer.status_code == 504, answer.text


def test_a_default_answer(start: Start, repository: Path) -> None:
    """One a row where the project names one, called so, of no release, without a receipt."""
    set_online(repository, seconds=0.000001, default={"probability": 0.25, "label": 0})
    told = start().predict(ROW, ROW).json()
    assert told["answers"] == [{"probability": 0.25, "label": 0}] * 2
    assert (told["default"], told["release"], told["receipt"]) == (True, None, None)


@pytest.mark.parametrize("sent", ["binary", "JSON"])
def test_a_default_answer_by_v2(start: Start, repository: Path, sent: str) -> None:
    """The protocol's own clients read it as any answer; a header says what it is, and there is no receipt."""
    set_online(repository, seconds=0.000001, default={"probability": 0.25, "label": 0})
    client = start().client
    headers, body = binary([ROW] * 3) if sent == "binary" else ({}, json.dumps(plain([ROW] * 3)).encode())
    answer = client.post(f"/v2/models/{PROJECT}/infer", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    result = InferenceServerClient.parse_response_body(answer.content)
    assert result.as_numpy("probability").tolist() == [[0.25]] * 3
    assert result.as_numpy("label").tolist() == [[0]] * 3
    assert answer.headers["Trilha-Default"] == "true"
    assert answer.headers.keys().isdisjoint({"trilha-receipt", "trilha-release"})


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "{}",
        '{"inputs": []}',
        '{"inputs": [{"name": "x", "datatype": "FP32", "shape": []}]}',
        '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1000000000, 1]}]}',
    ],
)
def test_no_default_answer_to_nothing(start: Start, repository: Path, body: str) -> None:
    """A request that does not say how many rows it has, or says too many, gets none, and the next one is answered.

    Triton may be quick enough to refuse it before it is late.
    """
    set_online(repository, seconds=0.000001, default={"probability": 0.25, "label": 0})
    client = start().client
    assert client.post(f"/v2/models/{PROJECT}/infer", content=body).status_code in {400, 504}
    assert client.post(f"/v1/projects/{PROJECT}/predict", json={"rows": [ROW]}).status_code == 200


def test_more_at_a_time_than_triton_gets(start: Start) -> None:
    """Requests beyond the connections wait for their turn, and all are answered."""
    running = start(limits={"connections": 2})
    begun = time.monotonic()
    with httpx.Client(base_url=running.client.base_url, trust_env=False, timeout=30) as client:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: client.post(PREDICT, json={"rows": [ROW]}).status_code, range(64)))
    assert set(answers) == {200}
    assert time.monotonic() - begun < 20


def test_a_full_queue_of_the_project_s_own(served: Workspace, fitted: Fitted, behind: Release, start: Start) -> None:
    """What the project's queue policy refuses is 503 and says when to ask again; what is in the queue is answered."""
    batching = {"preferred_batch_size": [1], "default_queue_policy": {"max_queue_size": 2}}
    second = release_of(
        served, fitted, PROJECT, "second", serve=Serve(golden=16, triton=Triton(dynamic_batching=batching))
    )
    assert second.number > behind.number
    serve(served, second.bundle, PROJECT)
    slow(served, second.bundle)
    gateway = start(gather=None)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: gateway.predict(ROW), range(12)))
    assert {answer.status_code for answer in answers} == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert "queue size" in refused.json()["detail"]
    assert int(refused.headers["Retry-After"]) >= 1
    take_down(served.server, second.bundle.model)
