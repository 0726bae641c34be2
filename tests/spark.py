"""A real Spark for tests: a standalone master and two workers on loopback, from pyspark's own jars."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.workspace import Workspace, open_workspace
from tests.children import dying_with_us
from tests.triton import free_ports


@dataclass(frozen=True)
class Spark:
    """A cluster: its URL, and the processes of its workers, which a test may kill."""

    url: str
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    """A master and two workers of one core each."""
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    folder = tmp_path_factory.mktemp("spark")
    port, page, *others = free_ports(4)
    master = _start(folder / "master.log", "master.Master", "--port", str(port), "--webui-port", str(page))
    url = f"spark://127.0.0.1:{port}"
    workers = []
    try:
        _wait(page, 0, folder / "master.log")
        for number, other in enumerate(others):
            work = [
                "--cores",
                "1",
                "--memory",
                "1g",
                "--webui-port",
                str(other),
                "--work-dir",
                str(folder / f"{number}"),
            ]
            workers.append(_start(folder / f"worker{number}.log", "worker.Worker", *work, url))
        _wait(page, 2, folder / "master.log")
        yield Spark(f"{url}?spark.executor.memory=600m", workers)
    finally:
        for process in (*workers, master):
            process.kill()
            process.wait()


def on_spark(repository: Path, url: str) -> Workspace:
    """The parts of profile `test` again, with its SQL on Spark."""
    path = repository / "config" / "profiles" / "test.yaml"
    path.write_text(f"{path.read_text()}sql: '{url}'\n")
    open_workspace.cache_clear()
    return open_workspace("test")


def _start(log: Path, role: str, *options: str) -> subprocess.Popen[bytes]:
    import pyspark

    home = Path(pyspark.__file__).parent
    command = [home / "bin" / "spark-class", f"org.apache.spark.deploy.{role}", "--host", "127.0.0.1", *options]
    environment = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }
    with log.open("wb") as output:
        return subprocess.Popen(dying_with_us(command), env=environment, stdout=output, stderr=output)


def _wait(page: int, workers: int, log: Path) -> None:
    """Until the master has as many."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=5) as answer:
                if json.load(answer)["aliveworkers"] == workers:
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"Spark does not start:\n{log.read_text()[-2000:]}")
