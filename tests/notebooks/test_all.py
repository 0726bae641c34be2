"""What every project's notebook keeps to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest

from components.config import load_project
from components.workspace import Workspace

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def cells(path: Path) -> list[tuple[str, str, Any]]:
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in jupytext.read(path).cells]


def test_one_a_project() -> None:
    """Each project has its notebook, and each notebook its project."""
    projects = {path.parent.name for path in (ROOT / "config" / "projects").glob("*/project.yaml")}
    assert {path.stem for path in NOTEBOOKS} == projects


@each
def test_pair(path: Path) -> None:
    """The notebook and its paired script hold the same cells; `jupytext --sync` brings them back in step."""
    assert cells(path) == cells(path.with_suffix(".py"))


@each
def test_committed_without_outputs(path: Path) -> None:
    """Outputs are made anew for each trial, and kept with it."""
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@each
def test_defines_nothing(path: Path) -> None:
    """A notebook tells and calls; what is worth a name is in `components`."""
    assert not any("def " in source or "class " in source for kind, source, _ in cells(path) if kind == "code")


@each
def test_parameters(repository: Path, workspace: Workspace, path: Path) -> None:
    """The cell tagged `parameters` has a default for everything that the search varies, and one for `spec`."""
    name = path.stem
    shutil.copytree(ROOT / "config" / "projects" / name, repository / "config" / "projects" / name)
    shutil.copytree(ROOT / "notebooks", repository / "notebooks")
    tagged = [source for _, source, tags in cells(path) if "parameters" in tags]
    defaults: dict[str, object] = {}
    exec("\n".join(tagged), defaults)
    spaces = load_project(name).file.search.spaces
    assert {axis for space in spaces for axis in space} | {"spec"} == set(defaults) - {"__builtins__"}
