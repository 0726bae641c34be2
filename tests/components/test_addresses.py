"""Addresses inside are refused: by name, by number, by redirect; what the profile allows is read."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.addresses import _client, allowed
from components.data_ports import Held
from components.errors import ConfigError, NotFoundError, TrilhaError, UnavailableError
from components.ingest import observe
from components.profile import GitStore, Profile
from components.source_adapters import open_source
from components.source_settings import Table
from components.sources import find
from components.workspace import Workspace

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start an HTTP server on an address of loopback: it has a table, or sends on to another URL; returns its URL.

    Or it answers with another status than 200, or makes a pause before each byte of the table.
    """
    servers = []

    def start(host: str = "127.0.0.1", to: str = "", status: int = 200, pause: float = 0.0) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(302 if to else status)
                self.send_header("Location", to) if to else None
                self.send_header("Content-Length", "0" if to else "4")
                self.end_headers()
                with suppress(BrokenPipeError):  # a client that has no patience
                    for byte in b"a\n1\n" if not to and self.command == "GET" else b"":
                        time.sleep(pause)
                        self.wfile.write(bytes([byte]))

            do_HEAD = do_GET  # noqa: N815  # http.server's name

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer((host, 0), Answer)
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        servers.append(server)
        return f"http://{host}:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def read(url: str, inside: tuple[str, ...], folder: Path) -> int:
    workspace = Workspace("test", Profile(state="state", store=GitStore(path="data.git"), inside=inside))
    source = open_source(workspace, "shop", "t", Table(path=url))
    held: Held | None = None
    return source.read(source.look(), held, folder).rows


@pytest.mark.parametrize("address", [
    "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
    "::1", "::", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::",
])  # fmt: skip
def test_addresses_inside(address: str) -> None:
    """Loopback, private, link-local and what else is not public, also dressed as IPv6."""
    found = ipaddress.ip_address(address)
    assert not allowed(found, ())
    assert not allowed(found, ("203.0.113.0/24", "nowhere.invalid"))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_addresses_outside(address: str) -> None:
    assert allowed(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("inside", ["10.0.0.0/8", "10.0.0.1", "::/0"])
def test_what_a_profile_allows(inside: str) -> None:
    """Addresses and networks of the same kind; a name means its addresses."""
    assert allowed(ipaddress.ip_address("10.0.0.1"), (inside,)) == (":" not in inside)
    assert not allowed(ipaddress.ip_address("192.168.0.1"), (inside,))
    assert allowed(ipaddress.ip_address("127.0.0.1"), ("localhost",))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[0:0:0:0:0:ffff:7f00:1]"])
def test_a_url_that_points_inside(repository: Path, serve: Serve, host: str) -> None:
    """However it is written; the error says which address, and where it can be allowed."""
    url = serve().replace("127.0.0.1", host) + "/x.csv"
    with pytest.raises(ConfigError, match="an address inside.*inside"):
        find("t", url)
    with pytest.raises(ConfigError, match="an address inside"):
        find("t", f"simplecache::{url}")


def test_a_url_inside_that_the_profile_allows(repository: Path, serve: Serve, tmp_path: Path) -> None:
    assert read(serve() + "/x.csv", ("127.0.0.0/8",), tmp_path) == 1


def test_a_redirect_that_leads_inside(repository: Path, serve: Serve, tmp_path: Path) -> None:
    """The address that is connected to counts; a public server may send on to the metadata service of a cloud."""
    behind = serve("127.0.0.2")
    door = serve("127.0.0.1", to=f"{behind}/x.csv") + "/x.csv"
    with pytest.raises(ConfigError, match=r"leads to is at 127\.0\.0\.2, an address inside"):
        find("t", door, ("127.0.0.1",))
    assert read(door, ("127.0.0.1", "127.0.0.2"), tmp_path) == 1


def test_a_server_that_nobody_started(repository: Path) -> None:
    """It is not that its file is missing: the run may be tried again, and the address may be wrong."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for url in (f"http://127.0.0.1:{port}/x.csv", f"http://127.0.0.1:{port}/*.csv"):
            with pytest.raises(UnavailableError, match=f"Cannot connect to host 127.0.0.1:{port}.*check the address"):
                find("t", url, ("127.0.0.1",))


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (404, NotFoundError, "no file"),
        (403, ConfigError, "403, message='Forbidden'; accepted: credentials"),
        (503, UnavailableError, "503, message='Service Unavailable'; next"),
    ],
)
def test_what_a_server_answers(repository: Path, serve: Serve, status: int, kind: type[TrilhaError], says: str) -> None:
    """No file, not for us, not now: each as what it is; of the URL that was asked, nothing but what the project says."""
    signed = serve(status=status) + "/x.csv?signature=seed-0c2f"
    door = serve(to=signed) + "/x.csv"
    with pytest.raises(kind, match=says) as caught:
        find("t", door, ("127.0.0.1",))
    assert "seed-0c2f" not in str(caught.value)


def test_a_server_that_falls_silent(
    repository: Path, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up, in the middle of a file too."""
    monkeypatch.setattr("components.addresses.SILENT", 0.1)
    monkeypatch.setattr("components.addresses._client", _client.__wrapped__)  # whose connections are other tests'
    with pytest.raises(UnavailableError, match="Timeout"):
        read(serve(pause=1.0) + "/x.csv", ("127.0.0.1",), tmp_path)


def test_file_systems_that_follow_what_they_read(repository: Path) -> None:
    """Their targets are in a file that anybody may have written."""
    with pytest.raises(ConfigError, match="leads to other addresses"):
        find("t", "reference://x.csv::file:///tmp/references.json")


def test_a_step_asks_its_profile(repository: Path, serve: Serve) -> None:
    """`observe` refuses what the profile does not allow."""
    with pytest.raises(ConfigError, match="an address inside"):
        observe("shop", "test", {"t": Table(path=serve() + "/x.csv")})


@pytest.mark.parametrize("given", ["10.0.0.0/33", "http://x", "a b", "10.0.0", ""])
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(ValueError, match="a network such as"):
        Profile(state="state", store=GitStore(path="data.git"), inside=(given,))
