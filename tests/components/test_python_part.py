"""A class of a project's own in the place of a graph: from fit to prediction in the real Triton, without a pickle."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from components import python_part
from components.adapters.onnx_build import tensor
from components.adapters.onnx_graphs import run_graphs
from components.answers import NUMBERS
from components.config import load_project
from components.errors import ConfigError
from components.export import export
from components.ledger import running_as
from components.model_inputs import frame_to_tensors
from components.project import Serve
from components.qualify import qualify
from components.serving import take_down
from components.trial import TrialRun
from components.workspace import Workspace
from tests.components.test_frameworks import candidate_from, pre_of, prepared_for, trial_on

SOURCE = '''
"""Scores by the nearest of a few rows."""
import numpy as np


class Nearest:
    """The classes of the nearest rows, by distance."""

    def __init__(self, rows, classes, names):
        self.rows, self.classes, self.names = rows, classes, names
        self.width = len(names)

    def state(self):
        return {"rows": self.rows, "classes": self.classes, "names": self.names}

    def __call__(self, tensors):
        features = tensors["features"].astype(np.float64)
        near = np.exp(-((features[:, None, :] - self.rows[None]) ** 2).sum(axis=2)) + 1e-9
        scores = near @ (self.classes[:, None] == np.arange(self.width)[None])
        return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


class Hidden(Nearest):
    """One whose state is an object."""

    def state(self):
        return {"rows": np.array([object()])}
'''


@pytest.fixture
def module(tmp_path: Path) -> Any:
    """The project's module, as a notebook imports it."""
    return imported(tmp_path / "nearest.py", SOURCE)


def imported(path: Path, source: str) -> Any:
    """A module as a notebook imports it."""
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    sys.modules[path.stem] = found  # `inspect` looks a class' file up by its module
    return found


def nearest(module: Any, run: TrialRun, pre: Any, kind: str = "Nearest") -> Any:
    rows = np.asarray(pre.transform(run.inputs(run.train)), dtype=np.float64)[:40]
    return getattr(module, kind)(rows, run.places(run.train)[:40], np.array(run.classes))


def allowed(run: TrialRun, module: Any) -> TrialRun:
    return TrialRun(run.spec.model_copy(update={"modules": (module.__file__,)}))


@pytest.mark.slow
def test_from_fit_to_prediction(served: Workspace, tmp_path: Path, module: Any) -> None:
    """What Triton answers is what the class itself answers, on every row of the test split; nothing in it is pickled."""
    run = allowed(trial_on(served, prepared_for(served, "multiclass"), tmp_path / "out"), module)
    pre = pre_of(run)
    model = nearest(module, run, pre)
    run.save(pre=pre, model=model)
    folder = Path(run.spec.folder)
    assert sorted(path.name for path in folder.iterdir() if path.suffix in {".onnx", ".zip"}) == [
        "model.zip",
        "post.onnx",
        "pre.onnx",
    ]
    with zipfile.ZipFile(folder / "model.zip") as kept:
        assert kept.read("part.py").decode() == SOURCE
    candidate = candidate_from(served, run)
    serve = Serve(golden=48, p99_ms=5000)
    with running_as("e" * 64):
        bundle = export("small", served.name, candidate, run.spec.prepared, serve)
        with pytest.raises(ConfigError, match=r"`model` is a Python class; accepted: ensemble"):
            export("small", served.name, candidate, run.spec.prepared, Serve(join="fused"))
    qualify(served.name, bundle, serve)
    inputs = frame_to_tensors(run.test, run.features)
    answers = served.server.infer(bundle.model, inputs)
    take_down(served.server, bundle.model)
    own = run.answers(pre, model, run.test)
    np.testing.assert_allclose(answers[NUMBERS["multiclass"]], own.numbers(), atol=1e-6)
    assert answers["label"].ravel().tolist() == own.columns()["label"]


def test_same_part_same_bytes(tmp_path: Path, module: Any) -> None:
    """Kept again, a part is the same file."""
    part = module.Nearest(np.zeros((2, 3)), np.array([0, 1]), np.array(["a", "b"]))
    given = [tensor("features", TensorProto.FLOAT, 3)]
    for name in ("one.zip", "two.zip"):
        python_part.keep(part, given, "scores", [Path(module.__file__)], tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    again = run_graphs([tmp_path / "one.zip"], {"features": np.zeros((4, 3), dtype=np.float32)})
    np.testing.assert_array_equal(again["scores"], part({"features": np.zeros((4, 3), dtype=np.float32)}))


def test_only_what_the_project_names(tmp_path: Path, module: Any) -> None:
    """A class of a file that project.yaml does not name is refused, and so is one whose state is more than arrays."""
    part = module.Nearest(np.zeros((2, 3)), np.array([0, 1]), np.array(["a", "b"]))
    hidden = module.Hidden(np.zeros((2, 3)), np.array([0, 1]), np.array(["a", "b"]))
    given = [tensor("features", TensorProto.FLOAT, 3)]
    with pytest.raises(
        ConfigError, match=r"nearest\.py, which project\.yaml does not name.*modules: \[notebooks/nearest"
    ):
        python_part.keep(part, given, "scores", [], tmp_path / "it.zip")
    with pytest.raises(ConfigError, match="state 'rows' is no array"):
        python_part.keep(hidden, given, "scores", [Path(module.__file__)], tmp_path / "it.zip")
    assert not (tmp_path / "it.zip").exists()


def test_not_inside_a_list(tmp_path: Path, workspace: Workspace, module: Any) -> None:
    """In a list, where parts become one graph, a Python class is refused with the place that it may take."""
    run = allowed(trial_on(workspace, prepared_for(workspace, "multiclass"), tmp_path / "out"), module)
    pre = pre_of(run)
    with pytest.raises(ConfigError, match="a place of its own, `pre` or `model`"):
        run.save(pre=pre, model=[nearest(module, run, pre)])


def test_modules_of_a_project(small: Path) -> None:
    """A module is a file beside the notebook; its content is part of what the trial step's key is made of."""
    settings = small / "config" / "projects" / "small" / "project.yaml"
    settings.write_text(settings.read_text() + "modules: [notebooks/rules.py]\n")
    with pytest.raises(ConfigError, match=r"module 'notebooks/rules\.py'; accepted: a Python file beside"):
        load_project("small")
    (small / "notebooks" / "rules.py").write_text("a = 1\n")
    first = load_project("small").notebook
    (small / "notebooks" / "rules.py").write_text("a = 2\n")
    assert load_project("small").notebook != first
    settings.write_text(settings.read_text().replace("notebooks/rules.py", "../rules.py"))
    with pytest.raises(ConfigError, match="module '../rules.py'"):
        load_project("small")
