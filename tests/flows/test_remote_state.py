"""State on a real S3 server: two machines that share it and the data share the work. And all of a lifecycle in each store."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from components import config
from components.place import Place
from components.runs import RunLog
from components.workspace import open_workspace
from flows.execute import execute, lifecycle_of
from flows.services import down, ensure
from flows.services.processes import free_port
from tests.azure import ACCOUNT
from tests.children import dying_with_us
from tests.object_stores import BUCKETS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOST = "127.0.0.48"
"""Loopback, too, and nobody else's: the ports of a container's Triton are always the same."""


def statuses() -> dict[str, str]:
    """Run the lifecycle here; returns what became of each node."""
    execute(lifecycle_of("small", "test"), project="small", profile="test", engine="local")
    log = RunLog(open_workspace("test"))
    return {name: state.status for name, state in log.nodes(log.header("last").id).items()}


def test_another_machine_finds_what_the_first_one_did(
    small: Path, bucket: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger, artifacts, runs and scalars are in the bucket: a second machine, with an empty home, does nothing again."""
    profile = small / "config" / "profiles" / "test.yaml"
    profile.write_text(f"state: {bucket}/state\nstore: {{kind: git, path: '{small}/data.git'}}\nengine: local\n")
    workspace = open_workspace("test")
    try:
        ensure(workspace, ["mlflow", "triton"])
        services = {name: workspace.endpoint(name) for name in ("mlflow", "triton")}
        assert set(statuses().values()) == {"done"}
        assert not [
            path for path in workspace.home.rglob("*") if path.suffix == ".parquet" and "copies" not in path.parts
        ]

        second = tmp_path_factory.mktemp("second") / "repository"
        shutil.copytree(small, second, ignore=shutil.ignore_patterns(".trilha", "data.git"))
        repository = workspace.home / "triton" / "models"
        urls = f"mlflow: {{url: '{services['mlflow']}'}}, triton: {{url: '{services['triton']}', repository: '{repository}'}}"
        there = second / "config" / "profiles" / "test.yaml"
        there.write_text(f"{there.read_text()}services: {{{urls}}}\n")
        monkeypatch.setenv("TRILHA_ROOT", str(second))
        monkeypatch.chdir(second)
        for cached in (config.root, open_workspace):
            cached.cache_clear()
        found = statuses()
        assert {name for name, status in found.items() if status == "done"} == {"observe", "champion"}
        assert set(found.values()) == {"done", "found"}
    finally:
        down(workspace)


@contextmanager
def process(
    command: Sequence[str | Path], url: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server and all that it starts, from the time on that it is well until the context ends."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            dying_with_us(command), env=os.environ | (environment or {}), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not well(url):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def well(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def mlflow(bucket: str, folder: Path) -> tuple[list[str], dict[str, str], str]:
    """The command of MLflow's own server as deploy/kubernetes has it, its environment, and where it is."""
    port = free_port([])
    scheme, _, name = bucket.partition("://")
    tracking = f"wasbs://{name}@{ACCOUNT}.blob.core.windows.net/mlflow" if scheme == "abfs" else f"{bucket}/mlflow"
    environment = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": tracking,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return command, environment, f"http://127.0.0.1:{port}"


@pytest.mark.long
@pytest.mark.xdist_group("clouds")  # of one Triton's ports
@pytest.mark.parametrize("store", BUCKETS)
def test_all_that_a_cloud_keeps(
    small: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """State, what MLflow keeps and what Triton reads lie in a bucket of each cloud's kind: a lifecycle, and a second one."""
    bucket = request.getfixturevalue(BUCKETS[store])
    before = request.getfixturevalue("triton_on_azure") if store == "azure" else []
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, f"127.0.0.1,{HOST}")
    command, environment, url = mlflow(bucket, tmp_path)
    (small / "config" / "profiles" / "test.yaml").write_text(f"""
state: {bucket}/state
store: {{kind: git, path: '{small}/data.git'}}
engine: local
services:
  mlflow: {{url: '{url}'}}
  triton: {{url: '{HOST}:8001', http: '{HOST}:8000', repository: '{bucket}/models'}}
""")
    open_workspace.cache_clear()
    triton = [*before, sys.executable, "-m", "components.adapters.triton_service", "test", HOST]
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with (
        process(command, f"{url}/health", tmp_path / "mlflow.log", environment),
        process(triton, f"http://{HOST}:8000/v2/health/ready", tmp_path / "triton.log", root),
    ):
        assert set(statuses().values()) == {"done"}
        again = statuses()
        assert {name for name, status in again.items() if status == "done"} == {"observe", "champion"}
    kept = Place(bucket).names()
    folders = {name.partition("/")[0] for name in kept}
    assert folders == {"mlflow", "models", "state"}
    assert [name for name in kept if name.startswith("mlflow/") and name.endswith("/graphs/model.onnx")]
    assert "models/small/config.pbtxt" in kept
    assert not (open_workspace("test").home / "triton" / "models").exists()
