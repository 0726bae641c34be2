"""What every data store has to do. An adapter passes by inheriting `DataStoreContract` and overriding `workspace`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count, product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from components.adapters.store_rules import tree_digest
from components.errors import ConfigError, ConflictError, GateError, NotFoundError, TrilhaError
from components.ports import Change, DataStore, Entry
from components.workspace import Workspace

Tree = Mapping[str, str]
"""A commit as a model: path -> content."""

ROOT = Path(__file__).parents[2]
OUTSIDE = [
    "",
    "../x",
    "/x",
    "a/../b",
    "a//b",
    "a/",
    ".x",
    "a/.git",
    "A",
    "a b",
    "a\n",
    "ä",
    "-x",
    "a.",
    "x.lock",
    "a~1",
]

VALIDATED = {"validation": "by a test"}
PATHS = ["a", "b/c", "b/d", "e/f/g", "e/h"]
TREES = st.dictionaries(st.sampled_from(PATHS), st.sampled_from("123"), max_size=len(PATHS))


class Writer:
    """Commits in one line: contents in place of files, and a key of its own for each."""

    def __init__(self, store: DataStore, folder: Path) -> None:
        self.store, self.folder, self.number = store, folder, count()

    def file(self, content: str | bytes) -> Path:
        path = self.folder / f"file-{next(self.number)}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def __call__(self, branch: str, puts: Tree | None = None, *, deletes: Iterable[str] = (), **options: object) -> str:
        """Commit and return the commit's id."""
        files = {path: self.file(content) for path, content in (puts or {}).items()}
        arguments = {"message": "A commit", "metadata": {}, "key": f"key-{next(self.number)}", **options}
        return self.store.commit(branch, files, deletes=tuple(deletes), **arguments).id  # type: ignore[arg-type]

    def merge(self, source: str, into: str, key: str | None = None) -> str:
        key = key or f"key-{next(self.number)}"
        return self.store.merge(source, into, message="A merge", metadata=VALIDATED, key=key).id

    def become(self, branch: str, tree: Tree) -> str:
        """Commit whatever makes `branch` hold just `tree`."""
        there = self.read(branch)
        return self(branch, tree, deletes=there.keys() - tree.keys())

    def read(self, ref: str) -> dict[str, str]:
        return {entry.path: self.store.local(ref, entry.path).read_text() for entry in self.store.ls(ref)}

    def keyed(self, branch: str, message: str) -> int:
        """How many commits on `branch` have that message."""
        return sum(revision.message == message for revision in self.store.log(branch))


def other_process(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run `code` in a process of its own that has opened the same `store`."""
    opened = "import sys; from pathlib import Path; from components.workspace import open_workspace\n"
    opened += "store = open_workspace('test').store; print('open', flush=True)\n"
    return subprocess.Popen(
        [sys.executable, "-c", opened + code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def at_once(calls: Iterable[Callable[[], str]]) -> list[str | TrilhaError]:
    """Call all of them side by side; what each returned or raised."""

    def call(function: Callable[[], str]) -> str | TrilhaError:
        try:
            return function()
        except TrilhaError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(call, calls))


class DataStoreContract:
    examples = 40
    """How many examples the property tests take."""

    @pytest.fixture
    def store(self, workspace: Workspace) -> DataStore:
        return workspace.store

    @pytest.fixture
    def write(self, store: DataStore, tmp_path: Path) -> Writer:
        folder = tmp_path / "files"
        folder.mkdir()
        return Writer(store, folder)

    # --- one commit ---------------------------------------------------------------------------------------------------

    def test_new(self, store: DataStore) -> None:
        """A new store has the branch `main`, with a commit and no objects."""
        assert store.branches() == ["main"]
        assert store.ls("main") == []
        assert store.tree("main") == tree_digest([])
        assert store.has("main")

    def test_commit(self, store: DataStore, write: Writer) -> None:
        """What was committed is there by path, with its SHA-256 and size."""
        write("main", {"a": "one", "b/c": "three"})
        assert store.ls("main") == [
            Entry("a", "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed", 3),
            Entry("b/c", "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f", 5),
        ]
        assert write.read("main") == {"a": "one", "b/c": "three"}

    def test_commit_replaces(self, write: Writer) -> None:
        """A path that is put again has the new content; others stay."""
        first = write("main", {"a": "old", "b": "same"})
        write("main", {"a": "new"})
        assert write.read("main") == {"a": "new", "b": "same"}
        assert write.read(first) == {"a": "old", "b": "same"}

    def test_delete(self, write: Writer) -> None:
        """A path that is deleted is gone from the new commit only, and so is a folder that it leaves empty."""
        first = write("main", {"a": "1", "b/c": "2"})
        write("main", {"b": "a folder no more"}, deletes=["b/c"])
        assert write.read("main") == {"a": "1", "b": "a folder no more"}
        assert write.read(first) == {"a": "1", "b/c": "2"}

    @pytest.mark.parametrize("content", [b"", b"\0" * 5_000_001, b"version https://git-lfs.github.com/spec/v1\n"])
    def test_bytes(self, store: DataStore, write: Writer, content: bytes) -> None:
        """Objects come back byte by byte: empty ones, big ones, and those that look like a pointer."""
        store.commit("main", {"x": write.file(content)}, message="x", metadata={}, key="x")
        assert store.local("main", "x").read_bytes() == content

    def test_local_is_read_only(self, store: DataStore, write: Writer) -> None:
        """The file that a reader gets cannot be changed by mistake."""
        write("main", {"a": "1"})
        assert store.local("main", "a").stat().st_mode & 0o222 == 0

    def test_metadata(self, store: DataStore, write: Writer) -> None:
        """Message and metadata come back as they were, whatever is in them."""
        message = "Title é\n\nBody\n\nTrilha-Key: not mine\n"
        metadata = {"rows.flights": "336776", "odd name": 'a\n\n"b"\t\\é\u2028', "empty": ""}
        made = store.commit("main", {"a": write.file("1")}, message=message, metadata=metadata, key='k\n\n"')
        for revision in (made, store.resolve("main"), next(store.log("main"))):
            assert (revision.message, dict(revision.metadata)) == (message, metadata)

    def test_created(self, store: DataStore, write: Writer) -> None:
        """A revision says when it was made, in UTC."""
        created = datetime.fromisoformat(store.resolve(write("main", {"a": "1"})).created)
        assert created.utcoffset() == UTC.utcoffset(None)
        assert abs(created.timestamp() - time.time()) < 60

    def test_no_change(self, store: DataStore, write: Writer) -> None:
        """A commit that changes nothing is a commit: it carries its key and metadata."""
        before = write("main", {"a": "1"})
        after = store.commit("main", {"a": write.file("1")}, message="again", metadata={"offset": "7"}, key="again")
        assert after.id != before
        assert after.metadata == {"offset": "7"}
        assert store.tree(after.id) == store.tree(before)

    def test_copy(self, store: DataStore, write: Writer) -> None:
        """A committed file stays where it was, and changing it later does not change the commit."""
        file = write.file("1")
        store.commit("main", {"a": file}, message="m", metadata={}, key="k")
        file.write_text("2")
        assert write.read("main") == {"a": "1"}

    def test_move(self, store: DataStore, write: Writer) -> None:
        """With `move`, files are taken over, also where two have the same bytes or the bytes are there already."""
        write("main", {"a": "1"})
        puts = {"b": write.file("1"), "c": write.file("2"), "d": write.file("2")}
        store.commit("main", puts, message="m", metadata={}, key="k", move=True)
        assert write.read("main") == {"a": "1", "b": "1", "c": "2", "d": "2"}

    # --- keys and heads -----------------------------------------------------------------------------------------------

    def test_commit_key(self, write: Writer) -> None:
        """A commit whose key is on the branch is returned, though others came after it."""
        first = write("main", {"a": "1"}, key="k")
        write("main", {"a": "2"})
        assert write("main", {"a": "3"}, key="k") == first
        assert write.read("main") == {"a": "2"}

    def test_key_is_of_a_branch(self, write: Writer, store: DataStore) -> None:
        """The same key on a branch that has not got it makes a commit."""
        store.branch("b", "main")
        write("main", {"a": "1"}, key="k")
        write("b", {"a": "2"}, key="k")
        assert (write.read("main"), write.read("b")) == ({"a": "1"}, {"a": "2"})

    def test_expected(self, store: DataStore, write: Writer) -> None:
        """A commit on another head than the expected one is a conflict, and nothing is written."""
        old = store.resolve("main").id
        new = write("main", {"a": "1"}, expected=old)
        with pytest.raises(ConflictError, match="main"):
            write("main", {"a": "2"}, expected=old)
        assert store.resolve("main").id == new

    def test_key_before_expected(self, store: DataStore, write: Writer) -> None:
        """A crash after the commit: the next attempt finds it, though the head is not as expected any more."""
        old = store.resolve("main").id
        first = write("main", {"a": "1"}, key="k", expected=old)
        assert write("main", {"a": "1"}, key="k", expected=old) == first

    def test_writers(self, store: DataStore, write: Writer) -> None:
        """Many writers of different paths: each commit is there, one after the other."""
        base = len(list(store.log("main")))
        made = at_once(lambda n=n: write("main", {f"p{n}": str(n)}) for n in range(12))
        assert write.read("main") == {f"p{n}": str(n) for n in range(12)}
        log = [revision.id for revision in store.log("main")]
        assert set(made) == set(log[:-base])
        assert len(log) == base + 12

    def test_writers_of_one_path(self, store: DataStore, write: Writer) -> None:
        """Many writers of one path: the last commit's content stays."""
        at_once(lambda n=n: write("main", {"a": str(n)}, message=str(n)) for n in range(8))
        assert write.read("main") == {"a": store.resolve("main").message}

    def test_one_winner(self, store: DataStore, write: Writer) -> None:
        """Many writers that expect the same head: one wins, the others get a conflict."""
        head = store.resolve("main").id
        made = at_once(lambda n=n: write("main", {f"p{n}": "1"}, expected=head) for n in range(8))
        won = [one for one in made if isinstance(one, str)]
        assert won == [store.resolve("main").id]
        assert all(isinstance(one, ConflictError) for one in made if one not in won)
        assert len(store.ls("main")) == 1

    def test_one_winner_among_processes(self, store: DataStore, write: Writer) -> None:
        """The same among processes."""
        code = """
from components.errors import ConflictError
input()
try: print(store.commit("main", {sys.argv[1]: Path(sys.argv[2])}, message="m", metadata={}, key=sys.argv[1],
                        expected=sys.argv[3]).id)
except ConflictError: print("conflict")
"""
        head, file = store.resolve("main").id, str(write.file("1"))
        children = [other_process(code, f"p{n}", file, head) for n in range(3)]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
        said = [child.communicate("go\n")[0].strip() for child in children]
        assert sorted(said) == sorted([store.resolve("main").id, "conflict", "conflict"])

    def test_one_commit_a_key(self, store: DataStore, write: Writer) -> None:
        """Many writers with one key: one commit, and all get it."""
        made = at_once(lambda: write("main", {"a": "1"}, key="k", message="once") for _ in range(6))
        assert set(made) == {store.resolve("main").id}
        assert write.keyed("main", "once") == 1

    def test_readers(self, store: DataStore, write: Writer) -> None:
        """A reader sees all of a commit or nothing of it."""
        write("main", {"a": "0", "b": "0"})
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(lambda: [write("main", {"a": str(n), "b": str(n)}) for n in range(5)])
            while not writing.done():
                seen = {entry.sha256 for entry in store.ls(store.resolve("main").id)}
                assert len(seen) == 1
        writing.result()

    # --- branches and merges ------------------------------------------------------------------------------------------

    def test_isolation(self, store: DataStore, write: Writer) -> None:
        """What is committed on one branch is not seen on another."""
        write("main", {"a": "1"})
        store.branch("ingest/flights-1.2_x", "main")
        write("ingest/flights-1.2_x", {"a": "2", "b": "3"})
        assert write.read("main") == {"a": "1"}
        assert store.branches() == ["ingest/flights-1.2_x", "main"]
        assert store.branches("ingest/") == ["ingest/flights-1.2_x"]

    def test_branch_again(self, store: DataStore, write: Writer) -> None:
        """A branch that points there already is fine; one that points elsewhere is a conflict."""
        store.branch("b", "main")
        store.branch("b", "main")
        write("b", {"a": "1"})
        with pytest.raises(ConflictError, match="b"):
            store.branch("b", "main")

    def test_delete_branch(self, store: DataStore, write: Writer) -> None:
        """A deleted branch is gone, its commits are not; deleting it again is fine; `main` stays."""
        store.branch("b", "main")
        commit = write("b", {"a": "1"})
        store.tag("kept", commit)
        for _ in range(2):
            store.delete_branch("b")
        assert store.branches() == ["main"]
        assert write.read("kept") == {"a": "1"}
        with pytest.raises(ConfigError, match="main"):
            store.delete_branch("main")

    def test_merge(self, store: DataStore, write: Writer) -> None:
        """Changes of different paths come together in one commit with both parents, first the branch's own."""
        write("main", {"a": "1", "b/c": "1", "b/d": "1"})
        store.branch("side", "main")
        side = write("side", {"b/c": "2", "e": "2"}, deletes=["a"])
        main = write("main", {"b/d": "3"})
        merged = store.merge("side", "main", message="M", metadata={"x": "y", **VALIDATED}, key="m")
        assert write.read("main") == {"b/c": "2", "b/d": "3", "e": "2"}
        assert merged.parents == (main, side)
        assert (merged.message, dict(merged.metadata)) == ("M", {"x": "y", **VALIDATED})
        assert [revision.id for revision in store.log("main")][:2] == [merged.id, main]
        assert write.read("side") == {"b/c": "2", "b/d": "1", "e": "2"}

    def test_merge_conflict(self, store: DataStore, write: Writer) -> None:
        """A path that both sides changed is a conflict that names it, and nothing is written."""
        write("main", {"a": "1", "b/c": "1"})
        store.branch("side", "main")
        write("side", {"a": "2", "b/c": "2", "new": "2"})
        head = write("main", {"b/c": "3"})
        with pytest.raises(ConflictError, match="'b/c'") as raised:
            write.merge("side", "main")
        assert "'a'" not in str(raised.value)
        assert store.resolve("main").id == head
        assert write.read("main") == {"a": "1", "b/c": "3"}

    def test_merge_of_what_was_not_validated(self, store: DataStore, write: Writer) -> None:
        """`main` takes no merge that does not say what found the data good; any other branch does."""
        store.branch("side", "main")
        store.branch("other", "main")
        write("side", {"a": "1"})
        nothing: Tree
        for nothing in ({}, {"validation": ""}):
            with pytest.raises(GateError, match="'side' was not validated; accepted: .*; next: trilha run"):
                store.merge("side", "main", message="m", metadata=nothing, key="k")
        assert write.read("main") == {}
        store.merge("side", "other", message="m", metadata={}, key="k")
        assert write.read("other") == {"a": "1"}

    def test_merge_of_deleted_and_changed(self, store: DataStore, write: Writer) -> None:
        """A path that one side deleted and the other changed is a conflict."""
        write("main", {"a": "1", "b": "1"})
        store.branch("side", "main")
        write("side", deletes=["a"])
        write("main", {"a": "2"})
        with pytest.raises(ConflictError, match="'a'"):
            write.merge("side", "main")

    def test_merge_of_the_same_change(self, store: DataStore, write: Writer) -> None:
        """A path that both sides changed in the same way is none."""
        store.branch("side", "main")
        write("side", {"a": "1", "b": "2"})
        write("main", {"a": "1"})
        write.merge("side", "main")
        assert write.read("main") == {"a": "1", "b": "2"}

    def test_merge_again(self, store: DataStore, write: Writer) -> None:
        """A branch can be merged, worked on and merged again; only what is new counts."""
        store.branch("side", "main")
        write("side", {"a": "1"})
        write.merge("side", "main")
        write("main", {"a": "2"})
        write("side", {"b": "1"})
        write.merge("side", "main")
        assert write.read("main") == {"a": "2", "b": "1"}

    def test_merge_key(self, store: DataStore, write: Writer) -> None:
        """A merge whose key is on the branch is returned; another key makes a merge, though there is nothing new."""
        store.branch("side", "main")
        write("side", {"a": "1"})
        first = write.merge("side", "main", key="k")
        write("side", {"a": "2"})
        assert write.merge("side", "main", key="k") == first
        assert write.read("main") == {"a": "1"}
        write.merge("side", "main")
        assert write.merge("side", "main") != first
        assert write.read("main") == {"a": "2"}

    def test_merges(self, store: DataStore, write: Writer) -> None:
        """Many merges at once: all of them land."""
        names = [f"side-{n}" for n in range(6)]
        for name in names:
            store.branch(name, "main")
            write(name, {name: "1"})
        made = at_once(lambda name=name: write.merge(name, "main") for name in names)
        assert not [one for one in made if isinstance(one, TrilhaError)]
        assert write.read("main") == dict.fromkeys(names, "1")

    def test_merge_is_three_way(self, store: DataStore, write: Writer) -> None:
        """A merge is what three dicts merged by path are, for any three."""
        number = count()

        @settings(
            max_examples=self.examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        @example(base={"b/c": "1"}, ours={}, theirs={"a": "1", "b/c": "1"})  # lakeFS would drop `a`
        @given(base=TREES, ours=TREES, theirs=TREES)
        def check(base: Tree, ours: Tree, theirs: Tree) -> None:
            left, right = f"left-{next(number)}", f"right-{next(number)}"
            store.branch(left, "main")
            write.become(left, base)
            store.branch(right, left)
            write.become(left, ours)
            write.become(right, theirs)
            changed = {path for path in PATHS if theirs.get(path) != base.get(path)}
            clash = {path for path in changed if ours.get(path) not in {base.get(path), theirs.get(path)}}
            if clash:
                with pytest.raises(ConflictError) as raised:
                    write.merge(right, left)
                assert set(raised.value.details.splitlines()) == clash
                assert write.read(left) == ours
            else:
                write.merge(right, left)
                sides = {path: theirs.get(path) if path in changed else ours.get(path) for path in PATHS}
                assert write.read(left) == {path: content for path, content in sides.items() if content is not None}

        check()

    # --- looking back -------------------------------------------------------------------------------------------------

    def test_refs(self, store: DataStore, write: Writer) -> None:
        """A commit is found by its branch, its tag, its id, and the id's first seven digits."""
        commit = write("main", {"a": "1"})
        store.tag("v1", "main")
        for ref in ("main", "v1", commit, commit[:7]):
            assert store.resolve(ref).id == commit

    def test_tag(self, store: DataStore, write: Writer) -> None:
        """A tag names its commit for good."""
        first = write("main", {"a": "1"})
        store.tag("flights/1.0", "main")
        write("main", {"a": "2"})
        store.tag("flights/1.0", first)
        with pytest.raises(ConflictError, match=r"flights/1\.0"):
            store.tag("flights/1.0", "main")
        assert store.tags() == {"flights/1.0": first}
        assert write.read("flights/1.0") == {"a": "1"}

    def test_log(self, store: DataStore, write: Writer) -> None:
        """The log is newest first, and ends at a commit without objects."""
        made = [write("main", {"a": str(n)}, message=str(n)) for n in range(3)]
        log = list(store.log("main"))
        assert [revision.id for revision in log[:3]] == made[::-1]
        assert [revision.message for revision in log[:3]] == ["2", "1", "0"]
        assert store.ls(log[-1].id) == []
        assert [revision.parents[0] for revision in log[:-1]] == [revision.id for revision in log[1:]]

    def test_diff(self, store: DataStore, write: Writer) -> None:
        """A diff tells what was added, removed and changed, and nothing else."""
        left = write("main", {"a": "1", "b/c": "1", "b/d": "1", "e/f": "1"})
        write("main", {"b/d": "2", "b.x": "1", "g/h": "1"}, deletes=["e/f"])
        assert store.diff(left, "main") == [
            Change("b.x", "added"),
            Change("b/d", "changed"),
            Change("e/f", "removed"),
            Change("g/h", "added"),
        ]
        assert store.diff("main", "main") == []

    def test_ls(self, store: DataStore, write: Writer) -> None:
        """A prefix is a folder, with or without its slash; a folder that is not there has nothing in it."""
        write("main", {"a/b": "1", "a/c/d": "1", "ab": "1", "a.b": "1"})
        for prefix in ("a", "a/"):
            assert [entry.path for entry in store.ls("main", prefix)] == ["a/b", "a/c/d"]
        assert [entry.path for entry in store.ls("main")] == ["a.b", "a/b", "a/c/d", "ab"]
        assert store.ls("main", "b") == store.ls("main", "ab") == []

    def test_tree(self, store: DataStore, write: Writer) -> None:
        """Equal data has an equal digest, however it came to be."""
        store.branch("side", "main")
        write("side", {"a": "1", "b/c": "2"})
        write("main", {"a": "0", "b/c": "2"})
        assert store.tree("main") != store.tree("side")
        write("main", {"a": "1"})
        assert store.tree("main") == store.tree("side") == tree_digest(reversed(store.ls("main")))

    def test_has(self, store: DataStore, write: Writer) -> None:
        """A commit that is there is there, another one is not."""
        commit = write("main", {"a": "1", "b/c": ""})
        assert store.has(commit)
        assert store.has("main")
        assert not store.has("0123456789abcdef" * 2 + "01234567")

    def test_revert(self, store: DataStore, write: Writer) -> None:
        """A revert undoes what one commit changed, and leaves what came before and after."""
        write("main", {"a": "1", "b": "1"})
        bad = write("main", {"a": "2", "c/d": "2"}, deletes=["b"])
        write("main", {"e": "3"})
        undone = store.revert("main", bad, message="Undo", key="u")
        assert write.read("main") == {"a": "1", "b": "1", "e": "3"}
        assert undone.message == "Undo"
        assert store.revert("main", bad, message="Undo", key="u") == undone
        assert write.keyed("main", "Undo") == 1

    def test_revert_of_a_merge(self, store: DataStore, write: Writer) -> None:
        """Reverting a merge undoes what it brought to the branch."""
        write("main", {"a": "1"})
        store.branch("side", "main")
        write("side", {"a": "2", "b": "2"})
        write("main", {"c": "3"})
        merged = write.merge("side", "main")
        store.revert("main", merged, message="Undo", key="u")
        assert write.read("main") == {"a": "1", "c": "3"}

    def test_revert_conflict(self, store: DataStore, write: Writer) -> None:
        """A path that a later commit changed cannot be reverted under it; nothing is written."""
        write("main", {"a": "1", "b": "1"})
        bad = write("main", {"a": "2", "b": "2"})
        head = write("main", {"a": "3"})
        with pytest.raises(ConflictError, match="'a'") as raised:
            store.revert("main", bad, message="Undo", key="u")
        assert raised.value.details == "a"
        assert store.resolve("main").id == head

    def test_revert_of_the_first(self, store: DataStore) -> None:
        """The first commit cannot be undone."""
        first = list(store.log("main"))[-1].id
        with pytest.raises(ConfigError, match="first commit"):
            store.revert("main", first, message="Undo", key="u")

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    def test_names(self, store: DataStore, write: Writer) -> None:
        """A name outside the allow-list is refused wherever it is given, and nothing is written."""
        head, file = store.resolve("main").id, write.file("1")
        options = {"message": "m", "metadata": VALIDATED, "key": "k"}
        calls: list[Callable[[str], object]] = [
            lambda name: store.commit("main", {name: file}, **options),
            lambda name: store.commit("main", {}, deletes=[name], **options),
            lambda name: store.commit(name, {"a": file}, **options),
            lambda name: store.branch(name, "main"),
            lambda name: store.branch("b", name),
            lambda name: store.delete_branch(name),
            lambda name: store.tag(name, "main"),
            lambda name: store.tag("t", name),
            lambda name: store.merge(name, "main", **options),
            lambda name: store.merge("main", name, **options),
            lambda name: store.resolve(name),
            lambda name: store.local("main", name),
            lambda name: store.has(name),
        ]
        for call, name in product(calls, OUTSIDE):
            with pytest.raises(ConfigError, match=re.escape(repr(name))):
                call(name)
        assert store.resolve("main").id == head
        assert (store.branches(), store.tags()) == (["main"], {})

    @pytest.mark.parametrize("path", [".gitattributes", "_lakefs_actions/trilha.yaml"])
    def test_own_files(self, write: Writer, path: str) -> None:
        """A store's own files can be neither written nor deleted."""
        with pytest.raises(ConfigError):
            write("main", {path: "1"})
        with pytest.raises(ConfigError):
            write("main", deletes=[path])

    @pytest.mark.parametrize("name", ["0123456", "deadbeef"])
    def test_names_like_ids(self, store: DataStore, name: str) -> None:
        """No branch or tag can be taken for a commit id."""
        with pytest.raises(ConfigError):
            store.branch(name, "main")
        with pytest.raises(ConfigError):
            store.tag(name, "main")

    def test_put_and_deleted(self, write: Writer) -> None:
        """One commit cannot put and delete the same path."""
        write("main", {"a": "1"})
        with pytest.raises(ConfigError, match="'a'"):
            write("main", {"a": "2"}, deletes=["a"])

    def test_not_found(self, store: DataStore, write: Writer) -> None:
        """A ref, a path or a file that does not exist is named, and nothing is written."""
        head = write("main", {"a/b": "1"})
        options = {"message": "m", "metadata": VALIDATED, "key": "k"}
        calls: list[tuple[str, Callable[[], object]]] = [
            ("nothing", lambda: store.resolve("nothing")),
            ("0123456789", lambda: store.resolve("0123456789")),
            ("nothing", lambda: store.ls("nothing")),
            ("nothing", lambda: list(store.log("nothing"))),
            ("nothing", lambda: store.diff("main", "nothing")),
            ("nothing", lambda: store.tree("nothing")),
            ("nothing", lambda: store.local("nothing", "a/b")),
            ("a/c", lambda: store.local("main", "a/c")),
            ("a", lambda: store.local("main", "a")),
            ("a/b/c", lambda: store.local("main", "a/b/c")),
            ("nothing", lambda: store.branch("b", "nothing")),
            ("nothing", lambda: store.tag("t", "nothing")),
            ("nothing", lambda: store.commit("nothing", {}, **options)),
            ("nothing", lambda: store.merge("nothing", "main", **options)),
            ("nothing", lambda: store.merge("main", "nothing", **options)),
            ("nothing", lambda: store.revert("main", "nothing", message="m", key="k")),
            ("a/c", lambda: store.commit("main", {}, deletes=["a/c"], **options)),
            ("no-file", lambda: store.commit("main", {"x": write.folder / "no-file"}, **options)),
        ]
        for named, call in calls:
            with pytest.raises(NotFoundError, match=named):
                call()
        assert store.resolve("main").id == head
        assert store.branches() == ["main"]

    def test_commits_need_a_branch(self, store: DataStore, write: Writer) -> None:
        """A tag or a commit id is no place to commit to."""
        store.tag("v1", "main")
        for ref in ("v1", store.resolve("main").id):
            with pytest.raises(NotFoundError, match=ref):
                write(ref, {"a": "1"})
            with pytest.raises(NotFoundError, match=ref):
                write.merge("main", ref)

    def test_failed_commit(self, store: DataStore, write: Writer) -> None:
        """A commit that fails half-way leaves nothing to see, and works when it is tried again."""
        head = store.resolve("main").id
        puts = {"a": write.file("1"), "b": write.folder / "late"}
        with pytest.raises(NotFoundError, match="late"):
            store.commit("main", puts, message="m", metadata={}, key="k")
        assert store.resolve("main").id == head
        (write.folder / "late").write_text("2")
        store.commit("main", puts, message="m", metadata={}, key="k")
        assert write.read("main") == {"a": "1", "b": "2"}

    def test_killed_while_reading(self, store: DataStore, write: Writer) -> None:
        """A process killed while it takes in a file leaves nothing to see; the next attempt makes one commit."""
        head, pipe = store.resolve("main").id, write.folder / "pipe"
        os.mkfifo(pipe)
        code = "store.commit('main', {'a': Path(sys.argv[1])}, message='big', metadata={}, key='k')"
        child = other_process(code, str(pipe))
        with pipe.open("wb") as slow:  # opens when the child reads
            slow.write(b"x" * 3_000_000)
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert store.resolve("main").id == head
        assert store.ls("main") == []
        write("main", {"a": "whole"}, key="k", message="big")
        assert write.read("main") == {"a": "whole"}
        assert write.keyed("main", "big") == 1

    @pytest.mark.long
    def test_killed_at_any_time(self, store: DataStore, write: Writer) -> None:
        """A process killed at any moment of a commit leaves the old head or the new one, and later writers in peace."""
        code = """
print(store.commit("main", {f"p{n}": Path(sys.argv[1]) for n in range(4)}, message=sys.argv[2], metadata={},
                   key=sys.argv[2]).id)
"""
        big = write.file(os.urandom(24_000_000))
        for attempt in range(8):
            before, message = store.resolve("main").id, f"attempt {attempt}"
            with big.open("ab") as file:  # other bytes, so that there is something to copy each time
                file.write(b"!")
            child = other_process(code, str(big), message)
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            time.sleep(attempt * 0.05)
            child.kill()
            child.communicate()
            head = store.resolve("main")
            assert head.id == before or (head.message, head.parents) == (message, (before,))
            assert store.has("main")
            puts = {f"p{n}": big for n in range(4)}
            store.commit("main", puts, message=message, metadata={}, key=message)
            assert write.keyed("main", message) == 1
            assert store.local("main", "p3").read_bytes() == big.read_bytes()
        assert store.branches() == ["main"]
