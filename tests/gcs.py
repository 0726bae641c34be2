"""A server for tests that speaks Google Cloud Storage's protocol (`fake-gcs-server` on PATH), in memory, on loopback.

It takes every credential. What Google refuses is said by `refusing`, in the words of Google's own documentation.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import httpx
import pytest

from flows.services.processes import free_port
from tests.object_stores import answering

ANONYMOUS = "Anonymous caller does not have storage.objects.get access to the Google Cloud Storage object."


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's URL."""
    program = shutil.which("fake-gcs-server")
    if program is None:
        pytest.skip("no Google Cloud Storage: `fake-gcs-server` is not on PATH")
    address = f"127.0.0.1:{(port := free_port([]))}"
    command = [program, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    url, log = f"http://{address}", tmp_path_factory.mktemp("gcs") / "log"
    with answering([*command, "-public-host", address, "-log-level", "error"], url, log):
        yield url


@pytest.fixture
def gcs_bucket(gcs_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`gs://NAME` of a fresh bucket; the server comes from the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # this is no machine of Google's, and asking whether it is takes seconds
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks Google itself what kind a bucket is
    point_at(gcs_server, monkeypatch)
    name = f"bucket-{abs(hash(tmp_path)):x}"
    httpx.post(f"{gcs_server}/storage/v1/b?project=test", json={"name": name}, trust_env=False).raise_for_status()
    return f"gs://{name}"


def point_at(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Google's clients, those in Python and Triton's, ask this server."""
    fsspec.get_filesystem_class("gs").clear_instance_cache()  # else with the server of the test before
    for variable in ("STORAGE_EMULATOR_HOST", "CLOUD_STORAGE_EMULATOR_ENDPOINT"):
        monkeypatch.setenv(variable, server)


@contextmanager
def refusing(status: int) -> Iterator[str]:
    """The URL of a server that answers every request as Google does one whose credentials it does not take."""
    answer = json.dumps({"error": {"code": status, "message": ANONYMOUS}}).encode()

    class Refuse(BaseHTTPRequestHandler):
        def _refuse(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            with suppress(BrokenPipeError):  # a client that has seen the status may leave
                self.end_headers()
                self.wfile.write(answer)

        do_DELETE = do_GET = do_POST = _refuse  # noqa: N815  # the names that the server looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
