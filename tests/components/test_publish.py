"""Publish: `main` holds the data of one run, as a whole, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import GateError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.publish import publish
from components.records import Artifact, Commit, Validation
from components.source_settings import Table
from components.tables import contents
from components.workspace import Workspace

FILE = Artifact(path="", sha256="", size=0)


def ingested(repository: Path, key: str, rows: dict[int, int], project: str = "shop") -> Commit:
    """Ingest `rows` (month -> n), one partition a month."""
    path = repository / f"{project}.csv"
    path.write_text("month,n\n" + "".join(f"{month},{n}\n" for month, n in rows.items()))
    sources = {"sales": Table(path=path.name, partition="month")}
    with running_as(key * 64):
        return ingest(project, "test", sources, observe(project, "test", sources))


def published(commit: Commit, key: str, project: str = "shop") -> Commit:
    with running_as(key * 64):
        verdict = Validation(tree=commit.tree, results=(), report=FILE, docs=FILE, offending=None)
        return publish(project, "test", commit, verdict)


def months(workspace: Workspace, ref: str = "main") -> dict[str, str]:
    """What the project's folder holds: path -> content."""
    return {entry.path: entry.sha256 for entry in workspace.store.ls(ref, "shop")}


def test_main_gets_the_data_and_the_branch_goes(repository: Path, workspace: Workspace) -> None:
    """The result names the commit on `main`, the same data, and what vouched for it."""
    raw = ingested(repository, "1", {1: 10, 2: 20})
    done = published(raw, "a")
    assert (done.branch, done.tree, done.tables) == ("main", raw.tree, raw.tables)
    head = workspace.store.resolve("main")
    assert head.id == done.id
    assert raw.id in head.parents
    assert head.metadata["project"] == "shop"
    assert len(head.metadata["validation"]) == 64
    assert months(workspace) == months(workspace, raw.id)
    assert workspace.store.branches() == ["main"]


def test_done_again_after_a_crash_it_is_the_same_commit(repository: Path, workspace: Workspace) -> None:
    """Killed after the merge, before or after the branch was deleted: one merge, not two."""
    raw = ingested(repository, "1", {1: 10})
    done = published(raw, "a")
    assert published(raw, "a") == done
    workspace.store.branch(raw.branch, raw.id)
    assert published(raw, "a") == done
    assert workspace.store.branches() == ["main"]
    assert len(list(workspace.store.log("main"))) == 2


def test_a_verdict_on_other_data_is_refused(repository: Path, workspace: Workspace) -> None:
    """What is published is what was checked."""
    raw = ingested(repository, "1", {1: 10})
    before = workspace.store.resolve("main").id
    verdict = Validation(tree="0" * 64, results=(), report=FILE, docs=FILE, offending=None)
    with running_as("a" * 64), pytest.raises(GateError, match="000000000000"):
        publish("shop", "test", raw, verdict)
    assert workspace.store.resolve("main").id == before


def test_two_runs_side_by_side_are_never_mixed(repository: Path, workspace: Workspace) -> None:
    """They changed different partitions, so that by paths alone both would fit; the later one stands as a whole."""
    published(ingested(repository, "1", {1: 10, 2: 20}), "a")
    one = ingested(repository, "2", {1: 11, 2: 20})
    two = ingested(repository, "3", {1: 10, 2: 22, 3: 30})
    first, second = published(one, "b"), published(two, "c")
    assert months(workspace, first.id) == months(workspace, one.id)
    assert months(workspace, second.id) == months(workspace, two.id)
    assert contents(workspace.store, "main", "shop") == contents(workspace.store, two.id, "shop")
    assert first.id in [revision.id for revision in workspace.store.log("main")]
    assert workspace.store.branches() == ["main"]


def test_earlier_data_can_be_published_again(repository: Path, workspace: Workspace) -> None:
    """The source went back to what it was: so does `main`, by a new commit."""
    one = ingested(repository, "1", {1: 10, 2: 20})
    published(one, "a")
    published(ingested(repository, "2", {1: 11}), "b")
    again = published(one, "a")
    assert again.tree == one.tree
    assert months(workspace) == months(workspace, one.id)
    assert len(list(workspace.store.log("main"))) == 4
    assert published(one, "a") == again


def test_another_project_is_left_alone(repository: Path, workspace: Workspace) -> None:
    """Projects share a store and do not see each other."""
    one = ingested(repository, "1", {1: 10})
    other = ingested(repository, "2", {1: 99}, project="other")
    published(one, "a")
    published(other, "b", project="other")
    assert months(workspace) == months(workspace, one.id)
    assert len(workspace.store.ls("main", "other")) == 1
    ingested(repository, "3", {1: 99}, project="other")
    assert published(one, "a").tree == one.tree


def test_nothing_new_is_nothing_to_do(repository: Path, workspace: Workspace) -> None:
    """Data that `main` holds already is published as it is."""
    done = published(ingested(repository, "1", {1: 10}), "a")
    again = ingested(repository, "2", {1: 10})
    assert again.branch == "main"
    assert published(again, "b") == done
