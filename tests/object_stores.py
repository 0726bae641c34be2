"""Servers of object stores for tests, and a bucket in each of them: Amazon's protocol, Google's, Azure's."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.children import dying_with_us

BUCKETS = {"s3": "bucket", "gcs": "gcs_bucket", "azure": "azure_container"}
"""Store -> the fixture that makes a bucket in it."""
STORES = ["s3", *(pytest.param(store, marks=pytest.mark.long) for store in BUCKETS if store != "s3")]
"""The stores as parameters: what all of them do alike is run on one, and on the others with what takes long."""


@contextmanager
def answering(
    command: Sequence[str | Path], url: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server as a process that answers at `url` and ends with the context, or with us."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            dying_with_us(command), env=os.environ | (environment or {}), stdout=output, stderr=output
        )
    try:
        while True:
            assert process.poll() is None, log.read_text()
            try:
                httpx.get(url, trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=STORES)
def any_bucket(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh bucket in each of the stores in turn."""
    return str(request.getfixturevalue(BUCKETS[request.param]))
