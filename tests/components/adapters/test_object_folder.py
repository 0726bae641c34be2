"""Objects appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path

import pytest

from components.adapters import object_folder
from components.adapters.object_folder import BATCH, FEW, ObjectFolder
from components.errors import NotFoundError, UnavailableError
from components.ports import Entry


@pytest.fixture
def folder(tmp_path: Path) -> ObjectFolder:
    return ObjectFolder(tmp_path / "lfs")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_take(folder: ObjectFolder, tmp_path: Path) -> None:
    """Entries come in the order of the files, whichever thread was first."""
    files = {f"p{n}": written(tmp_path / str(n), os.urandom(1 + 300_000 * (n % 3))) for n in range(12)}
    entries = folder.take(files, move=False)
    for entry, (path, file) in zip(entries, files.items(), strict=True):
        content = file.read_bytes()
        assert entry == Entry(path, hashlib.sha256(content).hexdigest(), len(content))
        assert folder.path(entry.sha256).read_bytes() == content


@pytest.mark.parametrize("count", [1, 3, FEW + 1, 5 * BATCH], ids="{} files".format)
def test_number(folder: ObjectFolder, tmp_path: Path, count: int) -> None:
    """However many come at once, and however many of them have the same bytes, each is there."""
    files = {f"p{n}": written(tmp_path / str(n), b"%d" % (n % 300)) for n in range(count)}
    entries = folder.take(files, move=False)
    assert [entry.path for entry in entries] == [*files]
    assert all(folder.path(entry.sha256).read_bytes() == files[entry.path].read_bytes() for entry in entries)


@pytest.mark.parametrize("count", [1, FEW + 1])
def test_forced_before_named(folder: ObjectFolder, tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No object has its name while the disk may not have its bytes: a disk that fails then leaves none."""

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(object_folder, "_force", failing)
    files = {f"p{n}": written(tmp_path / str(n), b"%d" % n) for n in range(count)}
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        folder.take(files, move=False)
    assert [*folder.all()] == []
    assert [*(tmp_path / "lfs" / "tmp").iterdir()] == []


def test_move(folder: ObjectFolder, tmp_path: Path) -> None:
    """A file that may be moved becomes the object itself; one behind a link is copied."""
    own, linked = written(tmp_path / "own", b"1"), written(tmp_path / "linked", b"2")
    (tmp_path / "link").symlink_to(linked)
    inode = own.stat().st_ino
    first, second = folder.take({"a": own, "b": tmp_path / "link"}, move=True)
    assert folder.path(first.sha256).stat().st_ino == inode
    assert folder.path(second.sha256).read_bytes() == linked.read_bytes()
    assert not folder.path(second.sha256).is_symlink()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second file system to move from")
def test_move_from_another_disk(folder: ObjectFolder, tmp_path: Path) -> None:
    """A file on another file system is copied."""
    file = Path("/dev/shm") / f"trilha-test-{os.getpid()}"
    if file.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to move from")
    try:
        [entry] = folder.take({"a": written(file, b"1")}, move=True)
        assert folder.path(entry.sha256).read_bytes() == b"1"
    finally:
        file.unlink()


def test_failure(folder: ObjectFolder, tmp_path: Path) -> None:
    """A file that is missing or cannot be read is named; of the others nothing is kept half-way."""
    good = written(tmp_path / "good", b"1")
    with pytest.raises(NotFoundError, match="p2.*missing"):
        folder.take({"p1": good, "p2": tmp_path / "missing"}, move=True)
    with pytest.raises(UnavailableError, match=f"p2.*{tmp_path}"):
        folder.take({"p1": good, "p2": tmp_path}, move=True)
    assert good.read_bytes() == b"1"
    assert list((tmp_path / "lfs" / "tmp").iterdir()) == []


def test_receive(folder: ObjectFolder, tmp_path: Path) -> None:
    """Bytes that are not those of the entry are refused, and nothing of them is kept."""
    entry = Entry("a", hashlib.sha256(b"12").hexdigest(), 2)
    for wrong in (b"", b"1", b"13", b"123"):
        with pytest.raises(UnavailableError, match="a: SHA-256"):
            folder.receive(entry, io.BytesIO(wrong))
        assert not folder.holds(entry.sha256, entry.size)
    assert folder.receive(entry, io.BytesIO(b"12")).read_bytes() == b"12"
    assert list((tmp_path / "lfs" / "tmp").iterdir()) == []


def test_abandoned(folder: ObjectFolder, tmp_path: Path) -> None:
    """What a killed process left an hour ago is tidied up; what is being written is not."""
    tmp = tmp_path / "lfs" / "tmp"
    tmp.mkdir(parents=True)
    left, live = written(tmp / "left", b"1"), written(tmp / "live", b"2")
    os.utime(left, (0, 0))
    folder.take({"a": written(tmp_path / "file", b"3")}, move=False)
    assert (left.exists(), live.exists()) == (False, True)
