"""Object stores where nobody is: said within seconds, of each kind, while one that is slow or about to start is waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.errors import NotFoundError, UnavailableError
from components.place import Place
from components.sources import find
from tests.azure import connection
from tests.gcs import point_at

URLS = {"s3": "s3://bucket/a.csv", "gcs": "gs://bucket/a.csv", "azure": "abfs://bucket/a.csv"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer seconds than anybody should have, and nothing of the stores of other tests."""
    monkeypatch.setattr("components.object_stores.CONNECT", 0.3)
    monkeypatch.setattr("components.object_stores.PAUSES", (0.1, 0.1))
    monkeypatch.setattr("fsspec.spec.AbstractFileSystem.cachable", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(params=URLS)
def at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Have the stores of one kind be at `host:port`; returns the URL of a file there."""

    def at(address: str) -> str:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "trilha")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody asks")
        monkeypatch.setenv("NO_GCE_CHECK", "true")  # this is no machine of Google's, which takes seconds to find out
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks Google itself what kind a bucket is
        point_at(f"http://{address}", monkeypatch)
        there = connection(0).replace("127.0.0.1:0", address)
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", there)
        return URLS[request.param]

    return at


@pytest.fixture
def closed() -> Iterator[socket.socket]:
    """A port of loopback that nobody listens at yet."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        yield one


def address(one: socket.socket) -> str:
    return "{}:{}".format(*one.getsockname())


def test_nobody_is_there(closed: socket.socket, at: Callable[[str], str]) -> None:
    """A connection that is refused: one line that names table, URL and server; a place says the same."""
    url, where = at(address(closed)), address(closed)
    says = f"{url}: ConnectionError: nobody answers at {where}: Connection refused; next: check the address"
    with pytest.raises(UnavailableError, match=f"^table 't': {says}"):
        find("t", url)
    with pytest.raises(UnavailableError, match=r"^table 't': zip://.*: nobody answers at"):
        find("t", f"zip://x.csv::{url}")
    place = Place(url)
    with pytest.raises(UnavailableError, match=f"^{says}"):
        place.names()


def test_a_name_that_does_not_resolve(at: Callable[[str], str]) -> None:
    """It is named."""
    with pytest.raises(UnavailableError, match="nobody answers at nowhere.invalid:80"):
        find("t", at("nowhere.invalid:80"))


def test_a_server_that_takes_no_connection(closed: socket.socket, at: Callable[[str], str]) -> None:
    """As behind a firewall that drops what comes: the queue of those that wait to be taken is full."""
    closed.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(closed.getsockname())
    try:
        with pytest.raises(UnavailableError, match="nobody answers at .*: timed out"):
            find("t", at(address(closed)))
    finally:
        for one in waiting:
            one.close()


@pytest.mark.parametrize("at", ["gcs"], indirect=True)
def test_a_slow_server_that_is_about_to_start(at: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for again, and may take longer to answer than a connection may."""

    class Late(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(0.5)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setattr("components.object_stores.PAUSES", (0.1,) * 100)
    with ThreadingHTTPServer(("127.0.0.1", 0), Late, bind_and_activate=False) as server:
        server.server_bind()

        def start() -> None:
            time.sleep(0.2)
            server.server_activate()
            server.serve_forever()

        threading.Thread(target=start, daemon=True).start()
        with pytest.raises(NotFoundError, match="table 't': no file"):
            find("t", at(f"127.0.0.1:{server.server_port}"))
        server.shutdown()
