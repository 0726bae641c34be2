"""One node of a run that goes on elsewhere: what is refused before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.calls import PackedCall
from components.errors import ConflictError, DagError, NotFoundError, TrilhaError
from components.project import Policy
from components.runs import Header, NodeState, Run, RunLog, new_header
from components.workspace import open_workspace
from flows.engines.prefect_placed import do_here
from flows.execute import lifecycle_of
from flows.packing import packed


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flow run, so its log goes nowhere."""
    import logging

    monkeypatch.setattr("flows.engines.prefect_placed.get_run_logger", logging.getLogger)


def begun(name: str) -> tuple[PackedCall, Header]:
    """A node of `small`, and a run that has begun."""
    dag, header = lifecycle_of("small", "test"), new_header("lifecycle", "small", "test", "prefect")
    Run(open_workspace("test"), header).announce(dag.nodes)
    return packed(dag, dag[name]), header


def refused(call: PackedCall, header: Header, kind: type[TrilhaError], text: str) -> NodeState:
    with pytest.raises(kind, match=text):
        do_here(call, header)
    state: Any = RunLog(open_workspace("test")).node(header.id, call.name)
    assert (state.status, state.attempts, state.failure["error"]) == ("failed", 1, kind.__name__)
    return state


def test_another_notebook(small: Path) -> None:
    """A notebook with other cells than the run began with is refused, and the run's record says why."""
    call, header = begun("train-00")
    path = small / "notebooks" / "small.ipynb"
    content = json.loads(path.read_text())
    content["cells"][1]["source"] = "strength = 2.0"
    path.write_text(json.dumps(content))
    refused(call, header, ConflictError, "small.ipynb on .* is not the notebook that the run began with")


def test_a_run_that_is_not_known_here(small: Path) -> None:
    """A state that is not the run's own holds none of its records; the error says what to name in the profile."""
    call, header = begun("ingest")
    refused(call, header, NotFoundError, "has no step 'observe' in .*accepted: a `state` that every machine")


def test_resources_are_this_machines(small: Path) -> None:
    """What the policy asks for is looked for where the node runs."""
    call, header = begun("observe")
    greedy = call.model_copy(update={"policy": Policy(gpu=64)})
    refused(greedy, header, DagError, "step 'observe' asks for 64 GPUs")
