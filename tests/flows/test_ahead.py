"""What later steps need is got ready only where they will run."""

from __future__ import annotations

import pytest

from components.runs import NodeState
from flows import ahead
from flows.dag import Do, trace


def ingest() -> int:
    return 1


def validate(raw: int) -> int:
    return raw


def both(do: Do) -> int:
    return do(validate, do(ingest))


def only_ingest(do: Do) -> int:
    return do(ingest)


def state(step: str, status: str) -> NodeState:
    return NodeState.model_validate({"name": step, "step": f"module:{step}", "needs": (), "status": status})


@pytest.mark.parametrize(
    ("dag", "states", "expected"),
    [
        (both, [("ingest", "running"), ("ingest", "running"), ("ingest", "done")], 1),
        (both, [("ingest", "found"), ("validate", "running")], 0),
        (only_ingest, [("ingest", "running")], 0),
    ],
    ids=["once, when it begins to run", "not for what the ledger had", "not for a step that is not in the DAG"],
)
def test_got_ready(monkeypatch: pytest.MonkeyPatch, dag: object, states: list[tuple[str, str]], expected: int) -> None:
    """Each change reaches the run's own watcher all the same."""
    ready: list[str] = []
    monkeypatch.setattr(ahead, "AHEAD", {"ingest": ("validate", lambda: ready.append("validate"))})
    told: list[NodeState] = []
    watch = ahead.getting_ready(trace(dag), told.append)  # type: ignore[arg-type]
    for step, status in states:
        watch(state(step, status))
    assert len(ready) == expected
    assert len(told) == len(states)
