"""Load on a real Triton. How fast it is decides nothing here."""

from __future__ import annotations

import shutil
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.adapters.triton_load import Question, by_ourselves, by_wrk, load, question
from components.errors import UnavailableError
from components.golden import features_of
from components.model_inputs import to_tensors
from components.records import Bundle
from components.serving import bring_up
from components.workspace import Workspace
from tests.triton import Fitted, Triton, free_ports, release_of

GENERATORS = [
    pytest.param(by_ourselves, id="ours"),
    pytest.param(by_wrk, id="wrk", marks=pytest.mark.skipif(not shutil.which("wrk"), reason="no wrk on PATH")),
]


@pytest.fixture
def bundle(served: Workspace, fitted: Fitted) -> Bundle:
    made = release_of(served, fitted).bundle
    bring_up(served, made)
    return made


@pytest.fixture
def questions(served: Workspace, bundle: Bundle) -> list[Question]:
    golden = pq.read_table(served.artifacts.local(bundle.golden))
    inputs = to_tensors(golden, features_of(golden, bundle.task))
    return [question({name: array[row : row + 1] for name, array in inputs.items()}) for row in range(golden.num_rows)]


@pytest.mark.parametrize("generator", GENERATORS)
def test_questions_are_answered(triton: Triton, bundle: Bundle, questions: list[Question], generator: Any) -> None:
    """Each row is a question that the server answers, from all clients, and the generator's own cost is told."""
    done = generator(triton.http, f"/v2/models/{bundle.model}/infer", questions, 4, 0.3)
    assert done.answers > len(questions)
    assert done.failed == 0
    assert 0 < done.p50_ms <= done.p99_ms
    assert 0 < done.cpu
    assert 0.3 <= done.seconds


@pytest.mark.parametrize("generator", GENERATORS)
def test_refusals_are_counted(triton: Triton, questions: list[Question], generator: Any) -> None:
    """What the server refuses is no answer."""
    done = generator(triton.http, "/v2/models/nobody/infer", questions, 2, 0.2)
    assert done.answers == 0
    assert done.failed > 0


def test_nobody_answers(triton: Triton, questions: list[Question]) -> None:
    """Neither a model that is not there nor a server that is not there makes a measurement."""
    with pytest.raises(UnavailableError, match="answers no request for nobody"):
        load(triton.http, "nobody", questions, 1, 0.1)
    (port,) = free_ports(1)
    with pytest.raises(UnavailableError):
        load(f"127.0.0.1:{port}", "nobody", questions, 1, 0.1)
