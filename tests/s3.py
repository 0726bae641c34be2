"""A real S3 server for tests: Versity's gateway (`versitygw` on PATH) over a folder, on loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from flows.services.processes import free_port
from tests.object_stores import answering

SECRET = "seed-5be3-of-a-key-nobody-may-see"  # of a server that lives as long as the tests


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The server's URL and its folder, whose sub-folders are the buckets."""
    program = shutil.which("versitygw")
    if program is None:
        pytest.skip("no S3 server: `versitygw` is not on PATH")
    folder = tmp_path_factory.mktemp("s3")
    for name in ("buckets", "metadata"):
        (folder / name).mkdir()
    port = free_port([])
    secrets = {"ROOT_ACCESS_KEY": "trilha", "ROOT_SECRET_KEY": SECRET}
    command = [program, "--port", f"127.0.0.1:{port}", "posix", "--sidecar", folder / "metadata", folder / "buckets"]
    url = f"http://127.0.0.1:{port}"
    with answering(command, url, folder / "log", secrets):
        yield url, folder / "buckets"


@pytest.fixture
def bucket(s3_server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://NAME` of a fresh bucket; server and credentials come from the environment, as in a pod."""
    url, buckets = s3_server
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # else with the credentials of the test before
    name = f"bucket-{abs(hash(tmp_path)):x}"
    (buckets / name).mkdir()
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "trilha")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return f"s3://{name}"
