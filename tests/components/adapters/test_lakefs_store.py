"""The lakeFS data store: the contract on a real server, and what is its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

pytest.register_assert_rewrite("tests.contracts.data_store")

import lakefs  # noqa: E402  # all that follows comes after the line above
from lakefs.client import Client  # noqa: E402
from urllib3.exceptions import HTTPError  # noqa: E402

from components.adapters.git_store import GitStore  # noqa: E402
from components.adapters.lakefs_landing import HOOK_PATH, _scratch_prefix  # noqa: E402
from components.errors import ConfigError, ConflictError, NotFoundError, UnavailableError  # noqa: E402
from components.ports import DataStore  # noqa: E402
from components.profile import LakeFSStore  # noqa: E402
from components.workspace import Workspace, open_workspace  # noqa: E402
from tests.contracts.data_store import DataStoreContract, Writer  # noqa: E402

pytestmark = pytest.mark.lakefs

ID, SECRET = "LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"
NUMBER = count()


@dataclass(frozen=True)
class Server:
    url: str
    namespace: str
    """What storage namespaces start with."""
    credentials: dict[str, str]
    blocks: Path | None
    """Where the server keeps its objects, if that is a folder of ours."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that TRILHA_TEST_LAKEFS_URL names, or a fresh one on loopback."""
    url = os.environ.get("TRILHA_TEST_LAKEFS_URL")
    if url:
        credentials = {name: os.environ[name] for name in (ID, SECRET)}
        yield Server(url, os.environ.get("TRILHA_TEST_LAKEFS_NAMESPACE", "local://"), credentials, None)
        return
    if shutil.which("lakefs") is None:
        pytest.skip("no lakefs on PATH and no TRILHA_TEST_LAKEFS_URL")
    with started(tmp_path_factory.mktemp("lakefs")) as server:
        yield server


@contextmanager
def started(home: Path, variables: Mapping[str, str] | None = None, **more: str) -> Iterator[Server]:
    """A fresh server on a free port of loopback, all of whose state is in `home`; `variables` are for its actions."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    credentials = {ID: "AKIAIOSFODNN7EXAMPLE", SECRET: "an example of a secret access key"}
    settings = {
        "DATABASE_TYPE": "local",
        "DATABASE_LOCAL_PATH": f"{home}/kv",
        "DATABASE_LOCAL_SYNC_WRITES": "false",
        "BLOCKSTORE_TYPE": "local",
        "BLOCKSTORE_LOCAL_PATH": f"{home}/blocks",
        "BLOCKSTORE_SIGNING_SECRET_KEY": "for tests",
        "COMMITTED_LOCAL_CACHE_DIR": f"{home}/cache",
        "COMMITTED_LOCAL_CACHE_SIZE_BYTES": str(64 << 20),
        "LISTEN_ADDRESS": address,
        "AUTH_ENCRYPT_SECRET_KEY": "for tests",
        "INSTALLATION_USER_NAME": "admin",
        "INSTALLATION_ACCESS_KEY_ID": credentials[ID],
        "INSTALLATION_SECRET_ACCESS_KEY": credentials[SECRET],
        # It is told to ask nobody anything; an address that is left empty would mean the default one.
        "STATS_ENABLED": "false",
        "STATS_ADDRESS": "http://127.0.0.1:9/",
        "EMAIL_SUBSCRIPTION_ENABLED": "false",
        "SECURITY_CHECK_LATEST_VERSION": "false",
        "SECURITY_AUDIT_CHECK_URL": "http://127.0.0.1:9/",
        **more,
    }
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **(variables or {})}
    environment |= {f"LAKEFS_{name}": value for name, value in settings.items()}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(["lakefs", "run"], env=environment, cwd=home, stdout=log, stderr=log)
    try:
        wait(f"http://{address}/_health", home / "log")
        yield Server(f"http://{address}", "local://", credentials, home / "blocks")
    finally:
        process.terminate()
        process.wait(20)


def wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail(f"lakefs did not start: {log.read_text()[-2000:]}")


@pytest.fixture
def workspace(repository: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The parts of profile `test`, whose store is a fresh repository on the server."""
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    name = f"test-{os.getpid()}-{time.time_ns():x}-{next(NUMBER)}"
    return on_server(repository, server.url, name, f"{server.namespace}{name}")


def on_server(repository: Path, url: str, name: str, namespace: str = "local://x") -> Workspace:
    """The parts of profile `test`, whose store is there."""
    (repository / "config" / "profiles" / "test.yaml").write_text(f"""
state: .trilha/test
store: {{kind: lakefs, url: "{url}", repository: {name}, namespace: "{namespace}"}}
engine: local
""")
    open_workspace.cache_clear()
    return open_workspace("test")


def sdk(workspace: Workspace) -> lakefs.Repository:
    """The repository as others see it."""
    settings = workspace.profile.store
    assert isinstance(settings, LakeFSStore)
    client = Client(host=settings.url, username=os.environ[ID], password=os.environ[SECRET])
    return lakefs.Repository(settings.repository, client)


class TestLakeFSStore(DataStoreContract):
    """The contract holds, and what is lakeFS' own."""

    examples = 8

    def test_tree_is_as_in_git(self, store: DataStore, write: Writer, tmp_path: Path) -> None:
        """The same data has the same digest in Git and in lakeFS."""
        git = Writer(GitStore(tmp_path / "data.git"), write.folder)
        for one in (write, git):
            one("main", {"a.b": "1", "a/b": "2", "a-b/c": ""})
            one("main", {"a/b": "3"}, deletes=["a.b"])
        assert git.store.tree("main") == store.tree("main")
        assert git.store.ls("main") == store.ls("main")

    def test_staged_once(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """An object is fetched when it is first asked for, and kept by its checksum."""
        write("main", {"a": "1", "b": "1"})
        shutil.rmtree(workspace.home / "lakefs" / "objects")
        first = store.local("main", "a")
        assert first.read_text() == "1"
        assert store.local("main", "b") == first
        assert first.stat().st_mode & 0o222 == 0

    def test_lost_bytes(self, store: DataStore, write: Writer, workspace: Workspace, server: Server) -> None:
        """An object whose bytes are gone on the server is not found, and its commit is not whole."""
        if server.blocks is None:
            pytest.skip("the server's objects are out of reach")
        write("main", {"a": "1", "b": ""})
        shutil.rmtree(workspace.home / "lakefs" / "objects")
        address = sdk(workspace).ref("main").object("a").stat().physical_address
        assert store.has("main")
        Path(address.removeprefix("local://")).unlink()
        assert not store.has("main")
        with pytest.raises(NotFoundError, match="'a'"):
            store.local("main", "a")

    def test_damaged_bytes(self, store: DataStore, write: Writer, workspace: Workspace, server: Server) -> None:
        """An object that arrives with other bytes is refused, and nothing of it is kept."""
        if server.blocks is None:
            pytest.skip("the server's objects are out of reach")
        write("main", {"a": "1"})
        shutil.rmtree(workspace.home / "lakefs" / "objects")
        address = sdk(workspace).ref("main").object("a").stat().physical_address
        Path(address.removeprefix("local://")).write_text("2")
        for _ in range(2):
            with pytest.raises(UnavailableError, match="SHA-256"):
                store.local("main", "a")
        assert list((workspace.home / "lakefs" / "tmp").iterdir()) == []

    def test_left_branches(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """What a killed attempt left is not seen, and the next attempt under its key removes it."""
        left = sdk(workspace).branch(_scratch_prefix("main", "k") + "0").create("main", hidden=True)
        left.object("a").upload(b"half")
        assert (store.branches(), store.ls("main")) == (["main"], [])
        write("main", {"a": "1"}, key="k")
        assert [branch.id for branch in sdk(workspace).branches(show_hidden=True)] == ["main"]
        sdk(workspace).branch(left.id).create("main", hidden=True)
        write("main", {"a": "1"}, key="k")
        assert [branch.id for branch in sdk(workspace).branches(show_hidden=True)] == ["main"]

    def test_others_commit(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """A commit that others made counts as one: heads are compared with it, what they wrote is read like ours."""
        head = write("main", {"a": "1"})
        main = sdk(workspace).branch("main")
        main.object("raw").upload(b"1")
        main.commit("By hand")
        with pytest.raises(ConflictError, match="main"):
            write("main", {"a": "2"}, expected=head)
        assert [change.path for change in store.diff(head, "main")] == ["raw"]
        raw, ours = store.ls("main")[1], store.ls(head)[0]
        assert (raw.path, raw.sha256, raw.size) == ("raw", ours.sha256, 1)
        assert store.local("main", "raw") == store.local("main", "a")
        assert store.has("main")

    def test_others_are_staged_once(self, store: DataStore, workspace: Workspace) -> None:
        """What others wrote is fetched when it is first met; the same path with other bytes is met anew."""
        main = sdk(workspace).branch("main")
        main.object("raw").upload(b"1")
        first = main.commit("By hand").get_commit().id
        before = store.ls(first)
        shutil.rmtree(workspace.home / "lakefs" / "objects")
        assert store.ls(first) == before
        assert not (workspace.home / "lakefs" / "objects").exists()
        assert store.local(first, "raw").read_bytes() == b"1"
        main.object("raw").upload(b"22")
        main.commit("By hand")
        assert store.local("main", "raw").read_bytes() == b"22"
        assert store.ls(first) == before

    def test_others_uncommitted(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """What others have not committed is not seen; it is in the way of a commit, which says so."""
        sdk(workspace).branch("main").object("raw").upload(b"1")
        assert store.ls("main") == []
        with pytest.raises(ConflictError, match="uncommitted changes"):
            write("main", {"a": "1"})
        assert store.branches() == ["main"]

    def test_repository_of_others(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """A branch that was made before the hook came gets it with its first commit."""
        repository = sdk(workspace)
        first = list(repository.ref("main").log())[-1].id
        store.branch("old", first)
        assert not repository.ref("old").object(HOOK_PATH).exists()
        write("old", {"a": "1"})
        assert repository.ref("old").object(HOOK_PATH).exists()
        assert write.read("old") == {"a": "1"}

    def test_server_without_hooks(self, repository: Path, tmp_path: Path, server: Server) -> None:
        """A server that would not compare heads is refused before anything is written."""
        if server.blocks is None:
            pytest.skip("needs a server of its own")
        home = tmp_path / "lakefs"
        home.mkdir()
        with started(home, ACTIONS_ENABLED="false") as other, pytest.MonkeyPatch.context() as patch:
            for name, value in other.credentials.items():
                patch.setenv(name, value)
            for _ in range(2):
                workspace = on_server(repository, other.url, "no-hooks", "local://no-hooks")
                with pytest.raises(ConfigError, match="does not run hooks"):
                    _ = workspace.store
            assert [branch.id for branch in sdk(workspace).branches(show_hidden=True)] == ["main"]

    def test_server_down(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that does not answer is named, and the cause is kept."""
        for name in (ID, SECRET):
            monkeypatch.setenv(name, "x")
        with socket.create_server(("127.0.0.1", 0)) as free:
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=url) as raised:
            _ = on_server(repository, url, "x-y-z").store
        assert isinstance(raised.value.__cause__, HTTPError)

    @pytest.mark.parametrize("name", [ID, SECRET])
    def test_no_credentials(self, repository: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """A variable that is not set is named; the other one's value is not told."""
        for one in (ID, SECRET):
            monkeypatch.setenv(one, "top secret")
        monkeypatch.delenv(name)
        with pytest.raises(ConfigError, match=name) as raised:
            _ = on_server(repository, "http://127.0.0.1:9", "x-y-z").store
        assert "top secret" not in str(raised.value.as_dict())

    def test_wrong_credentials(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        """Credentials that the server does not know are refused without being told."""
        monkeypatch.setenv(SECRET, "top secret")
        with pytest.raises(ConfigError, match="refuses") as raised:
            _ = workspace.store
        assert "top secret" not in str(raised.value.as_dict())

    @pytest.mark.usefixtures("workspace")
    def test_repository_names(self, repository: Path, server: Server) -> None:
        """A repository name that lakeFS does not take is named, with what it takes."""
        with pytest.raises(ConfigError, match="a_b_c"):
            _ = on_server(repository, server.url, "a_b_c", f"{server.namespace}a-b-c").store
