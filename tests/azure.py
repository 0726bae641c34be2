"""Azure's own emulator of Blob Storage for tests: Azurite, in memory, on loopback, which `.ci/run` gets from npm.

Triton asks `https://ACCOUNT.blob.core.windows.net` and nobody else. `https_door` stands there, as a proxy in Triton's
environment, and leads to the emulator.
"""

from __future__ import annotations

import base64
import os
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from flows.services.processes import free_port
from tests.object_stores import answering

HOME = Path(os.environ.get("TRILHA_TEST_AZURITE") or Path.home() / ".cache" / "trilha" / "azurite")
ACCOUNT = "trilha"
TRUSTING = 'mount --bind "$0" /etc/ssl/certs/ca-certificates.crt && exec "$@"'
"""Triton trusts the certificates there and no others; who starts it so has a file of his own in their place."""
KEY = base64.b64encode(b"seed-09b3-of-a-key-nobody-may-see").decode()


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the server."""
    program = shutil.which(
        "azurite-blob", path=os.pathsep.join([str(HOME / "node_modules" / ".bin"), os.environ["PATH"]])
    )
    if program is None:
        pytest.skip(f"no Azure Blob Storage: `azurite-blob` is neither below {HOME} nor on PATH")
    log, port = tmp_path_factory.mktemp("azure") / "log", free_port([])
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    options = ["--inMemoryPersistence", "--loose", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    accounts = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    with answering([*command, *options], f"http://127.0.0.1:{port}", log, accounts):
        yield port


def connection(port: int, key: str = KEY) -> str:
    """What Azure calls a connection string."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
    )


@pytest.fixture
def azure_container(azure_server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`abfs://NAME` of a fresh container; server and credentials come from the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection(azure_server))
    fsspec.get_filesystem_class("abfs").clear_instance_cache()  # else with the credentials of the test before
    name = f"container-{abs(hash(tmp_path)):x}"
    fsspec.filesystem("abfs").mkdir(name)
    return f"abfs://{name}"


@dataclass(frozen=True)
class Door:
    """A proxy behind which every host is the emulator, over TLS: its URL, and the certificate that a client has to trust."""

    url: str
    certificate: Path


@pytest.fixture(scope="session")
def https_door(azure_server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The way from `https://ACCOUNT.blob.core.windows.net` to the emulator."""
    folder, host = tmp_path_factory.mktemp("door"), f"{ACCOUNT}.blob.core.windows.net"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={host}"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
    subprocess.run([*command, "-addext", f"subjectAltName=DNS:{host}", *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")

    class Through(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked: socket.socket = self.request
            head = b""
            while not head.endswith(b"\r\n\r\n"):  # CONNECT HOST:443, of which the emulator knows the account by itself
                head += asked.recv(1)
            asked.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with (
                context.wrap_socket(asked, server_side=True) as inside,
                socket.create_connection(("127.0.0.1", azure_server)) as emulator,
            ):
                carry(inside, emulator)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Through) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Door(f"http://127.0.0.1:{server.server_address[1]}", folder / "certificate.pem")
        server.shutdown()


@pytest.fixture
def triton_on_azure(https_door: Door, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    """What the command of a Triton begins with that reads its models from the emulator; where, the environment says."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("Triton asks Azure over TLS, and trusts a certificate of ours only in a namespace of its own")
    monkeypatch.setenv("https_proxy", https_door.url)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", TRUSTING, https_door.certificate]


def carry(inside: ssl.SSLSocket, emulator: socket.socket) -> None:
    """Carry what each of them says to the other, until one has said all."""
    other: dict[socket.socket, socket.socket] = {inside: emulator, emulator: inside}
    while True:
        for one in [inside] if inside.pending() else select.select([*other], [], [])[0]:
            data = one.recv(65_536)
            if not data:
                return
            other[one].sendall(data)
