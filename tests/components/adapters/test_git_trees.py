"""Git trees behave as dicts from path to blob."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pygit2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.adapters.git_trees import Id, at, differences, edited, merged
from components.errors import ConflictError

PART = st.sampled_from(["a", "b", "a.b", "a-b"])
PATHS = st.lists(PART, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(PATHS, st.sampled_from("123"), max_size=8)

tree_test = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[pygit2.Repository]:
    repo = pygit2.init_repository(str(tmp_path / "x.git"), bare=True)
    yield repo
    repo.free()


def clash(tree: dict[str, str]) -> bool:
    """Whether a path is an object and a folder at once."""
    return any(other.startswith(f"{path}/") for path in tree for other in tree)


def make(repo: pygit2.Repository, tree: dict[str, str]) -> Id:
    return edited(repo, None, {path: repo.create_blob(text.encode()).raw for path, text in tree.items()})


def read(repo: pygit2.Repository, tree: Id) -> dict[str, str]:
    found = differences(repo, None, tree)
    return {path: repo.read(pygit2.Oid(raw=blob))[1].decode() for path, _, blob in found if blob}


@tree_test
@given(tree=TREES.filter(lambda tree: tree and not clash(tree)), path=PATHS)
def test_at(repo: pygit2.Repository, tree: dict[str, str], path: str) -> None:
    """A path is an object, a folder of some, or nothing, also below an object."""
    found = at(repo[pygit2.Oid(raw=make(repo, tree) or b"")].peel(pygit2.Tree), path)
    if path in tree:
        assert isinstance(found, pygit2.Blob)
        assert found.data.decode() == tree[path]
    elif any(other.startswith(f"{path}/") for other in tree):
        assert isinstance(found, pygit2.Tree)
    else:
        assert found is None


@tree_test
@given(before=TREES.filter(lambda tree: not clash(tree)), puts=TREES, data=st.data())
def test_edited(repo: pygit2.Repository, before: dict[str, str], puts: dict[str, str], data: st.DataObject) -> None:
    """Editing is updating a dict, unless a path would be an object and a folder at once."""
    deletes = data.draw(st.sets(st.sampled_from(sorted(before)))) - puts.keys() if before else set()
    after = {path: text for path, text in {**before, **puts}.items() if path not in deletes}
    blobs: dict[str, Id] = {path: repo.create_blob(text.encode()).raw for path, text in puts.items()}
    edits = {**blobs, **dict.fromkeys(deletes)}
    if clash(after):
        with pytest.raises(ConflictError):
            edited(repo, make(repo, before), edits)
    else:
        tree = edited(repo, make(repo, before), edits)
        assert read(repo, tree) == after
        assert tree == make(repo, after)


@tree_test
@given(left=TREES.filter(lambda tree: not clash(tree)), right=TREES.filter(lambda tree: not clash(tree)))
def test_differences(repo: pygit2.Repository, left: dict[str, str], right: dict[str, str]) -> None:
    """The differences are the paths whose content differs, each once."""
    found = [path for path, _, _ in differences(repo, make(repo, left), make(repo, right))]
    assert len(found) == len(set(found))
    assert set(found) == {path for path in left.keys() | right.keys() if left.get(path) != right.get(path)}


@tree_test
@given(base=TREES.filter(lambda tree: not clash(tree)), ours=TREES.filter(lambda tree: not clash(tree)), data=st.data())
def test_merged(repo: pygit2.Repository, base: dict[str, str], ours: dict[str, str], data: st.DataObject) -> None:
    """Merging is merging dicts by path; what both sides changed in different ways is listed, each path once."""
    theirs = data.draw(TREES.filter(lambda tree: not clash(tree)))
    changed = {path for path in base.keys() | theirs.keys() if theirs.get(path) != base.get(path)}
    wrong = {path for path in changed if ours.get(path) not in {base.get(path), theirs.get(path)}}
    sides = {
        path: (theirs if path in changed else ours).get(path) for path in base.keys() | ours.keys() | theirs.keys()
    }
    after = {path: text for path, text in sides.items() if text is not None}
    found: list[str] = []
    trees = [make(repo, tree) for tree in (base, ours, theirs)]
    if not wrong and clash(after):
        with pytest.raises(ConflictError, match="object and a folder"):
            merged(repo, *trees, found)
    elif not wrong:
        assert merged(repo, *trees, found) == make(repo, after)
        assert found == []
    else:
        with suppress(ConflictError):
            merged(repo, *trees, found)
            assert sorted(found) == sorted(wrong)
