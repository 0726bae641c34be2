"""Large objects on a real lakeFS over a real S3: in parts, and a killed upload goes on where it was."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.adapters.lakefs_client import connect
from components.adapters.lakefs_parts import BRANCH, PART, Parts
from components.adapters.lakefs_store import open_store
from components.errors import UnavailableError
from components.ports import Entry
from components.profile import LakeFSStore
from components.workspace import Workspace
from tests.children import dying_with_us
from tests.lakefs_server import Server, hidden, on_server, sdk

pytestmark = [pytest.mark.lakefs, pytest.mark.long]

COMMIT = """
import os, signal, sys, threading, time
from pathlib import Path
from components.adapters.lakefs_parts import Parts
from components.workspace import open_workspace

put, lock, begun, finished = Parts._put, threading.Lock(), [], []
most, quietly = int(sys.argv[2]), sys.argv[3] == "True"

def dies(self, at, upload, number, content):
    with lock:
        begun.append(number)
        over = len(begun) > most
    while over:
        if not quietly or len(finished) == most:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
    tag = put(self, at, upload, number, content)
    finished.append(number)
    return tag

Parts._put = dies
store = open_workspace("test").store
store.commit("main", {"large": Path(sys.argv[1])}, message="m", metadata={}, key="k")
"""


@pytest.fixture
def workspace(repository: Path, s3_lakefs: Server, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name, value in s3_lakefs.credentials.items():
        monkeypatch.setenv(name, value)
    return on_server(repository, s3_lakefs.url, "large", f"{s3_lakefs.namespace}large")


@pytest.fixture
def large(tmp_path: Path) -> tuple[Path, str]:
    """A file of five parts and a bit, and its SHA-256."""
    path, content = tmp_path / "large", random.Random(3).randbytes(5 * PART + 12_345)
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each part that this process sends."""
    sizes: list[int] = []
    put = Parts._put

    def counted(self: Parts, at: dict[str, str], upload: str, number: int, content: bytes) -> str:
        sizes.append(len(content))
        return put(self, at, upload, number, content)

    monkeypatch.setattr(Parts, "_put", counted)
    return sizes


def killed(repository: Path, file: Path, parts: int, *, quietly: bool = True) -> None:
    """A commit of `file` in a process of its own that is killed after so many parts, or while they are on their way."""
    command = dying_with_us([sys.executable, "-c", COMMIT, str(file), str(parts), str(quietly)])
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def parts_of(workspace: Workspace) -> Parts:
    settings = workspace.profile.store
    assert isinstance(settings, LakeFSStore)
    return Parts(settings, sdk(workspace), connect(settings))


def begun(workspace: Workspace) -> list[tuple[str, str]]:
    """SHA-256 and id of each upload that the server says is not finished."""
    return list(parts_of(workspace)._begun())


def test_killed_in_the_middle(
    workspace: Workspace, repository: Path, large: tuple[Path, str], sent: list[int], tmp_path: Path
) -> None:
    """Only what is missing goes up, the object has its digest, and nothing of the upload is left but the object."""
    path, sha256 = large
    _ = workspace.store
    killed(repository, path, 4)
    [(key, upload)] = begun(workspace)
    assert key == sha256
    assert [one["Size"] for one in parts_of(workspace)._parts(sha256, upload).values()] == [PART] * 4
    assert workspace.store.ls("main") == []
    workspace.store.commit("main", {"large": path}, message="m", metadata={}, key="k")
    assert sum(sent) == path.stat().st_size - 4 * PART
    [entry] = workspace.store.ls("main")
    assert (entry.path, entry.sha256, entry.size) == ("large", sha256, path.stat().st_size)
    assert begun(workspace) == []
    assert hidden(workspace) == {BRANCH}
    assert list(sdk(workspace).branch(BRANCH).uncommitted()) == []
    for staged in (workspace.home / "lakefs" / "objects").glob("*/*/*"):
        staged.unlink()
    assert hashlib.sha256(workspace.store.local("main", "large").read_bytes()).hexdigest() == sha256

    small = tmp_path / "small"  # one that does not go in parts, on the same server
    small.write_bytes(b"1" * 1000)
    sent.clear()
    workspace.store.commit("main", {"small": small}, message="m", metadata={}, key="small")
    assert (sent, [one.size for one in workspace.store.ls("main")]) == ([], [path.stat().st_size, 1000])


def test_killed_while_parts_are_on_their_way(
    workspace: Workspace, repository: Path, large: tuple[Path, str], sent: list[int]
) -> None:
    """What has arrived by half is not taken for a part; what has arrived is."""
    path, sha256 = large
    _ = workspace.store
    killed(repository, path, 4, quietly=False)
    workspace.store.commit("main", {"large": path}, message="m", metadata={}, key="k")
    assert path.stat().st_size - 4 * PART <= sum(sent) < path.stat().st_size
    for staged in (workspace.home / "lakefs" / "objects").glob("*/*/*"):
        staged.unlink()
    assert hashlib.sha256(workspace.store.local("main", "large").read_bytes()).hexdigest() == sha256


def test_two_at_once(workspace: Workspace, large: tuple[Path, str]) -> None:
    """Two commits of the same bytes in the same moment: both have them, whoever of the two was first."""
    path, sha256 = large
    stores = [workspace.store, open_store(workspace)]
    with ThreadPoolExecutor(2) as pool:
        for number, store in enumerate(stores):
            pool.submit(store.commit, "main", {f"large-{number}": path}, message="m", metadata={}, key=f"{number}")
    assert [(one.path, one.sha256) for one in stores[0].ls("main")] == [("large-0", sha256), ("large-1", sha256)]
    assert stores[0].has("main")
    assert begun(workspace) == []


def test_nobody_takes_parts(workspace: Workspace, large: tuple[Path, str]) -> None:
    """A gateway that cannot be reached is one plain error, with the address and no key."""
    _ = workspace.store
    settings = workspace.profile.store
    assert isinstance(settings, LakeFSStore)
    path, sha256 = large
    elsewhere = Parts(settings.model_copy(update={"url": "http://127.0.0.1:9"}), sdk(workspace), connect(settings))
    with pytest.raises(UnavailableError, match="lakeFS at http://127.0.0.1:9 cannot take an object in parts") as raised:
        elsewhere.send(Entry("large", sha256, path.stat().st_size), path)
    assert not [value for name, value in os.environ.items() if "LAKECTL" in name and value in str(raised.value)]


def test_finished_and_never_landed(
    workspace: Workspace, large: tuple[Path, str], sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that was sent for a commit that failed is not sent again; who gives it up has `gc` take it."""
    path, sha256 = large
    store = workspace.store
    with monkeypatch.context() as patch:
        patch.setattr("components.adapters.lakefs_uploads.Uploads._refer", _fails)
        with pytest.raises(UnavailableError, match="the network is gone"):
            store.commit("main", {"large": path}, message="m", metadata={}, key="k")
    assert sum(sent) == path.stat().st_size
    sweep = store.sweep(set(), time.time() + 60)
    assert [(one.kind, one.id, one.size) for one in sweep.leftovers() if one.kind == "part"] == [
        ("part", sha256, path.stat().st_size)
    ]
    assert not [one for one in store.sweep(set(), time.time() - 60).leftovers() if one.kind == "part"]
    sent.clear()
    store.commit("main", {"large": path}, message="m", metadata={}, key="k")
    assert sent == []
    assert store.ls("main")[0].sha256 == sha256

    monkeypatch.setattr("components.adapters.lakefs_uploads.Uploads._refer", _fails)
    with pytest.raises(UnavailableError):
        store.commit("main", {"another": path}, message="m", metadata={}, key="another")
    sweep = store.sweep(set(), time.time() + 60)
    [left] = [one for one in sweep.leftovers() if one.kind == "part"]
    assert sweep.discard([left]) == [left]
    assert list(sdk(workspace).branch(BRANCH).uncommitted()) == []


def test_given_up(workspace: Workspace, repository: Path, large: tuple[Path, str]) -> None:
    """`gc` takes half of an upload once nobody went on with it for long, and says how much it holds."""
    store = workspace.store
    killed(repository, large[0], 4)
    [left] = [one for one in store.sweep(set(), time.time() + 60).leftovers() if one.kind == "part"]
    assert left.size % PART == 0
    assert left.size
    assert not [one for one in store.sweep(set(), time.time() - 60).leftovers() if one.kind == "part"]
    assert store.sweep(set(), time.time() + 60).discard([left]) == [left]
    assert begun(workspace) == []


def _fails(*_: object) -> None:
    raise UnavailableError("the network is gone")
