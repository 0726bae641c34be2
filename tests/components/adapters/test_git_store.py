"""The git data store: the contract, that stock Git takes part, and what is left behind by a kill or a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.contracts.data_store")

from components.adapters.git_store import GitStore  # noqa: E402  # all that follows comes after the line above
from components.errors import ConfigError, ConflictError, NotFoundError, UnavailableError  # noqa: E402
from components.ports import DataStore  # noqa: E402
from components.workspace import Workspace  # noqa: E402
from tests.contracts.data_store import ROOT, DataStoreContract, Writer, other_process  # noqa: E402

needs_git_lfs = pytest.mark.skipif(
    shutil.which("git") is None or shutil.which("git-lfs") is None, reason="no git or no git-lfs on PATH"
)


@pytest.fixture
def data(repository: Path) -> Path:
    """The bare repository."""
    return repository / ".trilha" / "test" / "data.git"


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Stock Git with Git LFS, and a user of its own."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    git = Git()
    git("lfs", "install", "--skip-repo")
    git("config", "--global", "user.name", "A Person")
    git("config", "--global", "user.email", "person@example.org")
    return git


class Git:
    def __call__(self, *arguments: str | Path, at: Path | None = None) -> str:
        done = subprocess.run(["git", *map(str, arguments)], cwd=at, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


class TestGitStore(DataStoreContract):
    """The contract holds; `workspace` is the embedded store. And what is Git's own."""

    @needs_git_lfs
    @pytest.mark.parametrize("scheme", ["", "file://"])
    def test_clone(self, write: Writer, data: Path, git: Git, tmp_path: Path, scheme: str) -> None:
        """A stock client clones the data: real files, nothing that looks changed, and a sound repository."""
        write("main", {"a": "1", "b/c": "22", "empty": ""}, message="Title", metadata={"rows": "3"}, key="k")
        git("clone", f"{scheme}{data}", "clone", at=tmp_path)
        clone = tmp_path / "clone"
        assert {path: (clone / path).read_text() for path in ("a", "b/c", "empty")} == {
            "a": "1",
            "b/c": "22",
            "empty": "",
        }
        assert git("status", "--porcelain", at=clone) == ""
        assert git("lfs", "ls-files", "--name-only", at=clone).split() == ["a", "b/c"]
        assert git("log", "-1", "--format=%s %(trailers:unfold,separator=%x2C)", at=clone) == (
            'Title Trilha-Key: "k",Trilha-Data: "rows": "3"\n'
        )
        git("fsck", "--strict", at=data)

    @needs_git_lfs
    def test_push(self, store: DataStore, write: Writer, data: Path, git: Git, tmp_path: Path) -> None:
        """What a stock client pushes is a commit like any other."""
        write("main", {"a": "1", "b/c": "1"})
        git("clone", data, "clone", at=tmp_path)
        clone = tmp_path / "clone"
        (clone / "b" / "c").write_text("2")
        (clone / "d").write_text("")
        git("add", ".", at=clone)
        git("commit", "--message", "By hand", at=clone)
        git("push", "origin", "HEAD:main", at=clone)
        assert write.read("main") == {"a": "1", "b/c": "2", "d": ""}
        assert store.has("main")
        assert (store.resolve("main").message, store.resolve("main").metadata) == ("By hand\n", {})
        write("main", {"a": "3"})
        git("pull", at=clone)
        assert (clone / "a").read_text() == "3"

    @needs_git_lfs
    def test_push_without_lfs(self, store: DataStore, data: Path, git: Git, tmp_path: Path) -> None:
        """A file that somebody pushed past Git LFS is named."""
        git("clone", data, "clone", at=tmp_path)
        clone = tmp_path / "clone"
        (clone / ".gitattributes").write_text("")
        (clone / "raw").write_text("1")
        git("add", ".", at=clone)
        git("commit", "--message", "By hand", at=clone)
        git("push", "origin", "HEAD:main", at=clone)
        with pytest.raises(ConfigError, match="raw is in Git itself"):
            store.ls("main")

    def test_scanned_in_place(self, store: DataStore, write: Writer, data: Path) -> None:
        """DuckDB reads an object where it lies."""
        import duckdb

        file = write.folder / "x.parquet"
        duckdb.sql(f"copy (select 42 as answer) to '{file}' (format parquet)")
        store.commit("main", {"t/x.parquet": file}, message="m", metadata={}, key="k", move=True)
        local = store.local("main", "t/x.parquet")
        assert local.is_relative_to(data / "lfs" / "objects")
        assert duckdb.read_parquet(str(local)).fetchall() == [(42,)]
        assert not file.exists()

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: (path.chmod(0o644), path.write_text(""))])
    def test_lost_bytes(self, store: DataStore, write: Writer, damage: object) -> None:
        """An object that is gone, or cut short by a power failure: not found, the commit not whole, and mendable."""
        commit = write("main", {"a": "1", "b": "2"})
        damage(store.local(commit, "a"))  # type: ignore[operator]
        assert not store.has(commit)
        with pytest.raises(NotFoundError, match="'a'"):
            store.local(commit, "a")
        assert store.local(commit, "b").read_text() == "2"
        write("main", {"somewhere/else": "1"})
        assert store.has(commit)
        assert write.read(commit) == {"a": "1", "b": "2"}

    def test_lost_commit(self, write: Writer, data: Path) -> None:
        """A commit whose pointers are gone is not whole."""
        commit = write("main", {"a": "1"})
        shutil.rmtree(data / "objects")
        (data / "objects").mkdir()
        assert not GitStore(data).has(commit)

    def test_object_and_folder(self, store: DataStore, write: Writer) -> None:
        """A path cannot be an object and a folder at once, neither by a commit nor by a merge."""
        store.branch("side", "main")
        head = write("main", {"a": "1", "b/c": "1"})
        for path in ("a/b", "b"):
            with pytest.raises(ConflictError, match="object and a folder"):
                write("main", {path: "1"})
        write("side", {"b": "1"})
        with pytest.raises(ConflictError, match="object and a folder"):
            write.merge("side", "main")
        assert store.resolve("main").id == head

    def test_left_lock(self, write: Writer, data: Path) -> None:
        """The lock file of a process that was killed while it moved a branch does not hold up the next one."""
        lock = data / "refs" / "heads" / "main.lock"
        lock.touch()
        os.utime(lock, (0, 0))
        write("main", {"a": "1"})
        assert write.read("main") == {"a": "1"}

    def test_held_lock(self, write: Writer, data: Path) -> None:
        """A lock that a stock Git holds is waited for."""
        lock = data / "refs" / "heads" / "main.lock"
        lock.touch()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(write, "main", {"a": "1"})
            time.sleep(0.3)
            assert not waiting.done()
            lock.unlink()
        assert write.store.resolve("main").id == waiting.result()

    def test_full_disk(self, store: DataStore, write: Writer, data: Path) -> None:
        """A disk that takes no more: said plainly, nothing to see, and nothing left lying around."""
        head, file = store.resolve("main").id, write.file(b"x" * 5_000_000)
        code = """
import resource
from components.errors import UnavailableError
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try: store.commit("main", {"a": Path(sys.argv[1])}, message="m", metadata={}, key="k")
except UnavailableError as error: print(error)
"""
        said = other_process(code, str(file)).communicate()[0]
        assert f"a: {file} cannot be taken in: File too large" in said
        assert store.resolve("main").id == head
        assert list((data / "lfs" / "tmp").iterdir()) == []

    @pytest.mark.usefixtures("repository")
    def test_opened_at_once(self) -> None:
        """Processes that open a store that is not there yet make one, with one first commit."""
        code = "from components.workspace import open_workspace as o; print(o('test').store.resolve('main').id)"
        children = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        assert len({child.communicate()[0] for child in children}) == 1
        assert [child.returncode for child in children] == [0, 0, 0]

    def test_half_made(self, workspace: Workspace, data: Path) -> None:
        """A store whose making was interrupted is finished by whoever opens it next."""
        import pygit2

        pygit2.init_repository(str(data), bare=True)
        assert workspace.store.branches() == ["main"]

    def test_something_else(self, workspace: Workspace, data: Path) -> None:
        """A path that is no repository is named."""
        data.parent.mkdir(parents=True)
        data.write_text("a file")
        with pytest.raises(UnavailableError, match=str(data)):
            _ = workspace.store
