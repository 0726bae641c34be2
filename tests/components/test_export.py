from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.errors import GateError
from components.export import export
from components.project import Serve
from components.records import Bundle, digest
from components.workspace import Workspace
from tests.triton import Fitted, candidate_in, fit


def exported(workspace: Workspace, fitted: Fitted, target: str = "auto") -> Bundle:
    candidate, prepared = candidate_in(workspace, fitted)
    return export("flights", "test", candidate, prepared, Serve(target=target, golden=32))


@pytest.mark.usefixtures("as_step")
def test_same_inputs_same_bundle(workspace: Workspace, fitted: Fitted) -> None:
    """Exported again, a bundle has the same bytes throughout."""
    first, second = exported(workspace, fitted), exported(workspace, fitted)
    assert digest(first) == digest(second)
    assert first == second


@pytest.mark.usefixtures("as_step")
def test_the_name_carries_what_it_does(workspace: Workspace, fitted: Fitted, tmp_path: Path) -> None:
    """Another graph or another target is another model; every model's name begins with the bundle's."""
    (tmp_path / "other").mkdir()
    bundles = [
        exported(workspace, fitted),
        exported(workspace, fitted, "full"),
        exported(workspace, fit(tmp_path / "other", seed=1)),
    ]
    assert len({bundle.model for bundle in bundles}) == 3
    for bundle in bundles:
        assert bundle.model == f"flights-{bundle.digest[:12]}"
        assert all(path.startswith(bundle.model) for path in bundle.files)


@pytest.mark.usefixtures("as_step")
def test_targets_differ_in_the_backend_only(workspace: Workspace, fitted: Fitted) -> None:
    """Both targets carry the trial's own graphs; only `auto` brings a model file."""
    auto, full = exported(workspace, fitted), exported(workspace, fitted, "full")
    graphs = {
        target: {path.removeprefix(bundle.model): file.sha256 for path, file in bundle.files.items() if "onnx" in path}
        for target, bundle in (("auto", auto), ("full", full))
    }
    assert graphs["auto"] == graphs["full"]
    assert len(graphs["auto"]) == 3
    assert sum(path.endswith("model.py") for path in auto.files) == 3
    assert not any(path.endswith(".py") for path in full.files)


@pytest.mark.usefixtures("as_step")
def test_graphs_in_the_wrong_place(workspace: Workspace, fitted: Fitted, tmp_path: Path) -> None:
    """Graphs that were mixed up are refused before any server sees them."""
    graphs = shutil.copytree(fitted.graphs, tmp_path / "graphs")
    shutil.copy(graphs / "model.onnx", graphs / "post.onnx")
    mixed = Fitted(fitted.pre, fitted.model, fitted.test, fitted.predictions, graphs)
    with pytest.raises(GateError, match=r"post\.onnx takes 'features', which model\.onnx lacks"):
        exported(workspace, mixed)
