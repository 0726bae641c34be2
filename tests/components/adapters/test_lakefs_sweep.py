"""On a real lakeFS: branches that nobody needs are gone; what a tag names is held against lakeFS' own collection."""

from __future__ import annotations

import csv
import time
from contextlib import suppress
from pathlib import Path

import lakefs
import pytest

from components.adapters.lakefs_landing import _scratch_prefix, scratch_name
from components.adapters.lakefs_sweep import LakeFSSweep
from components.mend import mend
from components.ports import DataStore
from components.releases import releases
from components.retention import collect, look
from components.workspace import Workspace, open_workspace
from tests.components.adapters.test_lakefs_store import workspace
from tests.components.test_retention import needed, released, rubbish
from tests.conftest import place_small
from tests.contracts.data_store import Writer
from tests.lakefs_server import Server, hidden, sdk
from tests.triton import Fitted

__all__ = ["workspace"]

pytestmark = pytest.mark.lakefs

SOON = 60.0


@pytest.fixture
def store(workspace: Workspace) -> DataStore:
    return workspace.store


@pytest.fixture
def write(store: DataStore, tmp_path: Path) -> Writer:
    return Writer(store, tmp_path)


def sweep(store: DataStore, *needed: str, seconds: float = SOON) -> LakeFSSweep:
    found = store.sweep(set(needed), time.time() + seconds)
    assert isinstance(found, LakeFSSweep)
    return found


def test_branches(store: DataStore, write: Writer, workspace: Workspace) -> None:
    """An ingest's branch, and what a killed commit had uploaded, are gone; what is needed, young or others' stays."""
    for name in ("ingest/small/1", "ingest/small/2", "incoming"):
        store.branch(name, "main")
        write(name, {"a": name})
    store.branch("ingest/small/3", "main")  # an ingest that has just begun
    kept = store.resolve("ingest/small/2").id
    sdk(workspace).branch(scratch_name("main", "empty")).create("main", hidden=True)  # killed before the first byte
    left = sdk(workspace).branch(_scratch_prefix("main", "k") + "0").create("main", hidden=True)
    left.object("b").upload(b"half")
    assert not [one for one in sweep(store, kept, seconds=-60).leftovers() if one.kind != "copy"]
    made = sweep(store, kept)
    found = [one for one in made.leftovers() if one.kind != "copy"]
    assert [(one.kind, one.size) for one in found] == [("branch", 14), ("upload", 0), ("upload", 4)]
    assert made.discard(found) == found
    assert store.branches() == ["incoming", "ingest/small/2", "ingest/small/3", "main"]
    assert hidden(workspace) == set()
    assert write.read("ingest/small/2") == {"a": "ingest/small/2"}


def test_an_ingest_that_goes_on(store: DataStore, write: Writer) -> None:
    """A branch that moved since it was listed stays."""
    store.branch("ingest/small/1", "main")
    write("ingest/small/1", {"a": "1"})
    found = [one for one in sweep(store).leftovers() if one.kind == "branch"]
    late = sweep(store, store.resolve("ingest/small/1").id)
    assert late.discard(found) == []
    assert write.read("ingest/small/1") == {"a": "1"}


def test_copies(store: DataStore, write: Writer, workspace: Workspace) -> None:
    """What is staged here goes once nobody used it for long, and is fetched again when it is asked for."""
    write("main", {"a": "1"})
    assert sweep(store, seconds=-60).leftovers() == []
    made = sweep(store)
    assert made.discard(made.leftovers())
    assert not list((workspace.home / "lakefs" / "objects").glob("*/*/*"))
    assert store.has("main")
    assert write.read("main") == {"a": "1"}


def test_tags_hold_their_bytes(store: DataStore, write: Writer, workspace: Workspace, lakefs_server: Server) -> None:
    """The server's own collection lists a tagged commit as one whose bytes stay, and no longer once the tag is removed."""
    if lakefs_server.blocks is None:
        pytest.skip("the server's objects are out of reach")
    tagged, old = write("main", {"a": "1"}), write("main", {"a": "2"})
    theirs, head = write("main", {"a": "3"}), write("main", {"a": "4"})
    store.tag("release/small/1", tagged)
    lakefs.Tag(sdk(workspace).id, "theirs", sdk(workspace)._client).create(theirs)
    sweep(store).discard([])
    assert retained(workspace, lakefs_server.blocks) == {tagged, theirs, head}
    assert old not in retained(workspace, lakefs_server.blocks)
    assert store.branches() == ["main"]
    store.untag("release/small/1")
    store.untag("release/small/1")
    assert store.tags() == {"theirs": theirs}
    assert retained(workspace, lakefs_server.blocks) == {theirs, head}


def test_all_of_it(workspace: Workspace, repository: Path, fitted: Fitted) -> None:
    """A profile that keeps one release drops the oldest, with all that only it reaches; the others are whole."""
    place_small(repository)
    profile = repository / "config" / "profiles" / "test.yaml"
    profile.write_text(f"{profile.read_text()}retention: {{releases: 1}}\n")
    open_workspace.cache_clear()
    kept = open_workspace("test")
    made = [released(kept, fitted, name) for name in ("1", "2", "3")]
    rubbish(kept)
    foreseen = look(kept, time.time() + SOON)
    gone = collect(kept, time.time() + SOON)
    assert [one.id for one in gone.found["releases"]] == ["small/1", "release/small/1"]
    assert {one.id for one in foreseen.found["data"]} <= {one.id for one in gone.found["data"]}
    assert list(releases(kept.store, "small")) == made[:0:-1]
    for release in made[1:]:
        assert kept.store.has(release.commit.id)
        assert kept.store.local(release.commit.id, "small/parcels/data.parquet").read_text().startswith("data of")
        assert not mend(kept, release)
    assert {path.name for path in (kept.home / "artifacts").iterdir()} == needed(kept)
    assert kept.store.branches() == ["main", "releases"]
    assert hidden(kept) == {f"KreleaseSsmallS{number}" for number in (2, 3)}
    assert not [one for one in look(kept, time.time() + SOON).found if one != "data"]


def retained(workspace: Workspace, blocks: Path) -> set[str]:
    """The commits whose bytes lakeFS' own collection keeps, where its rules keep a branch's past for no day."""
    from lakefs_sdk.exceptions import BadRequestException
    from lakefs_sdk.models.garbage_collection_rule import GarbageCollectionRule
    from lakefs_sdk.models.garbage_collection_rules import GarbageCollectionRules

    repository = sdk(workspace)
    apis = repository._client.sdk_client
    rule = GarbageCollectionRule(branch_id="main", retention_days=0)
    apis.repositories_api.set_gc_rules(repository.id, GarbageCollectionRules(default_retention_days=0, branches=[rule]))
    with suppress(BadRequestException):  # it has written its list, and cannot sign a URL of it on a local disk
        apis.internal_api.prepare_garbage_collection_commits(repository.id)
    lists = (blocks / repository.id / "_lakefs" / "retention").rglob("commits.csv")
    newest = max(lists, key=lambda path: path.stat().st_mtime_ns)
    with newest.open(newline="") as file:
        return {row[0] for row in list(csv.reader(file))[1:]}
