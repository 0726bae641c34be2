"""Requests that belong together, and requests with several answers: a class of the project's own, in the real Triton."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from components.answers import NUMBERS
from components.errors import GateError
from components.export import export
from components.ledger import running_as
from components.model_inputs import frame_to_tensors
from components.project import Serve
from components.qualify import qualify
from components.records import Bundle, digest
from components.serve_settings import Triton
from components.serving import bring_up, take_down
from components.workspace import Workspace
from tests.components.test_frameworks import candidate_from, pre_of, prepared_for, trial_on
from tests.components.test_python_part import allowed, imported
from tests.triton import Fitted, candidate_in
from tests.triton import Triton as Server

pytestmark = pytest.mark.slow

SOURCE = '''
import numpy as np


class Fading:
    """Scores that lose a tenth of their certainty with each further request of a sequence."""

    width = 3

    def __init__(self, weights):
        self.weights = weights
        self.seen = {}

    def state(self):
        return {"weights": self.weights}

    def certain(self, tensors):
        raw = np.exp(np.tanh(tensors["features"][:, :1] * self.weights[None]))
        return raw / raw.sum(axis=1, keepdims=True)

    def __call__(self, tensors):
        scores = self.certain(tensors)
        if "CORRID" not in tensors:
            return scores
        for row, (name, start, end) in enumerate(zip(tensors["CORRID"].ravel(), tensors["START"].ravel(), tensors["END"].ravel())):
            seen = 0 if start else self.seen.get(name, 0)
            scores[row] = 1 / 3 + (scores[row] - 1 / 3) * 0.9**seen
            self.seen[name] = seen + 1
            if end:
                self.seen.pop(name)
        return scores


class Steps(Fading):
    """A first guess at once, and then what was learned."""

    def __call__(self, tensors):
        yield np.full((len(tensors["features"]), 3), 1 / 3)
        yield self.certain(tensors)
'''


class Made:
    """Bundles of a class on the real server, with what makes them."""

    def __init__(self, workspace: Workspace, kind: str, folder: Path, source: str = SOURCE) -> None:
        self.workspace = workspace
        module = imported(folder / "fading.py", source)
        self.run = allowed(trial_on(workspace, prepared_for(workspace, "multiclass"), folder / "out"), module)
        self.pre = pre_of(self.run)
        self.part = getattr(module, kind)(np.array([1.0, -1.0, 0.5]))
        self.run.save(pre=self.pre, model=self.part)

    def bundle(self, serve: Serve) -> Bundle:
        with running_as(digest(serve)):
            return export(
                "small", self.workspace.name, candidate_from(self.workspace, self.run), self.run.spec.prepared, serve
            )

    def row(self) -> dict[str, Any]:
        return {name: array[:1] for name, array in frame_to_tensors(self.run.test, self.run.features).items()}

    def own(self) -> np.ndarray:
        return self.run.answers(self.pre, self.part, self.run.test).numbers()[:1]


def serve(**settings: Any) -> Serve:
    return Serve(golden=24, p99_ms=5000, triton=Triton(**settings))


def tensors_of(row: dict[str, Any]) -> list[InferInput]:
    tensors = []
    for name, array in row.items():
        tensors.append(InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        tensors[-1].set_data_from_numpy(array)
    return tensors


@pytest.fixture
def client(triton: Server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(triton.address) as opened:
        yield opened


@pytest.mark.parametrize(
    "how",
    [
        {"direct": {}},
        {"oldest": {"max_candidate_sequences": 8, "preferred_batch_size": [4], "max_queue_delay_microseconds": 100}},
    ],
    ids=["direct", "oldest"],
)
def test_a_part_remembers_a_sequence(
    served: Workspace, tmp_path: Path, client: InferenceServerClient, how: dict[str, Any]
) -> None:
    """Each row alone is answered as in the notebook; in a sequence the part knows what came before, in this one only."""
    made = Made(served, "Fading", tmp_path)
    wanted = serve(
        sequence_batching={**how, "max_sequence_idle_microseconds": 5_000_000}, instance_group=[{"count": 2}]
    )
    bundle = made.bundle(wanted)
    assert qualify(served.name, bundle, wanted).difference <= 1e-6
    tensors, own = tensors_of(made.row()), made.own()
    for place in range(3):
        for name in (7, 8):
            answer = client.infer(
                bundle.model, tensors, sequence_id=name, sequence_start=place == 0, sequence_end=place == 2
            ).as_numpy(NUMBERS["multiclass"])
            np.testing.assert_allclose(answer, 1 / 3 + (own - 1 / 3) * 0.9**place, atol=1e-6)
    take_down(served.server, bundle.model)


def test_a_request_with_several_answers(served: Workspace, tmp_path: Path, client: InferenceServerClient) -> None:
    """A generator's answers come one by one through the ensemble; the last is what the notebook said."""
    made = Made(served, "Steps", tmp_path)
    wanted = serve(model_transaction_policy={"decoupled": True})
    bundle = made.bundle(wanted)
    assert qualify(served.name, bundle, wanted).difference <= 1e-6
    came: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: came.put(error or result.as_numpy(NUMBERS["multiclass"])))
    client.async_stream_infer(bundle.model, tensors_of(made.row()))
    first, second = (came.get(timeout=20) for _ in range(2))
    client.stop_stream()
    np.testing.assert_allclose(first, 1 / 3, atol=1e-6)
    np.testing.assert_allclose(second, made.own(), atol=1e-6)
    take_down(served.server, bundle.model)


def test_sequences_and_several_answers(served: Workspace, tmp_path: Path) -> None:
    """Both at once hold as well."""
    made = Made(served, "Steps", tmp_path)
    wanted = serve(model_transaction_policy={"decoupled": True}, sequence_batching={"oldest": {}})
    bundle = made.bundle(wanted)
    assert qualify(served.name, bundle, wanted).difference <= 1e-6
    take_down(served.server, bundle.model)


def test_what_a_part_raises_is_the_answer(served: Workspace, tmp_path: Path) -> None:
    """A stream whose part fails ends with its words, and the next request is answered."""
    made = Made(served, "Steps", tmp_path)
    wanted = serve(model_transaction_policy={"decoupled": True})
    bundle = made.bundle(wanted)
    bring_up(served, bundle)
    row = made.row()
    broken = {
        name: np.concatenate([array, array])[:0] if array.dtype == object else array for name, array in row.items()
    }
    with pytest.raises(GateError):
        served.server.infer(bundle.model, broken, settings=bundle.triton)
    assert served.server.infer(bundle.model, row, settings=bundle.triton)
    take_down(served.server, bundle.model)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"sequence_batching": {}}, "sequence_batching"),
        ({"model_transaction_policy": {"decoupled": True}}, r"model_transaction_policy\.decoupled"),
    ],
)
def test_a_graph_does_neither(served: Workspace, fitted: Fitted, settings: dict[str, Any], name: str) -> None:
    """Of a graph it is refused by name before anything is made."""
    with running_as("f" * 64), pytest.raises(GateError, match=rf"serve\.triton\.{name}: `model` is a graph"):
        export("flights", "test", *candidate_in(served, fitted), serve(**settings))
