from __future__ import annotations

from components.champion import champion
from components.records import Artifact, Candidate, Graphs, Release, digest
from components.releases import write
from components.workspace import Workspace
from tests.flows.page.conftest import made


def graphs(name: str) -> Graphs:
    file = Artifact(path=f"{name}/x.onnx", sha256=digest(name), size=1)
    return Graphs(pre=file, model=file, post=file)


def with_graphs(candidate: Candidate, name: str) -> Candidate:
    return candidate.model_copy(update={"trial": candidate.trial.model_copy(update={"graphs": graphs(name)})})


def publish(workspace: Workspace, like: Release, name: str) -> Release:
    """A further release, of the model `name`."""
    key = digest(["release", name])

    def make(number: int) -> Release:
        return like.model_copy(
            update={"number": number, "key": key, "digest": key, "candidate": with_graphs(like.candidate, name)}
        )

    return write(workspace.store, like.project, key, make)


def test_first_release(workspace: Workspace) -> None:
    """Where nothing was released there is nothing to beat."""
    found = champion("flights", "test", made(workspace).candidate)
    assert (found.release, found.graphs) == (0, None)


def test_newest_of_others(workspace: Workspace) -> None:
    """The newest release is to be beaten, and a project's own only."""
    like = made(workspace)
    publish(workspace, like, "old")
    newest = publish(workspace, like, "new")
    found = champion("flights", "test", with_graphs(like.candidate, "candidate"))
    assert (found.release, found.graphs) == (newest.number, graphs("new"))
    assert champion("elsewhere", "test", like.candidate).graphs is None


def test_own_release_is_passed_over(workspace: Workspace) -> None:
    """Run again, a released candidate meets the same champion as before its release."""
    like = made(workspace)
    publish(workspace, like, "old")
    candidate = with_graphs(like.candidate, "candidate")
    before = champion("flights", "test", candidate)
    publish(workspace, like, "candidate")
    after = champion("flights", "test", candidate)
    assert after == before
    assert after.graphs == graphs("old")
