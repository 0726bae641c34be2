"""Folders of images and other files: objects by their digest, a row for each, and nothing copied twice."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.errors import ConflictError, GateError, NotFoundError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.records import Commit, Observation
from components.source_settings import MediaTable
from components.validate import validate
from components.workspace import Workspace, open_workspace


@pytest.fixture
def photos(repository: Path) -> Path:
    """Two pictures, one of them twice, a film that is none, and a note."""
    for name, size in (("cats/a.png", (3, 2)), ("dogs/b.JPG", (5, 7)), ("dogs/again.png", (3, 2))):
        path = repository / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "red").save(path)
    (repository / "photos" / "film.mp4").write_bytes(b"not really")
    (repository / "photos" / "note.parquet").write_bytes(b"no table")
    return repository / "photos"


def of(path: str = "photos") -> dict[str, Any]:
    return {"pictures": MediaTable.model_validate({"media": {"path": path}})}


def run(key: str = "1", path: str = "photos", seen: Observation | None = None) -> Commit:
    with running_as(key * 64):
        commit = ingest("shop", "test", of(path), seen or observe("shop", "test", of(path)))
    if commit.branch != "main":
        open_workspace("test").store.merge(
            commit.id, "main", message="", metadata={"validation": "by hand"}, key=commit.id
        )
    return commit


def rows(commit: Commit) -> dict[str, dict[str, Any]]:
    table = pq.read_table(open_workspace("test").store.local(commit.id, "shop/pictures/data.parquet"))
    return {row["path"]: row for row in table.to_pylist()}


def objects(commit: Commit) -> dict[str, str]:
    listed = open_workspace("test").store.ls(commit.id, "shop/pictures/objects")
    return {entry.path.removeprefix("shop/pictures/"): entry.sha256 for entry in listed}


def test_a_row_and_an_object_for_each(workspace: Workspace, photos: Path) -> None:
    """By the path below the folder; the bytes are the file's, once where they are twice; the files stay where they are."""
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    commit = run()
    found = rows(commit)
    assert sorted(found) == ["cats/a.png", "dogs/again.png", "dogs/b.JPG", "film.mp4", "note.parquet"]
    assert (found["dogs/b.JPG"]["width"], found["dogs/b.JPG"]["height"]) == (5, 7)
    assert (found["film.mp4"]["kind"], found["film.mp4"]["width"]) == ("video/mp4", None)
    assert len(objects(commit)) == 4
    for name, row in found.items():
        local = workspace.store.local(commit.id, f"shop/pictures/{row['object']}")
        assert local.read_bytes() == before[photos / name]
        assert hashlib.sha256(local.read_bytes()).hexdigest() == row["sha256"]
    assert {path: path.read_bytes() for path in before} == before
    assert commit.tables == {"pictures": 5}


def test_a_changed_original_leaves_the_store_as_it_is(workspace: Workspace, photos: Path) -> None:
    """Objects are copies: to write into the file writes into no commit."""
    commit = run()
    name = rows(commit)["cats/a.png"]["object"]
    whole = workspace.store.local(commit.id, f"shop/pictures/{name}").read_bytes()
    with (photos / "cats" / "a.png").open("r+b") as file:
        file.write(b"\0" * 20)
    assert workspace.store.local(commit.id, f"shop/pictures/{name}").read_bytes() == whole


def test_only_new_files_are_read(workspace: Workspace, photos: Path) -> None:
    """A file that was read is known by size and time; its object stays, and one that nothing names any more goes."""
    first = run("1")
    status = (photos / "film.mp4").stat()
    (photos / "film.mp4").write_bytes(b"otherwise!")  # the same size and time: to look again would be to read again
    os.utime(photos / "film.mp4", ns=(status.st_atime_ns, status.st_mtime_ns))
    (photos / "note.parquet").unlink()
    Image.new("RGB", (9, 9)).save(photos / "new.png")
    second = run("2")
    assert rows(second)["film.mp4"] == rows(first)["film.mp4"]
    assert rows(second)["new.png"]["width"] == 9
    assert len(objects(second)) == 4
    assert rows(first)["note.parquet"]["object"] not in objects(second)


def test_nothing_new_is_nothing_to_do(workspace: Workspace, photos: Path) -> None:
    """One stamp for all files; touched ones make the same table."""
    seen = observe("shop", "test", of())
    assert len(seen.tables["pictures"]) == 1
    first = run("1")
    assert observe("shop", "test", of()) == seen
    os.utime(photos / "film.mp4", ns=(1, 1))
    assert observe("shop", "test", of()) != seen
    again = run("2")
    assert (again.branch, again.tree) == ("main", first.tree)


def test_a_pattern_and_a_remote_folder(workspace: Workspace, photos: Path) -> None:
    """As a table's files: globs, and any URL."""
    assert sorted(rows(run("1", "photos/*/*.png"))) == ["cats/a.png", "dogs/again.png"]
    fsspec.filesystem("memory").pipe_file("/films/deep/a.png", (photos / "cats" / "a.png").read_bytes())
    (row,) = rows(run("2", "memory://films/**/*.png")).values()
    assert (row["path"], row["width"]) == ("deep/a.png", 3)


def test_the_table_is_validated_like_any_other(workspace: Workspace, photos: Path) -> None:
    """Objects are no rows: expectations are on the table of them."""
    commit = run()
    with running_as("2" * 64):
        assert validate("shop", "test", commit, {"pictures": ()}).tree == commit.tree


def test_what_goes_wrong(workspace: Workspace, photos: Path) -> None:
    """No files, an empty one, and one that came between looking and reading."""
    with pytest.raises(NotFoundError, match="'pictures'"):
        observe("shop", "test", of("nowhere"))
    seen = observe("shop", "test", of())
    Image.new("RGB", (1, 1)).save(photos / "late.png")
    with pytest.raises(ConflictError, match="changed while it was read"):
        run(seen=seen)
    (photos / "late.png").write_bytes(b"")
    with pytest.raises(GateError, match=r"late\.png is empty"):
        run()
