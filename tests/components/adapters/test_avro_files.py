"""Avro: every type as what it means, several files as one table, and damage told plainly."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest

from components.errors import ConfigError, GateError, TrilhaError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.records import Commit
from components.source_settings import Table
from components.workspace import Workspace, open_workspace

FIELDS = [
    {"name": "id", "type": "long"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
    {"name": "hour", "type": {"type": "long", "logicalType": "time-micros"}},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}},
    {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "side", "type": {"type": "enum", "name": "Side", "symbols": ["LEFT", "RIGHT"]}},
    {"name": "other", "type": ["null", "Side"]},
    {"name": "number", "type": ["null", "int", "double"]},
    {"name": "list", "type": {"type": "array", "items": "int"}},
    {"name": "map", "type": {"type": "map", "values": "string"}},
    {"name": "inner", "type": {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "float"}]}},
    {"name": "flag", "type": "boolean"},
]
ROW = {
    "id": 1, "at": datetime(2024, 1, 1, 12, tzinfo=UTC), "day": date(2024, 1, 2), "hour": time(3, 4), "price": Decimal("1.50"),
    "key": uuid.UUID(int=7), "side": "LEFT", "other": None, "number": 2, "list": [1, 2], "map": {"a": "b"},
    "inner": {"x": 0.5}, "flag": True,
}  # fmt: skip


def write(path: Path, *rows: dict[str, Any], fields: list[Any] = FIELDS, codec: str = "deflate") -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        schema = fastavro.parse_schema({"type": "record", "name": "Row", "namespace": "a.b", "fields": fields})
        fastavro.writer(file, schema, rows, codec=codec)


def run(path: str = "data/*.avro", **settings: Any) -> Commit:
    sources = {"rows": Table.model_validate({"path": path, **settings})}
    with running_as("1" * 64):
        return ingest("shop", "test", sources, observe("shop", "test", sources))


def read(commit: Commit) -> list[dict[str, Any]]:
    return pq.read_table(open_workspace("test").store.local(commit.id, "shop/rows/data.parquet")).to_pylist()


def refused(error: type[TrilhaError], **settings: Any) -> str:
    with pytest.raises(error) as caught:
        run(**settings)
    assert "table 'rows'" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_types(workspace: Workspace, repository: Path) -> None:
    """Logical types, enums that are named again, unions of numbers, lists, maps and records."""
    write(repository / "data" / "a.avro", ROW)
    (row,) = read(run())
    assert row == {**ROW, "key": str(uuid.UUID(int=7)), "number": 2.0, "map": [("a", "b")]}


def test_files_in_the_order_of_their_names(workspace: Workspace, repository: Path) -> None:
    """Packed or not, more rows than fit a batch; a declared type is made."""
    write(repository / "data" / "b.avro", {**ROW, "id": 99_999}, codec="null")
    write(repository / "data" / "a.avro", *({**ROW, "id": one} for one in range(25_000)))
    rows = read(run(columns={"id": "VARCHAR"}))
    assert [row["id"] for row in rows] == [*map(str, range(25_000)), "99999"]


def test_damage(workspace: Workspace, repository: Path) -> None:
    """A file that was cut off, and one that is none, by name."""
    path = repository / "data" / "a.avro"
    write(path, *({**ROW, "id": one} for one in range(5_000)))
    path.write_bytes(path.read_bytes()[:-1_000])
    assert "data/a.avro cannot be read as avro" in refused(GateError)
    path.write_text("id,at\n1,2\n")
    assert "data/a.avro cannot be read as avro" in refused(GateError)


def test_other_schemas(workspace: Workspace, repository: Path) -> None:
    """Of another file, of what is no table, and of a column that is text or number."""
    write(repository / "data" / "a.avro", ROW)
    write(repository / "data" / "b.avro", {"id": 1}, fields=[{"name": "id", "type": "long"}])
    assert "data/b.avro has other columns" in refused(GateError)
    write(repository / "data" / "b.avro", {"id": 1}, fields=[{"name": "id", "type": ["string", "long"]}])
    assert "'id' holds string or int64" in refused(GateError, path="data/b.avro")


def test_no_records_and_no_partition(workspace: Workspace, repository: Path) -> None:
    write(repository / "data" / "a.avro")
    assert "no records" in refused(GateError)
    assert "`partition`" in refused(ConfigError, partition="side")
