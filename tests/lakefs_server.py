"""A real lakeFS server for tests, and profiles whose data store it is."""

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
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from components.profile import LakeFSStore
from components.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    import lakefs

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
def lakefs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
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


@pytest.fixture
def s3_lakefs(s3_server: tuple[str, Path], bucket: str, tmp_path: Path) -> Iterator[Server]:
    """A server that keeps its objects in a bucket."""
    if shutil.which("lakefs") is None:
        pytest.skip("no lakefs on PATH")
    home = tmp_path / "lakefs"
    home.mkdir()
    storage = {
        "BLOCKSTORE_TYPE": "s3",
        "BLOCKSTORE_S3_ENDPOINT": s3_server[0],
        "BLOCKSTORE_S3_FORCE_PATH_STYLE": "true",
        "BLOCKSTORE_S3_DISCOVER_BUCKET_REGION": "false",
        "BLOCKSTORE_S3_CREDENTIALS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
        "BLOCKSTORE_S3_CREDENTIALS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
    }
    with started(home, **storage) as server:
        yield Server(server.url, f"{bucket}/", server.credentials, None)


class Own:
    """The process of a server on a port of its own; a test may kill it, and start it again where it was.

    Args:
        home: all of its state is in there.
        variables: for its actions.
        more: settings of its own, without `LAKEFS_`.
    """

    def __init__(self, home: Path, variables: Mapping[str, str], more: Mapping[str, str]) -> None:
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
        self.server = Server(f"http://{address}", "local://", credentials, home / "blocks")
        self._home = home
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(home), **variables}
        self._environment |= {f"LAKEFS_{name}": value for name, value in settings.items()}

    def start(self) -> None:
        """Return once it answers."""
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["lakefs", "run"], env=self._environment, cwd=self._home, stdout=log, stderr=log
            )
        try:
            wait(f"{self.server.url}/_health", self._home / "log")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@contextmanager
def started(home: Path, variables: Mapping[str, str] | None = None, **more: str) -> Iterator[Server]:
    """A fresh server on a free port of loopback, all of whose state is in `home`; `variables` are for its actions."""
    own = Own(home, variables or {}, more)
    own.start()
    try:
        yield own.server
    finally:
        own.end()


@pytest.fixture
def own_lakefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """A server of this test alone."""
    if shutil.which("lakefs") is None:
        pytest.skip("no lakefs on PATH")
    own = Own(tmp_path_factory.mktemp("lakefs"), {}, {})
    own.start()
    try:
        yield own
    finally:
        own.end()


def wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail(f"lakefs did not start: {log.read_text()[-2000:]}")


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
    import lakefs
    from lakefs.client import Client

    settings = workspace.profile.store
    assert isinstance(settings, LakeFSStore)
    client = Client(host=settings.url, username=os.environ[ID], password=os.environ[SECRET])
    return lakefs.Repository(settings.repository, client)


def hidden(workspace: Workspace) -> set[str]:
    """Its branches that nobody is to see."""
    repository = sdk(workspace)
    return {one.id for one in repository.branches(show_hidden=True)} - {one.id for one in repository.branches()}


@pytest.fixture
def on_lakefs(repository: Path, lakefs_server: Server, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The parts of profile `test`, whose store is a fresh repository on the server."""
    for name, value in lakefs_server.credentials.items():
        monkeypatch.setenv(name, value)
    name = f"test-{os.getpid()}-{time.time_ns():x}-{next(NUMBER)}"
    return on_server(repository, lakefs_server.url, name, f"{lakefs_server.namespace}{name}")


@pytest.fixture(params=["git", pytest.param("lakefs", marks=pytest.mark.lakefs)])
def stored(request: pytest.FixtureRequest) -> Workspace:
    """The parts of profile `test` in an empty repository, with each kind of data store in turn."""
    made: Workspace = request.getfixturevalue({"git": "workspace", "lakefs": "on_lakefs"}[request.param])
    return made
