"""Tables in object stores: a real S3 server, and emulators of Google's and Azure's."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.errors import ConfigError, ConflictError, NotFoundError, TrilhaError
from components.ingest import ingest, observe
from components.ledger import Outcome, perform, running_as
from components.records import Commit, Observation
from components.source_settings import LogTable, MediaTable, Table
from components.staging import stage
from components.workspace import Workspace
from tests.azure import KEY, connection
from tests.gcs import ANONYMOUS, point_at, refusing
from tests.object_stores import BUCKETS
from tests.s3 import SECRET

Sources = dict[str, Table | LogTable | MediaTable]


def put(url: str, content: bytes) -> None:
    """Write an object as somebody else does, whom our file systems do not know."""
    fs, path = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    fs.pipe_file(path, content)


def parquet(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def picture() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (3, 2)).save(sink, "PNG")
    return sink.getvalue()


def looked(sources: Sources) -> Observation:
    return observe("shop", "test", sources)  # type: ignore[arg-type]  # a dict of some kinds of tables


def run(workspace: Workspace, sources: Sources) -> Outcome:
    """One more run: it looks, and reads if the ledger knows nothing of what it saw."""
    arguments = {"project": "shop", "profile": "test", "sources": sources, "seen": looked(sources)}
    outcome = perform(ingest, arguments, ledger=workspace.ledger, lock=workspace.lock)
    assert isinstance(outcome.record, Commit)
    if outcome.record.branch != "main":
        workspace.store.merge(
            outcome.record.id, "main", message="", metadata={"validation": "by a test"}, key=outcome.record.id
        )
    return outcome


def rows(workspace: Workspace, outcome: Outcome, table: str) -> list[dict[str, Any]]:
    assert isinstance(outcome.record, Commit)
    path = workspace.store.local(outcome.record.id, f"shop/{table}/data.parquet")
    return pq.read_table(path).to_pylist()


def test_what_lies_there_becomes_tables(workspace: Workspace, any_bucket: str) -> None:
    """Two files of CSV, a Parquet file, lines of JSON, lines of a log, a folder of pictures."""
    put(f"{any_bucket}/sales/1.csv", b"day,n\nmon,1\n")
    put(f"{any_bucket}/sales/2.csv", b"day,n\ntue,2\n")
    put(f"{any_bucket}/shops.parquet", parquet(shop=["a", "b"]))
    put(f"{any_bucket}/people.jsonl", b'{"name": "Ana"}\n')
    put(f"{any_bucket}/hits.log", b"GET 200\nPUT 404\n")
    put(f"{any_bucket}/pictures/deep/one.png", picture())
    outcome = run(
        workspace,
        {
            "sales": Table(path=f"{any_bucket}/sales/*.csv"),
            "shops": Table(path=f"{any_bucket}/shops.parquet"),
            "people": Table(path=f"{any_bucket}/people.jsonl"),
            "hits": LogTable(path=f"{any_bucket}/hits.log", pattern=r"(?P<verb>\w+) (?P<status>\d+)"),
            "pictures": MediaTable.model_validate({"media": {"path": f"{any_bucket}/pictures"}}),
        },
    )
    assert rows(workspace, outcome, "sales") == [{"day": "mon", "n": 1}, {"day": "tue", "n": 2}]
    assert rows(workspace, outcome, "shops") == [{"shop": "a"}, {"shop": "b"}]
    assert rows(workspace, outcome, "people") == [{"name": "Ana"}]
    assert [hit["status"] for hit in rows(workspace, outcome, "hits")] == ["200", "404"]
    assert isinstance(outcome.record, Commit)
    (one,) = rows(workspace, outcome, "pictures")
    assert (one["path"], one["kind"], one["width"], one["height"]) == ("deep/one.png", "image/png", 3, 2)
    assert workspace.store.local(outcome.record.id, f"shop/pictures/{one['object']}").read_bytes() == picture()


def test_what_did_not_change_is_not_read_again(workspace: Workspace, any_bucket: str) -> None:
    """In one process: the same objects are the same run; one that is written again, or joins, is seen and read."""
    sources: Sources = {"sales": Table(path=f"{any_bucket}/sales/*.csv")}
    put(f"{any_bucket}/sales/1.csv", b"n\n1\n")
    first = run(workspace, sources)
    again = run(workspace, sources)
    assert (first.hit, again.hit, again.record) == (False, True, first.record)
    put(f"{any_bucket}/sales/1.csv", b"n\n2\n")
    changed = run(workspace, sources)
    assert (changed.hit, rows(workspace, changed, "sales")) == (False, [{"n": 2}])
    put(f"{any_bucket}/sales/2.csv", b"n\n3\n")
    joined = run(workspace, sources)
    assert (joined.hit, rows(workspace, joined, "sales")) == (False, [{"n": 2}, {"n": 3}])
    assert run(workspace, sources).hit


def test_what_changes_while_it_is_read(workspace: Workspace, any_bucket: str) -> None:
    """What was seen is not there any more: nothing is committed."""
    sources: Sources = {"sales": Table(path=f"{any_bucket}/sales.csv")}
    put(f"{any_bucket}/sales.csv", b"n\n1\n")
    seen = looked(sources)
    put(f"{any_bucket}/sales.csv", b"n\n2\n")
    with running_as("1" * 64), pytest.raises(ConflictError, match="sales.csv changed while"):
        ingest("shop", "test", sources, seen)  # type: ignore[arg-type]  # a dict of some kinds of tables


def test_what_is_not_there(workspace: Workspace, any_bucket: str) -> None:
    """No object, nothing that a pattern means, no bucket: the address as it was written."""
    put(f"{any_bucket}/there.csv", b"n\n1\n")
    for path in (f"{any_bucket}/gone.csv", f"{any_bucket}/gone/*.csv", f"{any_bucket}-gone/there.csv"):
        refused(NotFoundError, path, f"no file {path}; next: put the file there".replace("*", r"\*"))


@pytest.mark.parametrize("scheme", ["az", "abfs", "abfss"])
def test_azure_by_each_of_its_names(workspace: Workspace, azure_container: str, scheme: str) -> None:
    """Azure's schemes mean the same, also for what is named below a folder."""
    put(f"{azure_container}/sales.csv", b"n\n1\n")
    put(f"{azure_container}/pictures/one.png", picture())
    url = azure_container.replace("abfs", scheme)
    pictures = MediaTable.model_validate({"media": {"path": f"{url}/pictures"}})
    outcome = run(workspace, {"sales": Table(path=f"{url}/sales.csv"), "pictures": pictures})
    assert rows(workspace, outcome, "sales") == [{"n": 1}]
    assert [row["path"] for row in rows(workspace, outcome, "pictures")] == ["one.png"]


def test_azure_with_its_account_in_the_url(
    workspace: Workspace, azure_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose container it is stays part of a file's URL: it is read from where it was found."""
    put(f"{azure_container}/sales/1.csv", b"n\n1\n")
    url = f"abfss://{azure_container.removeprefix('abfs://')}@trilha.dfs.core.windows.net"
    seen = looked({"sales": Table(path=f"{url}/sales/*.csv")})
    assert [stamp.url for stamp in seen.tables["sales"]] == [f"{url}/sales/1.csv"]
    outcome = run(workspace, {"sales": Table(path=f"{url}/sales/*.csv")})
    assert rows(workspace, outcome, "sales") == [{"n": 1}]


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(kind: type[TrilhaError], path: str, says: str) -> None:
    """One line that names table and address, without a key."""
    with pytest.raises(kind, match=says) as caught:
        looked({"sales": Table(path=path)})
    assert str(caught.value).startswith("table 'sales': ")
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert KEY not in str(caught.value)


def wrong_s3(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}-wrong")


def wrong_azure(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    port = request.getfixturevalue("azure_server")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection(port, key=f"AAAA{KEY}"))


def wrong_gcs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    point_at(request.getfixturevalue("google_refuses"), monkeypatch)


@pytest.fixture
def google_refuses() -> Any:
    with refusing(401) as server:
        yield server


@pytest.mark.parametrize(
    ("store", "wrong", "says"),
    [
        ("s3", wrong_s3, "(Forbidden|signature)"),
        ("gcs", wrong_gcs, ANONYMOUS),
        ("azure", wrong_azure, "authenticate the request"),
    ],
)
@pytest.mark.parametrize("name", ["sales.csv", "sales/*.csv"])
def test_credentials_that_are_refused(
    workspace: Workspace,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
    wrong: Callable[[pytest.MonkeyPatch, pytest.FixtureRequest], None],
    says: str,
    name: str,
) -> None:
    """They are to be corrected; nobody is told to try again."""
    url = request.getfixturevalue(BUCKETS[store])
    wrong(monkeypatch, request)
    monkeypatch.setattr("fsspec.spec.AbstractFileSystem.cachable", False)
    refused(
        ConfigError, f"{url}/{name}", f"{says}.*accepted: credentials in the environment.*next: correct the credentials"
    )


def test_an_object_that_goes_away_between_looking_and_reading(repository: Any, any_bucket: str, tmp_path: Any) -> None:
    """It is named."""
    source = Table(path=f"{any_bucket}/sales.csv")
    put(source.path, b"n\n1\n")
    (stamp,) = observe("shop", "test", {"sales": source}).tables["sales"]
    fs, path = fsspec.core.url_to_fs(source.path)
    fs.rm(path)
    with pytest.raises(NotFoundError, match="table 'sales': no file .*sales.csv"):
        stage("sales", source, (stamp,), tmp_path)
