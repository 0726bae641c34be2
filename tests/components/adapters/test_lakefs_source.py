"""Tables in another repository of a real lakeFS server: referred to, byte for byte, and nothing is uploaded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lakefs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import ConfigError, GateError, NotFoundError, TrilhaError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.records import Commit
from components.source_settings import ImportedTable
from components.workspace import Workspace
from tests.components.adapters.test_lakefs_store import workspace
from tests.lakefs_server import Server, sdk

__all__ = ["workspace"]  # fixtures

pytestmark = [pytest.mark.lakefs, pytest.mark.xdist_group("lakefs")]


@pytest.fixture
def raw(workspace: Workspace, lakefs_server: Server, tmp_path: Path) -> lakefs.Repository:
    """A repository of others, with a table in two files."""
    name = f"{sdk(workspace).id}-raw"
    made = lakefs.Repository(name, sdk(workspace)._client).create(
        f"{lakefs_server.namespace}{name}", default_branch="main"
    )
    put(made, tmp_path, "trips/2024/a.parquet", {"id": [1, 2], "name": ["a", "b"]})
    put(made, tmp_path, "trips/b.parquet", {"id": [3], "name": ["c"]})
    return made


def put(repository: lakefs.Repository, folder: Path, name: str, columns: dict[str, list[Any]]) -> None:
    path = folder / "made.parquet"
    pq.write_table(pa.table(columns), path)
    repository.branch("main").object(name).upload(path.read_bytes(), metadata={"sha256": "0" * 64})
    repository.branch("main").commit(name)


def of(raw: lakefs.Repository, columns: dict[str, str] | None = None, **settings: str) -> dict[str, Any]:
    given = {"repository": raw.id, "path": "trips", **settings}
    return {"trips": ImportedTable.model_validate({"lakefs": given, "columns": columns or {}})}


def run(key: str, sources: dict[str, Any]) -> Commit:
    with running_as(key * 64):
        return ingest("shop", "test", sources, observe("shop", "test", sources))


def blocks(lakefs_server: Server) -> dict[Path, int]:
    """The objects that the server keeps; those of its own bookkeeping aside."""
    assert lakefs_server.blocks is not None
    return {path: path.stat().st_size for path in lakefs_server.blocks.glob("*/data/**/*") if path.is_file()}


def test_objects_are_referred_to(workspace: Workspace, raw: lakefs.Repository, lakefs_server: Server) -> None:
    """The commit has the very bytes, under their digest, though no Parquet was uploaded; another machine reads them too."""
    if lakefs_server.blocks is None:
        pytest.skip("the server's objects are out of reach")
    before = {path for path, size in blocks(lakefs_server).items() if path.read_bytes()[:4] == b"PAR1"}
    commit = run("1", of(raw))
    assert commit.tables == {"trips": 3}
    assert {path for path, size in blocks(lakefs_server).items() if path.read_bytes()[:4] == b"PAR1"} == before
    shutil.rmtree(workspace.home / "lakefs")
    listed = workspace.store.ls(commit.id, "shop")
    assert len(listed) == 2
    tables = [pq.read_table(workspace.store.local(commit.id, entry.path)) for entry in listed]
    assert [row for table in tables for row in table["id"].to_pylist()] == [1, 2, 3]
    assert workspace.store.has(commit.id)


def test_it_is_published_and_followed(workspace: Workspace, raw: lakefs.Repository, tmp_path: Path) -> None:
    """Merged like anything else; the same commit is the same stamp, a further one brings its files."""
    commit = run("1", of(raw))
    workspace.store.merge(commit.id, "main", message="", metadata={"validation": "by hand"}, key="m")
    seen = observe("shop", "test", of(raw))
    assert observe("shop", "test", of(raw)) == seen
    assert run("2", of(raw)).branch == "main"
    put(raw, tmp_path, "trips/c.parquet", {"id": [4], "name": ["d"]})
    assert observe("shop", "test", of(raw)) != seen
    assert run("3", of(raw)).tables == {"trips": 4}
    assert run("4", of(raw, ref="main~1")).branch == "main"


def test_what_goes_wrong(workspace: Workspace, raw: lakefs.Repository, repository: Path, tmp_path: Path) -> None:
    """Nothing there, other columns, another type; and a data store that has nowhere to refer to."""

    def refused(error: type[TrilhaError], says: str, sources: dict[str, Any]) -> None:
        with pytest.raises(error, match=says):
            run("9", sources)

    refused(NotFoundError, "no .parquet below", of(raw, path="gone"))
    refused(NotFoundError, "lakeFS", of(raw, ref="gone"))
    refused(NotFoundError, "lakeFS", of(raw, repository="nobody-s"))
    refused(GateError, "'id' is BIGINT", of(raw, {"id": "VARCHAR"}))
    put(raw, tmp_path, "trips/d.parquet", {"id": [4]})
    refused(GateError, "no column 'name'", of(raw))
    (repository / "config" / "profiles" / "git.yaml").write_text("state: g\nstore: {kind: git, path: g/data.git}\n")
    with pytest.raises(ConfigError, match="kind: lakefs"):
        observe("shop", "git", of(raw))
