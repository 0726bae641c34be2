"""A real Redis for tests."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis, RedisError

from tests.triton import free_ports


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server that keeps nothing, and its URL; a test may kill it."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    (port,) = free_ports(1)
    with start(port, tmp_path) as server:
        yield server, f"redis://127.0.0.1:{port}/0"
        server.kill()


def start(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """One that answers on `port` when this returns."""
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not _answers(port):
        assert time.monotonic() < deadline, "Redis does not start"
        time.sleep(0.02)
    return server


def _answers(port: int) -> bool:
    try:
        return bool(Redis(port=port).ping())
    except RedisError:
        return False
