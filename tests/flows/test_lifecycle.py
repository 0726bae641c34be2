"""The lifecycle from a commit in place of the sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts import sha256
from components.errors import NotFoundError
from components.runs import RunLog
from components.workspace import Workspace, open_workspace
from flows.execute import execute, lifecycle_of
from flows.trail import trail
from tests.examples import commit_parcels


def test_data_comes_in_one_way_or_the_other(small: Path) -> None:
    """A commit takes the place of the sources; all that follows is the same DAG."""
    workspace = open_workspace("test")
    project = small / "config" / "projects" / "small" / "project.yaml"
    project.write_text(project.read_text() + "policy: {ingest: {retries: 1}, adopt: {retries: 1}}\n")
    theirs = commit_parcels(workspace)
    from_sources, from_commit = lifecycle_of("small", "test"), lifecycle_of("small", "test", commit="incoming")
    assert [node.name for node in from_sources.nodes[:2]] == ["observe", "ingest"]
    assert from_commit.nodes[0].name == "adopt"
    assert from_commit.nodes[0].arguments["commit"] == theirs
    assert [node.name for node in from_sources.nodes[2:]] == [node.name for node in from_commit.nodes[1:]]


def test_the_commits_data_is_published(small: Path) -> None:
    """Validated and published like any other; a second run, by another name of the commit, finds it all done."""
    workspace = open_workspace("test")
    theirs = commit_parcels(workspace, rows=1_000)
    (small / "data" / "parcels.csv").unlink()

    def run(commit: str) -> list[str]:
        dag = lifecycle_of("small", "test", "publish", commit)
        published = execute(dag, project="small", profile="test")
        log = RunLog(workspace)
        assert published.model_dump()["tables"] == {"parcels": 1_000}
        return [state.status for state in log.nodes(log.header("last").id).values()]

    assert run("incoming") == ["done"] * 3
    assert run(theirs[:12]) == ["found"] * 3
    assert {entry.sha256 for entry in workspace.store.ls("main", "small")} == {
        entry.sha256 for entry in workspace.store.ls(theirs, "small")
    }
    (source,) = (link for link in trail(workspace, "last") if link.what == "source")
    assert source.name == f"commit:{theirs}/small/parcels/data.parquet"
    assert source.lines[-1] == f"SHA-256 {workspace.store.ls(theirs, 'small')[0].sha256}"


def test_the_trail_ends_at_the_bytes(small: Path) -> None:
    """Its last link has the digest of the file that the tables were read from."""
    execute(lifecycle_of("small", "test", "publish"), project="small", profile="test")
    (source,) = (link for link in trail(open_workspace("test"), "last") if link.what == "source")
    assert source.name == "data/parcels.csv"
    assert source.lines[-1] == f"SHA-256 {sha256(small / 'data' / 'parcels.csv')}"


def test_no_such_commit(small: Path) -> None:
    """It is said before anything runs."""
    with pytest.raises(NotFoundError, match="no branch, tag or commit 'incomming'"):
        lifecycle_of("small", "test", commit="incomming")


def test_a_branch_that_moved(small: Path, workspace: Workspace) -> None:
    """The commit is the one that the branch named when the run began."""
    first = commit_parcels(workspace, rows=500)
    dag = lifecycle_of("small", "test", commit="incoming")
    second = commit_parcels(workspace, rows=600)
    assert dag["adopt"].arguments["commit"] == first != second
