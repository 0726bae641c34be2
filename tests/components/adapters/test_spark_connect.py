"""The same SQL through a real Spark Connect server."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.adapters.spark_sql import name_of, session_at
from components.errors import UnavailableError
from components.ledger import running_as
from components.pick import pick
from components.project import RandomSplit
from components.records import digest
from components.score import score
from components.workspace import Workspace
from tests.children import dying_with_us
from tests.examples import FEATURES, commit_tables, parcels, prepare_as
from tests.flights import QUERY, place_flights, released
from tests.spark import on_spark
from tests.triton import Fitted, free_ports

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("spark")]

SPLIT = RandomSplit(by="random", key="id", valid=0.2, test=0.2)


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server, from pyspark's own jars."""
    import pyspark

    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    home, folder, [port] = Path(pyspark.__file__).parent, tmp_path_factory.mktemp("connect"), free_ports(1)
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.connect.progress.reportInterval": "50ms",  # two seconds is longer than a small night takes
        "spark.ui.enabled": "false",
    }
    command: list[str | Path] = [
        home / "bin" / "spark-class",
        "org.apache.spark.deploy.SparkSubmit",
        "--master",
        "local[2]",
    ]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    environment = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(dying_with_us(command), env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert server.poll() is None, (folder / "log").read_text()[-2_000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_it_answers(connect: str) -> None:
    """As `trilha doctor` asks."""
    assert name_of(connect).startswith("Spark 4")


def test_the_same_record(connect: str, repository: Path, workspace: Workspace) -> None:
    """`prepare` writes the very bytes that it writes on DuckDB."""
    commit = commit_tables(workspace, {"parcels": [parcels(1_500), parcels(3_000)[1_500:]]})
    here = prepare_as(workspace, commit, features=FEATURES, split=SPLIT)
    there = prepare_as(on_spark(repository, connect), commit, key="b", features=FEATURES, split=SPLIT)
    assert digest(there) == digest(here)


def test_the_same_night(
    connect: str,
    repository: Path,
    workspace: Workspace,
    fitted: Fitted,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its workers answer, and yield the parts that this process answers, byte for byte; how far they are is told."""
    monkeypatch.setattr("components.progress.ELSEWHERE", 0.0)
    place_flights(repository)
    released(workspace, fitted)
    picked = pick("flights", "test", None, None, QUERY, ("origin",))

    def files(key: str) -> list[str]:
        with running_as(key * 64):
            scored = score("flights", "test", picked, QUERY, ("origin",), 1_000, "onnxruntime", 0, 1)
        return [part.file.sha256 for part in scored.parts]

    here = files("a")
    assert "workers at stage" not in capsys.readouterr().err
    on_spark(repository, connect)
    assert files("b") == here
    assert re.search(r"score, workers at stage \d+  \d+ of \d+ tasks", capsys.readouterr().err)
    assert len(here) == 6


def test_no_server() -> None:
    """Told at once, where its client would try for minutes."""
    url = f"sc://127.0.0.1:{free_ports(1)[0]}/;token=secret"
    with pytest.raises(UnavailableError, match="refused") as caught, session_at(url):
        pass
    assert "secret" not in str(caught.value)
