"""A lifecycle whose table is in a database: what is new is brought in, and where nothing is, nothing runs."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import yaml

from components.runs import RunLog
from components.workspace import open_workspace
from flows.execute import execute, lifecycle_of
from flows.plan import plan

TABLE = "CREATE TABLE parcels (id INT, sent DATE, city TEXT, distance REAL, weight REAL, late INT)"


def in_a_database(small: Path) -> Path:
    """Have the project `small` read its parcels from a database, which has all but the last ten; returns its file."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    project = yaml.safe_load(path.read_text())
    project["sources"] = {"parcels": {"sql": {"connection": "shop", "table": "parcels", "watermark": "id"}}}
    path.write_text(yaml.safe_dump(project))
    profile = small / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text() + "connections: {shop: {url: 'sqlite:///shop.db'}}\n")
    open_workspace.cache_clear()
    insert(small, slice(0, -10), TABLE)
    return small / "shop.db"


def insert(small: Path, some: slice, first: str = "SELECT 1") -> None:
    with (small / "data" / "parcels.csv").open() as file, closing(sqlite3.connect(small / "shop.db")) as connection:
        connection.execute(first)
        rows = [[value or None for value in row] for row in list(csv.reader(file))[1:][some]]
        connection.executemany("INSERT INTO parcels VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.commit()


def actions(step: str = "prepare") -> dict[str, str]:
    workspace = open_workspace("test")
    return {one.name: one.action for one in plan(lifecycle_of("small", "test", step), workspace, "small")}


def test_a_table_in_a_database(small: Path) -> None:
    """Twice the same watermark is nothing to do; ten rows more, and the lifecycle has them all and wrote but those."""
    in_a_database(small)
    execute(lifecycle_of("small", "test", "prepare"), project="small", profile="test", engine="local")
    assert set(actions().values()) == {"look", "found"}
    store = open_workspace("test").store
    before = {entry.path: entry.sha256 for entry in store.ls("main", "small")}
    execute(lifecycle_of("small", "test", "prepare"), project="small", profile="test", engine="local")
    log = RunLog(open_workspace("test"))
    assert {state.status for name, state in log.nodes(log.ids()[0]).items() if name != "observe"} == {"found"}

    insert(small, slice(-10, None))
    assert actions()["ingest"] == "run"
    execute(lifecycle_of("small", "test", "prepare"), project="small", profile="test", engine="local")
    after = {entry.path: entry.sha256 for entry in store.ls("main", "small")}
    assert len(after) == 3
    assert after["small/parcels/part-00000.parquet"] == before["small/parcels/part-00000.parquet"]
    ingested = log.nodes(log.ids()[0])["ingest"].key
    assert ingested is not None
    found = open_workspace("test").ledger.read(ingested.digest)
    assert found is not None
    assert found.output["tables"] == {"parcels": 2000}
