"""Of the git store, what no commit needs is gone; what is needed by a commit, or by a writer at this moment, stays."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from components.adapters.git_store import GitStore
from components.adapters.git_sweep import GitSweep
from components.errors import NotFoundError
from tests.contracts.data_store import Writer

SOON = 10.0
"""Seconds from now: all that was made is older."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.git"


@pytest.fixture
def store(path: Path) -> GitStore:
    return GitStore(path)


@pytest.fixture
def write(store: GitStore, tmp_path: Path) -> Writer:
    return Writer(store, tmp_path)


def age(path: Path, seconds: float = 3_600.0) -> None:
    """Let all that lies in the store be that old."""
    then = time.time() - seconds
    for file in path.rglob("*"):
        os.utime(file, (then, then))


def sweep(store: GitStore, *needed: str, before: float | None = None) -> GitSweep:
    return store.sweep(set(needed), time.time() + SOON if before is None else before)


def removed(store: GitStore, *needed: str) -> list[str]:
    made = sweep(store, *needed)
    return [one.name for one in made.discard(made.leftovers()) if one.kind != "git"]


def test_bytes_of_older_commits(store: GitStore, write: Writer) -> None:
    """What a head, a tag or a needed commit holds can be read; what an older commit held beside is gone, and is told."""
    tagged, needed, old = write("main", {"a": "1"}), write("main", {"a": "2"}), write("main", {"a": "3", "b": "x"})
    head = write("main", {"a": "4"})
    store.tag("paper", tagged)
    assert removed(store, needed) == [f"a of commit {old[:7]}"]
    assert [store.has(ref) for ref in (tagged, needed, old, head)] == [True, True, False, True]
    assert write.read(tagged) == {"a": "1"}
    assert write.read("main") == {"a": "4", "b": "x"}
    assert [revision.id for revision in store.log("main")][:4] == [head, old, needed, tagged]
    with pytest.raises(NotFoundError, match="the bytes of 'a' in .* are gone"):
        store.local(old, "a")
    assert removed(store, needed) == []


def test_what_a_branch_was_of_late(store: GitStore, write: Writer) -> None:
    """Every head since the moment in question stays whole, the one of that moment too."""
    first, second, third = write("main", {"a": "1"}), write("main", {"a": "2"}), write("main", {"a": "3"})
    made = sweep(store, before=time.time() - 60)
    assert made.discard(made.leftovers()) == []
    assert all(map(store.has, (first, second, third)))


def test_abandoned_branches(store: GitStore, path: Path, write: Writer) -> None:
    """An ingest's branch goes with its bytes once nobody needs it; a branch of others stays, and so does a young one."""
    for name in ("ingest/small/1", "ingest/small/2", "incoming"):
        store.branch(name, "main")
        write(name, {"a": name})
    kept = store.resolve("ingest/small/2").id
    found = sweep(store, kept).leftovers()
    assert [one.name for one in found if one.kind == "branch"] == ["branch ingest/small/1"]
    assert sorted(removed(store, kept)) == sorted(["branch ingest/small/1", *(one.name for one in found[1:2])])
    assert store.branches() == ["incoming", "ingest/small/2", "main"]
    assert write.read("ingest/small/2") == {"a": "ingest/small/2"}
    assert write.read("incoming") == {"a": "incoming"}
    store.branch("ingest/small/3", "main")
    made = sweep(store, before=time.time() - 60)
    assert made.discard(made.leftovers()) == []


def test_a_commit_that_is_needed_by_name_alone(store: GitStore, path: Path, write: Writer) -> None:
    """Its branch is gone, and Git's own objects are old: it stays as long as it is needed, and goes after."""
    store.branch("ingest/small/1", "main")
    made = write("ingest/small/1", {"a": "1"})
    store.delete_branch("ingest/small/1")
    age(path)
    removed(store, made)
    assert store.has(made)
    assert GitStore(path).local(made, "a").read_text() == "1"
    size = sum(file.stat().st_size for file in (path / "objects").rglob("*") if file.is_file())
    found = sweep(store).leftovers()
    assert [one.kind for one in found] == ["object", "git"]
    assert sweep(store).discard(found) == found
    assert size - found[1].size == sum(file.stat().st_size for file in (path / "objects").rglob("*") if file.is_file())
    assert not GitStore(path).has(made)
    fsck = subprocess.run(["git", "fsck", "--strict"], cwd=path, capture_output=True, text=True, check=True)
    assert fsck.stderr == ""


def test_bytes_that_are_written_again(store: GitStore, path: Path, write: Writer) -> None:
    """A commit that takes in bytes which are just about to go has them."""
    write("main", {"a": "1"})
    write("main", {"a": "2"})
    age(path)
    before = time.time() - 1
    made = sweep(store, before=time.time() + SOON)
    found = made.leftovers()
    assert [one.kind for one in found] == ["object"]
    again = write("main", {"b": "1"})
    assert made.discard(found) == []
    write("main", deletes=["b"])
    late = sweep(store, before=before)
    assert late.discard(found) == []  # they were taken in a moment ago, whatever names them by now
    assert store.has(again)


def test_a_revert_to_what_is_gone(store: GitStore, write: Writer) -> None:
    """What a revert would bring back is not there: it says so, and changes nothing."""
    write("main", {"a": "1"})
    undone = write("main", {"a": "2"})
    removed(store)
    with pytest.raises(NotFoundError, match="the bytes of 'a' in .* are gone"):
        store.revert("main", undone, message="Undo", key="undo")
    assert store.resolve("main").id == undone
    assert store.has("main")


def test_untag(store: GitStore, write: Writer) -> None:
    """A tag that is removed holds nothing any more; to remove it twice is no error."""
    tagged = write("main", {"a": "1"})
    write("main", {"a": "2"})
    store.tag("paper", tagged)
    for _ in range(2):
        store.untag("paper")
    assert store.tags() == {}
    removed(store)
    assert not store.has(tagged)
