"""Sequences and several answers behind the gateway: what goes through, and what is said where it cannot."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http

from components.bundle import bundle_of
from components.predict import predict
from components.project import Serve
from components.records import Release
from components.releases import write
from components.serve_settings import Triton
from components.serving import serve, take_down
from components.workspace import Workspace
from tests.components.gateway.conftest import PROJECT, Running, Start, key_of
from tests.components.test_sequences import SOURCE, Made

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gateway")]

HALTING = """
import time

# Odd with three rows alone, so that whatever else asks them is answered.


class Halting(Steps):
    def __call__(self, tensors):
        first, second = super().__call__(tensors)
        yield first
        time.sleep(1.5 * (len(first) == 3))
        yield second


class Endless(Steps):
    def __call__(self, tensors):
        first, second = super().__call__(tensors)
        for _ in range(60 * (len(first) == 3)):
            yield first
            time.sleep(0.1)
        yield second


class Breaking(Steps):
    def __call__(self, tensors):
        first, second = super().__call__(tensors)
        yield first
        if len(first) == 3:
            time.sleep(0.5)  # an ensemble that fails drops the answers that are on their way
            raise ValueError("it broke in the middle")
        yield second


class Broken(Steps):
    def __call__(self, tensors):
        first, second = super().__call__(tensors)
        if len(first) == 3:
            raise ValueError("it broke at once")
        yield second
"""
SEVERAL = {"model_transaction_policy": {"decoupled": True}}
STREAM, GENERATE = f"/v1/projects/{PROJECT}/stream", f"/v2/models/{PROJECT}/generate_stream"

Released = Callable[..., tuple[Release, Made]]
"""Makes a release of a class, with settings, that serves."""


@pytest.fixture
def released(served: Workspace, behind: Release, tmp_path: Path) -> Any:
    """Makes a second release whose model is a class of the project's own, and lets it serve."""

    def make(kind: str, **settings: Any) -> tuple[Release, Made]:
        made = Made(served, kind, tmp_path, SOURCE + HALTING)
        bundle = made.bundle(Serve(golden=16, p99_ms=5000, triton=Triton(**settings)))
        changes = {"prepared": made.run.spec.prepared, "bundle": bundle, "digest": bundle.digest, "key": kind}
        release = write(
            served.store, PROJECT, kind, lambda number: behind.model_copy(update={"number": number, **changes})
        )
        serve(served, bundle, PROJECT)
        return release, made

    yield make
    for model in {bundle_of(PROJECT, model) for model in served.server.loaded()} | {PROJECT}:
        if model:
            take_down(served.server, model)


def rows_of(made: Made) -> list[dict[str, Any]]:
    table = made.run.test.head(1)[list(made.run.features)].astype(object)
    return table.where(table.notna(), None).to_dict("records")


def test_a_sequence_over_v2(released: Released, start: Start) -> None:
    """Triton's own client keeps a sequence through the gateway; what is remembered there is never given for it."""
    release, made = released("Fading", sequence_batching={"oldest": {}})
    gateway = start(cache={})
    client = tritonclient.http.InferenceServerClient(gateway.client.base_url.netloc.decode())
    tensors = []
    for name, array in made.row().items():
        kind = "BYTES" if array.dtype == object else "FP32"
        tensors.append(tritonclient.http.InferInput(name, list(array.shape), kind))
        tensors[-1].set_data_from_numpy(array)
    for place in range(2):
        answer = client.infer(
            PROJECT, tensors, sequence_id=5, sequence_start=place == 0, sequence_end=place == 1
        ).as_numpy("probabilities")
        np.testing.assert_allclose(answer, 1 / 3 + (made.own() - 1 / 3) * 0.9**place, atol=1e-6)
    refused = gateway.predict(*rows_of(made))
    assert refused.status_code == 400
    assert "correlation ID" in refused.json()["detail"]
    (answer,) = predict(gateway.workspace, release, rows_of(made))
    assert list(answer.model_dump()["probabilities"].values()) == pytest.approx(made.own()[0].tolist(), abs=1e-6)


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """The kind of each event as it comes, and what it says."""
    kind = ""
    for line in answer.iter_lines():
        name, _, text = line.partition(": ")
        if name == "event":
            kind = text
        elif name == "data":
            yield kind, json.loads(text)
            kind = ""


def all_events(gateway: Running, path: str, asked: Any, **headers: str) -> list[tuple[str, dict[str, Any]]]:
    with gateway.client.stream("POST", path, json=asked, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        told = list(events(answer))
    receipts = {said["receipt"] for _, said in told if "receipt" in said}
    assert receipts <= {answer.headers["Trilha-Receipt"]}
    return told


def numbers(said: dict[str, Any]) -> list[list[float]]:
    return [list(row["probabilities"].values()) for row in said["answers"]]


def test_several_answers(released: Released, start: Start) -> None:
    """A stream has each answer, for any number of rows and with gaps in them; `predict` has the last, here and there."""
    release, made = released("Steps", **SEVERAL)
    gateway = start()
    rows, own = [*rows_of(made), rows_of(made)[0] | {"weight": None}], made.own()[0]
    told = all_events(gateway, STREAM, {"rows": rows})
    assert [kind for kind, _ in told] == ["", "", "end"]
    assert told[-1][1] == {"answers": 2}
    np.testing.assert_allclose(numbers(told[0][1]), np.full((2, 3), 1 / 3), atol=1e-6)
    np.testing.assert_allclose(numbers(told[1][1])[0], own, atol=1e-6)
    assert told[1][1] == gateway.predict(*rows).json() | {"receipt": told[1][1]["receipt"]}
    (answer,) = predict(gateway.workspace, release, rows_of(made))
    assert list(answer.model_dump()["probabilities"].values()) == pytest.approx(own.tolist(), abs=1e-6)
    described = gateway.client.get("/openapi.json").json()["paths"][STREAM]["post"]
    assert list(described["responses"]["200"]["content"]) == ["text/event-stream"]


def test_several_answers_over_v2(released: Released, start: Start) -> None:
    """`generate_stream` has the outputs by name, as Triton's own; `infer` has one answer, and names it."""
    release, made = released("Steps", **SEVERAL)
    gateway = start()
    (row,) = rows_of(made)
    for path in (GENERATE, f"/v2/models/{PROJECT}/versions/{release.number}/generate_stream"):
        (_, first), (_, second), (kind, _) = all_events(gateway, path, row)
        assert (first["model_name"], first["model_version"], kind) == (PROJECT, str(release.number), "end")
        np.testing.assert_allclose(second["probabilities"], made.own()[0], atol=1e-6)
    inputs = [
        {
            "name": name,
            "datatype": "BYTES" if array.dtype == object else "FP32",
            "shape": [1, 1],
            "data": array.tolist(),
        }
        for name, array in made.row().items()
    ]
    refused = gateway.client.post(f"/v2/models/{PROJECT}/infer", json={"inputs": inputs})
    assert (refused.status_code, GENERATE in refused.json()["accepted"]) == (501, True)


def test_one_answer_as_a_stream(start: Start) -> None:
    """A model that has one answer has a stream of one."""
    gateway = start()
    row = gateway.client.get(f"/v1/projects/{PROJECT}").json()["example"]
    (_, said), (kind, _) = all_events(gateway, STREAM, {"rows": [row]})
    assert kind == "end"
    assert said["answers"] == gateway.predict(row).json()["answers"]


def test_answers_come_as_they_are_made(released: Released, start: Start) -> None:
    """The first one does not wait for the others; who leaves frees the gateway's only place for the next one."""
    _, made = released("Endless", **SEVERAL, instance_group=[{"count": 2}])
    gateway = start(limits={"connections": 1})
    for _ in range(2):
        begun = time.monotonic()
        with gateway.client.stream("POST", STREAM, json={"rows": rows_of(made) * 3}) as answer:
            told = events(answer)
            assert [next(told)[0] for _ in range(3)] == ["", "", ""]
        assert time.monotonic() - begun < 5  # of 6 s that it takes to say all


def test_a_late_answer(released: Released, start: Start) -> None:
    """Each answer has the time that the profile gives to one: a later one that is late is the stream's last event."""
    _, made = released("Halting", **SEVERAL)
    gateway = start(limits={"seconds": 1.0})
    _, (kind, said) = all_events(gateway, STREAM, {"rows": rows_of(made) * 3})
    assert (kind, said["status"]) == ("error", 504)


@pytest.mark.parametrize("kind", ["Breaking", "Broken"])
def test_what_a_part_raises(released: Released, start: Start, kind: str) -> None:
    """Before the first answer it is the request's status, later an event; the next request is answered."""
    _, made = released(kind, **SEVERAL)
    gateway = start()
    if kind == "Broken":
        refused = gateway.client.post(STREAM, json={"rows": rows_of(made) * 3})
        assert refused.status_code == 502
        assert refused.json()["detail"].endswith("it broke at once")
    else:
        _, (event, said) = all_events(gateway, STREAM, {"rows": rows_of(made) * 3})
        assert (event, said["status"]) == ("error", 502)
        assert said["detail"].endswith("it broke in the middle")
    assert gateway.predict(*rows_of(made)).status_code == 200


def test_streams_are_guarded(released: Released, start: Start) -> None:
    """By keys and their scopes, by the size of a request, by the model's columns, and by how often one may ask."""
    _, made = released("Steps", **SEVERAL)
    gateway = start(authentication=True, limits={"body": 2000, "rate": 0.01, "burst": 6})
    key, reader = key_of(gateway, f"predict:{PROJECT}"), key_of(gateway, f"read:{PROJECT}", name="reader")
    asked = {STREAM: {"rows": rows_of(made)}, GENERATE: rows_of(made)[0]}
    for path, body in asked.items():

        def status(content: Any, path: str = path, **headers: str) -> int:
            return gateway.client.post(path, json=content, headers=headers).status_code

        assert status(body) == 401
        assert status(body, **reader) == 403
        assert status(body | {"more": "x" * 2000}, **key) == 413
        assert status(body | {"more": 1}, **key) == 422
        assert status(body, **key) == 200
    assert status(body, **key) == 429
    assert gateway.client.get(STREAM, headers=reader).status_code == 405
