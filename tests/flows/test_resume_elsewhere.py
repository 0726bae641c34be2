"""A run begun on one engine and killed is finished on another: the ledger knows what is done, whoever did it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.runs import RunLog
from components.workspace import Workspace
from flows.services import down, ensure
from tests.flows.test_crash import EXPECTED, effects, outputs, run, undisturbed  # noqa: F401  # one is a fixture

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.xdist_group("prefect")]


@pytest.fixture
def ready(small: Path, on_prefect: Workspace) -> Iterator[Workspace]:
    """The project `small`, and the services that its lifecycle needs on every engine."""
    try:
        ensure(on_prefect, ["mlflow", "triton"])
        yield on_prefect
    finally:
        down(on_prefect)


def same_as_undisturbed(workspace: Workspace, undisturbed: dict[str, str]) -> None:  # noqa: F811
    """Every effect once, and the digests of a run that nobody disturbs."""
    assert effects(workspace) == EXPECTED
    assert outputs(workspace) == undisturbed


@pytest.mark.parametrize(("first", "second"), [("local", "prefect"), ("prefect", "local")])
def test_handed_on_at_every_kill(ready: Workspace, first: str, second: str, undisturbed: dict[str, str]) -> None:  # noqa: F811
    """Killed half-way through a step and between an effect and its record: the other engine goes on from there."""
    repository = Path.cwd()
    assert run(repository, "unrecorded", "publish", engine=first) == -signal.SIGKILL
    assert run(repository, "soon", "train-00", "0.15", engine=second) == -signal.SIGKILL
    assert run(repository, "unrecorded", "register", engine=first) == -signal.SIGKILL
    assert run(repository, engine=second) == 0

    same_as_undisturbed(ready, undisturbed)
    log = RunLog(ready)
    last, *earlier = log.ids()
    statuses = {name: state.status for name, state in log.nodes(last).items()}
    assert {name for name, status in statuses.items() if status == "done"} >= {"register", "release"}
    assert {name for name, status in statuses.items() if status == "found"} >= {"ingest", "prepare", "select"}
    assert [log.header(name).engine for name in [last, *earlier]] == [second, first, second, first]


def test_through_containers(ready: Workspace, in_containers: Path, undisturbed: dict[str, str]) -> None:  # noqa: F811
    """Begun on Prefect, gone on with in containers, whose engine is killed too, and finished on this machine."""
    assert run(in_containers, "unrecorded", "publish", engine="prefect") == -signal.SIGKILL
    assert run(in_containers, "soon", "train-00", "0.15", engine="kubeflow") == -signal.SIGKILL
    assert run(in_containers, engine="local") == 0
    same_as_undisturbed(ready, undisturbed)
    log = RunLog(ready)
    last, cut, _ = log.ids()
    statuses = {name: state.status for name, state in log.nodes(last).items()}
    assert statuses["publish"] == statuses["prepare"] == "found"
    assert {statuses[name] for name in ("select", "register", "release")} == {"done"}
    assert log.nodes(cut)["prepare"].status == "done"
