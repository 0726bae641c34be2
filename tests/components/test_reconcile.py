"""Alias, tag and served model follow the newest manifest, whatever was left undone or moved since."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import NotFoundError, UnavailableError
from components.reconcile import ALIAS, reconcile, settled, uphold
from components.records import Release, digest
from components.releases import newest, write
from components.serving import take_down
from components.workspace import Workspace, open_workspace
from tests.components.test_release import evidence, is_served, released
from tests.triton import Fitted


def written(workspace: Workspace, like: Release, name: str) -> Release:
    """A further manifest, as one that is killed right after it leaves it."""
    key = digest(name)
    return write(
        workspace.store,
        like.project,
        key,
        lambda number: like.model_copy(update={"number": number, "key": key, "digest": key}),
    )


@pytest.fixture
def one(registry: Workspace, fitted: Fitted) -> Release:
    """A release that serves."""
    return released(registry, fitted, "one")


def test_everything_follows(registry: Workspace, one: Release, fitted: Fitted) -> None:
    """A manifest alone, another alias, an emptied server: all three are put right, and once right nothing changes."""
    elsewhere = evidence(registry, fitted, "elsewhere")["version"]
    registry.tracker.point(name="flights", alias=ALIAS, version=elsewhere.version)
    for model in ("flights", one.bundle.model):
        take_down(registry.server, model)
    two = written(registry, one, "two")
    assert not settled(registry, two)
    assert reconcile(registry, "flights") == two
    is_served(registry, two, fitted)
    assert registry.store.tags()["release/flights/2"] == two.commit.id
    before = registry.store.tags(), registry.server.loaded()
    assert reconcile(registry, "flights") == two
    assert (registry.store.tags(), registry.server.loaded()) == before
    is_served(registry, two, fitted)


def test_another_release_meanwhile(
    registry: Workspace, one: Release, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is written while an older one is being put right is what everything follows in the end."""
    later = evidence(registry, fitted, "later")["version"]
    point = registry.tracker.point
    moved: list[str] = []

    def slowly(*, name: str, alias: str, version: str) -> None:
        if not moved:
            written(registry, one.model_copy(update={"version": later}), "two")
        moved.append(version)
        point(name=name, alias=alias, version=version)

    monkeypatch.setattr(registry.tracker, "point", slowly)
    assert reconcile(registry, "flights").number == 2
    assert moved == [one.version.version, later.version]
    is_served(registry, newest(registry.store, "flights"), fitted)


def test_it_is_settled_when_all_is_done(registry: Workspace, one: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is down leaves it unsettled, however much was done; the next attempt finishes it."""
    two = written(registry, one, "two")

    def down(**_: str) -> None:
        raise UnavailableError("down")

    with monkeypatch.context() as patched, pytest.raises(UnavailableError):  # noqa: PT012  # the patch is part of it
        patched.setattr(registry.tracker, "point", down)
        reconcile(registry, "flights")
    assert not settled(registry, two)
    reconcile(registry, "flights")
    assert settled(registry, two)


def test_lost_bundle_is_made_anew(registry: Workspace, one: Release, fitted: Fitted) -> None:
    """Its files are gone and the server is empty: the release serves again all the same."""
    for model in ("flights", one.bundle.model):
        take_down(registry.server, model)
    for file in (*one.bundle.files.values(), one.bundle.golden):
        registry.artifacts.local(file).unlink()
    uphold(registry, one)
    is_served(registry, one, fitted)


def test_damaged_golden_file(registry: Workspace, one: Release, fitted: Fitted) -> None:
    """Bytes that are no Parquet, and as many as before: they are made anew too."""
    golden = registry.artifacts.local(one.bundle.golden)
    golden.write_bytes(bytes(golden.stat().st_size))
    assert reconcile(registry, "flights") == one
    is_served(registry, one, fitted)
    assert registry.artifacts.local(one.bundle.golden).read_bytes().startswith(b"PAR1")


@pytest.mark.usefixtures("small")
def test_no_release(workspace: Workspace) -> None:
    """There is nothing to follow, and what to do is said."""
    with pytest.raises(NotFoundError, match="next: trilha run small"):
        reconcile(workspace, "small")


def test_no_server(registry: Workspace, one: Release, repository: Path) -> None:
    """A server that is down is an error: the release does not serve."""
    path = repository / "config" / "profiles" / "test.yaml"
    path.write_text(path.read_text().replace(registry.server.address, "127.0.0.1:1"))
    open_workspace.cache_clear()
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        reconcile(open_workspace("test"), "flights")
