"""Delta Lake tables: by version, read on where rows were only added, on a disk and in object stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable as Lake
from deltalake import write_deltalake

from components.errors import ConfigError, GateError, NotFoundError, TrilhaError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.place import Place
from components.records import Commit
from components.source_settings import DeltaTable
from components.workspace import Workspace, open_workspace
from tests.azure import ACCOUNT, KEY
from tests.object_stores import BUCKETS

Source = Callable[..., dict[str, Any]]


def add(place: str | Path, *ids: int, mode: str = "append", **columns: list[Any]) -> None:
    rows = {"id": list(ids), "side": ["left" if one % 2 else "right" for one in ids]}
    rows["at"] = pa.array([datetime.fromisoformat(f"2024-01-0{one}") for one in ids], pa.timestamp("us"))  # type: ignore[assignment]
    write_deltalake(
        str(place), pa.table({**rows, **columns}), mode=mode, partition_by=["side"], schema_mode="merge" if columns else None
    )  # fmt: skip


def of(path: str = "lake", **settings: Any) -> dict[str, Any]:
    columns = settings.pop("columns", {})
    return {"trips": DeltaTable.model_validate({"delta": {"path": path, **settings}, "columns": columns})}


def run(key: str, sources: dict[str, Any]) -> Commit:
    with running_as(key * 64):
        commit = ingest("shop", "test", sources, observe("shop", "test", sources))
    if commit.branch != "main":
        open_workspace("test").store.merge(
            commit.id, "main", message="", metadata={"validation": "by hand"}, key=commit.id
        )
    return commit


def files(commit: Commit) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in open_workspace("test").store.ls(commit.id, "shop/trips")}


def ids(commit: Commit) -> list[int]:
    store = open_workspace("test").store
    return [row for path in files(commit) for row in pq.read_table(store.local(commit.id, path))["id"].to_pylist()]


def test_versions_are_read_on(workspace: Workspace, repository: Path) -> None:
    """What was added since is one more file; what is committed stays, and partitions come as columns."""
    add(repository / "lake", 1, 2)
    first = run("1", of())
    table = pq.read_table(workspace.store.local(first.id, "shop/trips/part-00000.parquet"))
    assert sorted(table.to_pylist(), key=lambda row: row["id"]) == [
        {"id": 1, "side": "left", "at": datetime.fromisoformat("2024-01-01")},
        {"id": 2, "side": "right", "at": datetime.fromisoformat("2024-01-02")},
    ]
    add(repository / "lake", 3)
    add(repository / "lake", 4)
    second = run("2", of())
    assert sorted(ids(second)) == [1, 2, 3, 4]
    assert second.tables == {"trips": 4}
    assert files(first).items() < files(second).items()


def test_the_same_version_is_nothing_to_do(workspace: Workspace, repository: Path) -> None:
    add(repository / "lake", 1)
    seen = observe("shop", "test", of())
    run("1", of())
    assert observe("shop", "test", of()) == seen
    assert run("2", of()).branch == "main"


def test_a_table_that_was_changed_is_read_anew(workspace: Workspace, repository: Path) -> None:
    """Rows deleted, files joined, a column more, another table in its place: never a row twice or too many."""
    add(repository / "lake", 1, 2, 3)
    run("1", of())
    Lake(repository / "lake").delete("id = 2")
    assert sorted(ids(run("2", of()))) == [1, 3]
    add(repository / "lake", 4)
    Lake(repository / "lake").optimize.compact()
    assert sorted(ids(run("3", of()))) == [1, 3, 4]
    add(repository / "lake", 5, more=["x"])
    assert sorted(ids(run("4", of()))) == [1, 3, 4, 5]
    for path in sorted((repository / "lake").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    add(repository / "lake", 9)
    assert ids(run("5", of())) == [9]


def test_a_pinned_version(workspace: Workspace, repository: Path) -> None:
    """What came later is not seen, until another version is asked for."""
    for one in (1, 2, 3):
        add(repository / "lake", one)
    assert sorted(ids(run("1", of(version=1)))) == [1, 2]
    assert ids(run("2", of(version=0))) == [1]
    assert sorted(ids(run("3", of()))) == [1, 2, 3]


def test_declared_types(workspace: Workspace, repository: Path) -> None:
    add(repository / "lake", 1)
    commit = run("1", of(columns={"id": "DOUBLE"}))
    assert (
        pq.read_schema(workspace.store.local(commit.id, "shop/trips/part-00000.parquet")).field("id").type
        == pa.float64()
    )


def test_the_same_bytes_in_another_store(repository: Path) -> None:
    """Read from an empty store twice."""
    add(repository / "lake", 1, 2, 3)
    add(repository / "lake", 4)
    made = []
    for name in ("one", "two"):
        (repository / "config" / "profiles" / f"{name}.yaml").write_text(
            f"state: {name}\nstore: {{kind: git, path: {name}/data.git}}\nengine: local\n"
        )
        with running_as("1" * 64):
            made.append(ingest("shop", name, of(), observe("shop", name, of())).tree)
    assert made[0] == made[1]


@pytest.fixture
def lake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where tables lie in a bucket, as Delta's library finds it: what it reads of the environment is its own."""
    url: str = request.getfixturevalue(BUCKETS[request.param])
    if request.param == "s3":
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_S3_ALLOW_UNSAFE_RENAME", "true")
    if request.param == "azure":
        server = f"http://127.0.0.1:{request.getfixturevalue('azure_server')}/{ACCOUNT}"
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", server)
        monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    return f"{url}/lake"


@pytest.mark.parametrize("lake", ["s3", "azure"], indirect=True)
def test_a_table_in_a_bucket(workspace: Workspace, lake: str) -> None:
    """Address and credentials come from the environment."""
    add(lake, 1, 2)
    run("1", of(lake))
    add(lake, 3)
    assert sorted(ids(run("2", of(lake)))) == [1, 2, 3]


def test_a_table_in_google_s_store(
    workspace: Workspace, repository: Path, gcs_bucket: str, gcs_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read on as others are. The emulator takes no write of Delta's library, so the table is copied there."""
    account = {"gcs_base_url": gcs_server, "disable_oauth": True, "client_email": "", "private_key": ""}
    (repository / "account.json").write_text(json.dumps(account | {"private_key_id": ""}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(repository / "account.json"))
    for key, one in (("1", 1), ("2", 2)):
        add(repository / "lake", one)
        Place(gcs_bucket).upload(repository / "lake", "lake")
        run(key, of(f"{gcs_bucket}/lake"))
    assert sorted(ids(run("3", of(f"{gcs_bucket}/lake")))) == [1, 2]


@pytest.mark.parametrize(
    ("lake", "variable", "value"),
    [("s3", "AWS_SECRET_ACCESS_KEY", "another"), ("azure", "AZURE_STORAGE_ACCOUNT_KEY", "YW5vdGhlcg==")],
    indirect=["lake"],
)
def test_a_key_that_is_refused(
    workspace: Workspace, lake: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """It is to be corrected; the line says what the server said, without colours."""
    add(lake, 1)
    monkeypatch.setenv(variable, value)
    said = refused(ConfigError, of(lake))
    assert "next: correct the credentials" in said
    assert value not in said
    assert "\x1b" not in said


# --- what goes wrong --------------------------------------------------------------------------------------------------


def refused(error: type[TrilhaError], sources: dict[str, Any]) -> str:
    with pytest.raises(error) as caught:
        run("9", sources)
    assert "table 'trips'" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_version_that_was_vacuumed(workspace: Workspace, repository: Path) -> None:
    """Its files are gone, and the error says so."""
    add(repository / "lake", 1)
    add(repository / "lake", 3)
    Lake(repository / "lake").optimize.compact()
    Lake(repository / "lake").vacuum(0, enforce_retention_duration=False, dry_run=False)
    assert "vacuumed" in refused(NotFoundError, of(version=1))
    assert sorted(ids(run("1", of()))) == [1, 3]


def test_what_is_not_there(workspace: Workspace, repository: Path) -> None:
    (repository / "empty").mkdir()
    for path in ("gone", "empty"):
        assert "no Delta table there" in refused(NotFoundError, of(path))
    add(repository / "lake", 1)
    assert "no such version" in refused(NotFoundError, of(version=7))


def test_no_rows_and_corrupt_files(workspace: Workspace, repository: Path) -> None:
    add(repository / "lake", 1)
    (file,) = (repository / "lake").rglob("*.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[:20] + b"\0" * (len(whole) - 20))
    assert "Parquet" in refused(GateError, of())
    file.write_bytes(whole)
    Lake(repository / "lake").delete()
    assert "no rows" in refused(GateError, of())


@pytest.mark.parametrize("path", ["http://127.0.0.1/lake", "ftp://host/lake"])
def test_where_no_table_can_be(path: str) -> None:
    with pytest.raises(ValueError, match="s3://"):
        of(path)


def test_what_is_not_read_here(workspace: Workspace, repository: Path) -> None:
    """A table with deletion vectors is refused, not read with the rows that they delete."""
    add(repository / "lake", 1, 2)
    log = repository / "lake" / "_delta_log" / f"{1:020}.json"
    log.write_text(
        '{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors","timestampNtz"],'
        '"writerFeatures":["deletionVectors","timestampNtz"]}}\n'
    )
    assert "deletion vectors" in refused(ConfigError, of())
