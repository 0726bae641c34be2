"""Adopt: what others committed, on a branch of its own, as it is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.adopt import adopt
from components.errors import GateError, NotFoundError
from components.ledger import running_as
from components.records import Commit
from components.source_settings import Table
from components.tables import contents
from components.workspace import Workspace

SOURCES = {"sales": Table(path="nowhere/*.csv", columns={"n": "BIGINT"}), "shops": Table(path="nowhere.jsonl")}
JANUARY, FEBRUARY = ({"month": [month, month], "n": [month * 10, 11]} for month in (1, 2))
SHOPS = {"shop": ["a"]}


def incoming(workspace: Workspace, files: dict[str, dict[str, list[object]]], project: str = "shop") -> str:
    """A commit of others on the branch `incoming`, with these files and no others of the project; its id."""
    store = workspace.store
    if "incoming" not in store.branches():
        store.branch("incoming", "main")
    puts = {}
    for name, columns in files.items():
        path = workspace.home / name.replace("/", "-")
        pq.write_table(pa.table(columns), path)
        puts[f"{project}/{name}"] = path
    gone = [entry.path for entry in store.ls("incoming", project) if entry.path not in puts]
    key = str(len(list(store.log("incoming"))))
    return store.commit("incoming", puts, deletes=gone, message="New data", metadata={}, key=key).id


def run(commit: str, key: str = "1", sources: dict[str, Table] = SOURCES) -> Commit:
    with running_as(key * 64):
        return adopt("shop", "test", sources, commit)


WHOLE = {"sales/month-1.parquet": JANUARY, "sales/month-2.parquet": FEBRUARY, "shops/data.parquet": SHOPS}


def test_the_tables_of_a_commit(workspace: Workspace) -> None:
    """The same bytes, on a branch on top of `main`, with what they are; neither `main` nor the commit is touched."""
    theirs = incoming(workspace, {**WHOLE, "notes.txt": SHOPS})
    before = workspace.store.resolve("main").id
    made = run(theirs)
    assert made.branch == "ingest/shop/111111111111"
    assert made.tables == {"sales": 4, "shops": 1}
    assert workspace.store.resolve("main").id == before
    assert workspace.store.resolve(made.id).parents == (before,)
    assert [entry.path for entry in workspace.store.ls(made.id)] == ["shop.json", *(f"shop/{name}" for name in WHOLE)]
    wanted = {entry.path: entry.sha256 for entry in workspace.store.ls(theirs)}
    assert all(entry.sha256 == wanted[entry.path] for entry in workspace.store.ls(made.id, "shop"))
    found = contents(workspace.store, made.id, "shop")
    assert found is not None
    assert found.tables["sales"].columns == {"month": "BIGINT", "n": "BIGINT"}
    assert found.tables["sales"].declared == ("n",)


def test_done_again_after_a_crash_it_is_the_same_commit(workspace: Workspace) -> None:
    """Killed after the commit and before its record: one commit, not two."""
    theirs = incoming(workspace, WHOLE)
    made = run(theirs)
    assert run(theirs) == made
    assert len(list(workspace.store.log(made.branch))) == 2


def test_what_main_holds_already(workspace: Workspace) -> None:
    """The newest commit of `main` is the result, and no branch is left."""
    theirs = incoming(workspace, WHOLE)
    made = run(theirs)
    workspace.store.merge(made.id, "main", message="", metadata={"validation": "by hand"}, key="k")
    again = run(theirs, "2")
    assert (again.branch, again.id, again.tree) == ("main", workspace.store.resolve("main").id, made.tree)
    assert "ingest/shop/222222222222" not in workspace.store.branches()


def test_what_is_not_there_any_more_is_deleted(workspace: Workspace) -> None:
    """A file that the next commit has not got is gone in the adopted one, too."""
    made = run(incoming(workspace, WHOLE))
    workspace.store.merge(made.id, "main", message="", metadata={"validation": "by hand"}, key="k")
    less = {name: columns for name, columns in WHOLE.items() if "month-2" not in name}
    made = run(incoming(workspace, less), "2")
    assert [entry.path for entry in workspace.store.ls(made.id, "shop")] == [f"shop/{name}" for name in less]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"shops/data.parquet": SHOPS}, "has no table 'sales' of shop"),
        ({**WHOLE, "sales/month-2.parquet": {"month": [2]}}, "month-2.parquet has no column 'n'"),
        (WHOLE | {f"sales/month-{n}.parquet": {"month": [n], "n": ["x"]} for n in (1, 2)}, "'n' is VARCHAR"),
        ({**WHOLE, "shops/data.parquet": {"shop": pa.array([], pa.string())}}, "no rows in data.parquet"),
    ],
)
def test_data_that_is_not_right_leaves_no_trace(
    workspace: Workspace, files: dict[str, dict[str, list[object]]], says: str
) -> None:
    """An error that names table and file; no branch is made."""
    theirs = incoming(workspace, files)
    with pytest.raises(GateError) as caught:
        run(theirs)
    assert says in str(caught.value)
    assert workspace.store.branches() == ["incoming", "main"]


def test_what_is_no_parquet(workspace: Workspace, tmp_path: Path) -> None:
    """A file with the name of Parquet and other bytes is named."""
    (tmp_path / "x").write_text("no parquet")
    incoming(workspace, WHOLE)
    theirs = workspace.store.commit(
        "incoming", {"shop/shops/data.parquet": tmp_path / "x"}, message="", metadata={}, key="bad"
    )
    with pytest.raises(GateError, match=r"data\.parquet"):
        run(theirs.id)


def test_a_commit_that_is_not_there(workspace: Workspace) -> None:
    """It is said at once."""
    with pytest.raises(NotFoundError, match="0000000"):
        run("0" * 40)
