"""tune on the real Triton, with moments instead of seconds; no number that it measures decides a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from components import config, tune_search
from components.errors import GateError, NotFoundError
from components.export import export
from components.ledger import running_as
from components.qualify import qualify
from components.records import Release
from components.serve_settings import Triton
from components.serving import serve
from components.tune import tune
from components.tune_search import Tried
from components.tuned import FILE, Knobs, knobs_of
from components.workspace import Workspace
from tests.conftest import place_small
from tests.triton import Fitted, candidate_in, release_of

PROJECT = "small"
MOMENT = 0.05


@pytest.fixture
def serves(served: Workspace, repository: Path, fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A release of `small` that serves; loads are made by ourselves, whose moments are shorter than wrk's seconds."""
    place_small(repository)
    release = release_of(served, fitted, PROJECT)
    serve(served, release.bundle, PROJECT)
    monkeypatch.setattr("components.adapters.triton_load.shutil.which", lambda name: None)
    monkeypatch.setattr(tune_search, "CLIENTS", (1, 8, 16))
    monkeypatch.setattr(tune_search, "LADDERS", {"instances": (1, 2), "preferred_batch_size": (0, 8)})
    return release


def ours(workspace: Workspace) -> set[str]:
    return {model for model in workspace.server.loaded() if model.startswith(PROJECT)}


def test_what_is_found_is_what_the_next_release_has(
    served: Workspace, repository: Path, serves: Release, fitted: Fitted
) -> None:
    """Whatever the measurements say: what is chosen is drawn, written where it differs, exported and qualified."""
    before = ours(served)
    said: list[Tried] = []
    found = tune(served, PROJECT, 60_000, 60, said.append, rows=3, point_seconds=MOMENT)
    assert ours(served) == before
    assert {one.knobs.instances for one in found.outcome.tried} == {1, 2}
    assert not any(one.refused for one in found.outcome.tried)
    assert len(said) == len(found.outcome.tried) + len(found.outcome.finals)
    assert [point.clients for point in found.chosen.points] == [1, 8, 16]
    assert all(point.failed == 0 and point.cost_us > 0 for one in said for point in one.points)
    tuned = config.load_project(PROJECT).file.serve
    assert knobs_of(tuned.triton) == found.chosen.knobs
    assert (found.file is not None) == (found.chosen.knobs != Knobs())
    quick = tuned.model_copy(update={"golden": 16, "p99_ms": 60_000.0})
    with running_as("e" * 64):
        bundle = export(PROJECT, "test", *candidate_in(served, fitted), quick)
    assert bundle.triton == tuned.triton
    assert qualify("test", bundle, quick).difference <= 1e-6


def test_it_is_drawn(served: Workspace, serves: Release) -> None:
    """The picture and the page are whole by themselves: a line for each that was weighed, the budget, every number."""
    found = tune(served, PROJECT, 60_000, 60, point_seconds=MOMENT)
    picture = served.artifacts.local(found.picture).read_text()
    assert ET.fromstring(picture).tag.endswith("svg")
    page = served.artifacts.local(found.page).read_text()
    for one in found.outcome.finals:
        assert str(one.knobs) in picture
        assert str(one.knobs) in page
    assert "p99 60000 ms" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_a_budget_that_nothing_holds(served: Workspace, serves: Release) -> None:
    """It is said in plain words with the best that was seen, and nothing is written."""
    with pytest.raises(
        GateError, match=r"no settings hold a p99 of 0\.001 ms: the best of \d+ is \d+\.\d ms \("
    ) as caught:
        tune(served, PROJECT, 0.001, 5, point_seconds=MOMENT)
    assert "accepted: a budget above" in str(caught.value)
    assert not (config.project_folder(PROJECT) / FILE).exists()


@pytest.mark.long
def test_what_project_yaml_sets_is_not_searched(served: Workspace, serves: Release) -> None:
    """A person's own number of instances stays; so do warm-up and priorities while it is searched."""
    path = config.project_folder(PROJECT) / "project.yaml"
    project = yaml.safe_load(path.read_text())
    batching = {"priority_levels": 2, "default_priority_level": 1}
    project["serve"]["triton"] = {"instance_group": [{"count": 2}], "dynamic_batching": batching, "response_cache": {}}
    path.write_text(yaml.safe_dump(project))
    found = tune(served, PROJECT, 60_000, 60, point_seconds=MOMENT)
    assert {one.knobs.instances for one in found.outcome.tried} == {2}
    after = config.load_project(PROJECT).file.serve.triton
    assert after.instance_group == Triton(**project["serve"]["triton"]).instance_group
    assert after.response_cache


def test_settings_that_do_not_load(served: Workspace, serves: Release) -> None:
    """Where the server takes none of them, that is said in its words."""
    path = config.project_folder(PROJECT) / "project.yaml"
    project = yaml.safe_load(path.read_text())
    project["serve"]["triton"] = {"instance_group": [{"kind": "gpu", "gpus": [0]}]}
    path.write_text(yaml.safe_dump(project))
    before = ours(served)
    with pytest.raises(GateError, match=r"nothing could be measured: .*[Gg][Pp][Uu]"):
        tune(served, PROJECT, 60_000, 60, point_seconds=MOMENT)
    assert ours(served) == before


def test_without_a_release(served: Workspace, repository: Path) -> None:
    """There is nothing to tune before the first release."""
    place_small(repository)
    with pytest.raises(NotFoundError, match="has no release"):
        tune(served, PROJECT, 20)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"sequence_batching": {}}, "sequence_batching"),
        ({"model_transaction_policy": {"decoupled": True}}, "model_transaction_policy"),
    ],
)
def test_what_a_load_of_single_requests_cannot_ask(
    served: Workspace, serves: Release, settings: dict[str, Any], name: str
) -> None:
    """Sequences and several answers are refused by name, not measured as failures."""
    path = config.project_folder(PROJECT) / "project.yaml"
    project = yaml.safe_load(path.read_text())
    project["serve"]["triton"] = settings
    path.write_text(yaml.safe_dump(project))
    with pytest.raises(GateError, match=rf"serve\.triton\.{name}: the load is single requests"):
        tune(served, PROJECT, 60_000, 60, point_seconds=MOMENT)
