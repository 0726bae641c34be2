"""The manifests of a project: numbered from 1, newest first, one for one key, on a branch of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from components import config
from components.errors import ConflictError, NotFoundError
from components.records import Release, digest
from components.releases import ATTEMPTS, BRANCH, newest, release_number, releases, write
from components.workspace import Workspace
from tests.flows.page.conftest import made


@pytest.fixture
def like(workspace: Workspace) -> Release:
    """A release with every field filled; it is not written yet."""
    return made(workspace)


def written(workspace: Workspace, like: Release, name: str, project: str = "flights") -> Release:
    """A release of its own key and digest."""
    key = digest(["release", name])
    change = {"project": project, "key": key, "digest": digest(name)}
    return write(workspace.store, project, key, lambda number: like.model_copy(update={**change, "number": number}))


def other_writes(workspace: Workspace, like: Release, folder: Path) -> None:
    """A commit on the branch by somebody else, between our look at it and our write."""
    path = folder / "theirs.json"
    path.write_text(like.model_dump_json())
    key = digest([path.name, workspace.store.resolve(BRANCH).id])
    workspace.store.commit(BRANCH, {"theirs/000001.json": path}, message="theirs", metadata={}, key=key)


def test_newest_first(workspace: Workspace, like: Release) -> None:
    """Numbers count a project's releases from 1, and each comes back as it was written; `main` holds none of them."""
    before = workspace.store.ls("main")
    one, two = written(workspace, like, "one"), written(workspace, like, "two")
    elsewhere = written(workspace, like, "one elsewhere", project="parcels")
    assert (one.number, two.number, elsewhere.number) == (1, 2, 1)
    assert list(releases(workspace.store, "flights")) == [two, one]
    assert newest(workspace.store, "flights") == two
    assert release_number(workspace.store, "flights", 1) == one
    assert list(releases(workspace.store, "parcels")) == [elsewhere]
    assert workspace.store.ls("main") == before


def test_more_than_nine(workspace: Workspace, like: Release) -> None:
    """The tenth comes after the ninth, not after the first."""
    for number in range(11):
        written(workspace, like, str(number))
    assert [release.number for release in releases(workspace.store, "flights")] == list(range(11, 0, -1))


def test_one_key_is_one_release(workspace: Workspace, like: Release) -> None:
    """A step that was killed after its write finds what it wrote, also when others have written since."""
    one = written(workspace, like, "one")
    assert written(workspace, like, "one") == one
    two = written(workspace, like, "two")
    assert written(workspace, like, "one") == one
    assert list(releases(workspace.store, "flights")) == [two, one]


def test_the_same_evidence_is_the_same_release(workspace: Workspace, like: Release) -> None:
    """What serves already is not written again under another key; what served before is."""
    one = written(workspace, like, "one")

    def again(key: str) -> Release:
        key = digest(key)
        return write(
            workspace.store, "flights", key, lambda number: one.model_copy(update={"number": number, "key": key})
        )

    assert again("a") == one
    written(workspace, like, "two")
    assert again("b").number == 3


def test_none_yet(workspace: Workspace, like: Release) -> None:
    """A project without a release, and a number or a project that there is not, are named with what there is."""
    assert list(releases(workspace.store, "flights")) == []
    for ask in (newest, lambda store, project: release_number(store, project, 1)):
        with pytest.raises(NotFoundError, match="no project 'flights'; accepted: none yet; next: create"):
            ask(workspace.store, "flights")
    (config.root() / "config" / "projects" / "flights").mkdir()
    with pytest.raises(NotFoundError, match="'flights' has no release; next: trilha run flights"):
        newest(workspace.store, "flights")
    with pytest.raises(NotFoundError, match="no release 1; accepted: none yet; next: trilha run flights"):
        release_number(workspace.store, "flights", 1)
    written(workspace, like, "one")
    written(workspace, like, "two")
    with pytest.raises(NotFoundError, match="no release 3; accepted: 2, 1; next: trilha releases flights"):
        release_number(workspace.store, "flights", 3)


def test_others_write_at_the_same_time(workspace: Workspace, like: Release, tmp_path: Path) -> None:
    """One who came first is stepped around; where they never stop, nothing of ours is written and it is said."""
    written(workspace, like, "one")
    calls: list[int] = []

    def make(number: int) -> Release:
        calls.append(number)
        if len(calls) < 3:
            other_writes(workspace, like, tmp_path)
        return like.model_copy(update={"number": number, "key": digest("two"), "digest": digest("two")})

    assert write(workspace.store, "flights", digest("two"), make).number == 2
    assert calls == [2, 2, 2]

    def hindered(number: int) -> Release:
        calls.append(number)
        other_writes(workspace, like, tmp_path)
        return like.model_copy(update={"number": number, "key": digest("three"), "digest": digest("three")})

    with pytest.raises(ConflictError):
        write(workspace.store, "flights", digest("three"), hindered)
    assert calls == [2, 2, 2] + [3] * ATTEMPTS
    assert newest(workspace.store, "flights").number == 2
