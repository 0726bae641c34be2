"""`trilha data` on a real store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.errors import ConflictError, NotFoundError
from components.workspace import Workspace
from flows.cli.data import data_app


class Data:
    """A store with two commits, and the command."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.store, self.folder = workspace.store, folder
        metadata = {"rows.flights": "1"}
        self.first = self.commit(
            {"flights/1.csv": "a\n1\n", "planes.csv": "b\n2\n"}, "Ingest flights\n\n2013", metadata
        )
        self.second = self.commit({"flights/1.csv": "a\n9\n", "flights/2.csv": "a\n3\n"}, "Ingest more", {})

    def commit(self, contents: dict[str, str], message: str, metadata: dict[str, str]) -> str:
        puts = {}
        for path, content in contents.items():
            puts[path] = self.folder / path.replace("/", "-")
            puts[path].write_text(content)
        return self.store.commit("main", puts, message=message, metadata=metadata, key=message).id

    def __call__(self, *arguments: str) -> str:
        result = CliRunner().invoke(data_app, [*arguments, "--profile", "test"])
        if result.exception:
            raise result.exception
        return result.stdout


@pytest.fixture
def data(workspace: Workspace, tmp_path: Path) -> Data:
    return Data(workspace, tmp_path)


def test_log(data: Data) -> None:
    """A line a commit, newest first, with its metadata; JSON has all of it."""
    heading, second, first, *_ = data("log").splitlines()
    assert heading.split() == ["commit", "created", "message", "metadata"]
    assert second.startswith(data.second[:12])
    assert second.endswith("Ingest more")
    assert first.startswith(data.first[:12])
    assert first.endswith("Ingest flights  rows.flights=1")
    assert data("log", data.first).splitlines()[1] == first
    revisions = json.loads(data("log", "--json"))
    assert [revision["id"] for revision in revisions[:2]] == [data.second, data.first]
    assert revisions[1]["message"] == "Ingest flights\n\n2013"
    assert revisions[1]["metadata"] == {"rows.flights": "1"}


def test_diff(data: Data) -> None:
    """A line a path, with a sign."""
    assert data("diff", data.first, "main") == "~ flights/1.csv\n+ flights/2.csv\n"
    assert data("diff", "main", data.first[:7]) == "~ flights/1.csv\n- flights/2.csv\n"
    assert data("diff", "main", "main") == "no difference\n"
    assert json.loads(data("diff", data.first, "main", "--json"))[1] == {"path": "flights/2.csv", "kind": "added"}


def test_ls(data: Data) -> None:
    """A line an object; of a folder, where one is given."""
    assert [line.split()[0::2] for line in data("ls").splitlines()] == [
        ["size", "path"],
        ["4", "flights/1.csv"],
        ["4", "flights/2.csv"],
        ["4", "planes.csv"],
    ]
    assert [entry["path"] for entry in json.loads(data("ls", data.first, "flights", "--json"))] == ["flights/1.csv"]


def test_ls_of_a_folder_that_is_not_there(data: Data) -> None:
    """Named, with those that there are; an empty table would say that it is empty."""
    message = (
        r"nothing in 'main' is below 'flihgts' \(did you mean 'flights'\?\); accepted: flights, planes.csv; next: "
    )
    with pytest.raises(NotFoundError, match=message):
        data("ls", "main", "flihgts")


def test_get(data: Data, tmp_path: Path) -> None:
    """Where the object lies, or a copy that is one's own."""
    assert Path(data("get", data.first, "flights/1.csv").strip()).read_text() == "a\n1\n"
    copy = tmp_path / "copy.csv"
    assert data("get", "main", "flights/1.csv", "--to", str(copy)) == f"{copy}\n"
    copy.write_text(f"{copy.read_text()}10\n")
    (tmp_path / "folder").mkdir()
    data("get", "main", "planes.csv", "--to", str(tmp_path / "folder"))
    assert (tmp_path / "folder" / "planes.csv").read_text() == "b\n2\n"
    assert data.store.local("main", "flights/1.csv").read_text() == "a\n9\n"


def test_tag(data: Data) -> None:
    """A tag names a commit, for good."""
    assert data("tag", "flights/1.0", data.first) == f"flights/1.0 is {data.first[:12]}\n"
    assert json.loads(data("tag", "flights/1.0", data.first, "--json")) == {"tag": "flights/1.0", "commit": data.first}
    with pytest.raises(ConflictError, match="flights/1.0"):
        data("tag", "flights/1.0", "main")


def test_revert(data: Data) -> None:
    """A commit is undone by a new one; made again, it can be undone again. How long that holds is said."""
    said, hint = data("revert", "main").splitlines()
    assert said.startswith("main is at ")
    assert said.endswith(f", without what {data.second[:12]} changed (Ingest more)")
    assert "the next run publishes what the sources hold" in hint
    assert "trilha run PROJECT --commit main" in hint
    assert data.store.tree("main") == data.store.tree(data.first)
    again = data.commit({"flights/1.csv": "a\n9\n", "flights/2.csv": "a\n3\n"}, "Ingest more again", {})
    data("revert", again)
    assert data.store.tree("main") == data.store.tree(data.first)
    assert len(list(data.store.log("main"))) == 6


def test_revert_on_a_branch(data: Data) -> None:
    """`--branch` says where."""
    data.store.branch("side", "main")
    assert "the next run" not in data("revert", data.second, "--branch", "side")  # a run publishes to `main`
    assert data.store.tree("side") == data.store.tree(data.first)
    assert data.store.resolve("main").id == data.second


def test_not_found(data: Data) -> None:
    """What does not exist is named."""
    for arguments in (["log", "nothing"], ["ls", "nothing"], ["get", "main", "nothing"], ["revert", "nothing"]):
        with pytest.raises(NotFoundError, match="nothing"):
            data(*arguments)
