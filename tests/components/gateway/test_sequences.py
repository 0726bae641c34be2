"""Sequences and several answers behind the gateway: what goes through, and what is said where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from tests.components.gateway.conftest import PROJECT, Start
from tests.components.test_sequences import Made

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gateway")]

Released = Callable[..., tuple[Release, Made]]
"""Makes a release of a class, with settings, that serves."""


@pytest.fixture
def released(served: Workspace, behind: Release, tmp_path: Path) -> Any:
    """Makes a second release whose model is a class of the project's own, and lets it serve."""

    def make(kind: str, **settings: Any) -> tuple[Release, Made]:
        made = Made(served, kind, tmp_path)
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


def test_several_answers(released: Released, start: Start) -> None:
    """The gateway has one answer for a request, and says so; `trilha predict` gives the last one."""
    release, made = released("Steps", model_transaction_policy={"decoupled": True})
    gateway = start()
    refused = gateway.predict(*rows_of(made))
    assert refused.status_code == 501
    assert refused.json()["accepted"] == "Triton's gRPC stream"
    (answer,) = predict(gateway.workspace, release, rows_of(made))
    assert list(answer.model_dump()["probabilities"].values()) == pytest.approx(made.own()[0].tolist(), abs=1e-6)
