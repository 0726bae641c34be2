"""Prefect and lakeFS as deploy/compose starts them: the same settings but for where things are."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.services.processes import free_port
from tests.databases import ROOT, SCRIPTS, Postgres, password_of, running

COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text())
LAKEFS_KEY = "AKIAIO0000000000TEST"


@dataclass(frozen=True)
class Server:
    """One that runs, and `NAME:PASSWORD` for it."""

    url: str
    auth: str
    log: Path

    def get(self, path: str) -> str:
        """What it answers to one who has the password."""
        given = {"Authorization": f"Basic {b64encode(self.auth.encode()).decode()}"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", headers=given), timeout=20) as answer:
            return str(answer.read().decode())

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))


@pytest.fixture(scope="session")
def prefect(databases: Postgres, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Prefect's server on Postgres and Redis, behind a password."""
    port, folder = free_port([]), tmp_path_factory.mktemp("prefect")
    server = Server(f"http://127.0.0.1:{port}", f"trilha:{password_of('prefect-api')}", folder / "log")
    variables = COMPOSE["services"]["prefect"]["environment"] | {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_UI_STATIC_DIRECTORY": str(folder / "ui"),
        "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
        "PREFECT_SERVER_DATABASE_PORT": str(databases.port),
        "PREFECT_SERVER_DATABASE_PASSWORD": password_of("prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": server.auth,
        "PREFECT_REDIS_MESSAGING_URL": redis_url,
        "PREFECT_SERVER_DOCKET_URL": redis_url,
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with answering(command, variables, server.log, f"{server.url}/api/ready"):  # as the health check: no password
        yield server


@contextmanager
def lakefs_on(databases: Postgres, folder: Path) -> Iterator[Server]:
    """LakeFS with its refs in Postgres and its objects in `folder`; started as often as you like."""
    program = shutil.which("lakefs")
    if program is None:
        pytest.skip("no `lakefs` on PATH")
    port = free_port([])
    server = Server(f"http://127.0.0.1:{port}", f"{LAKEFS_KEY}:{password_of('lakefs-key')}", folder / f"log-{port}")
    variables = COMPOSE["services"]["lakefs"]["environment"] | {
        "HOME": str(folder),
        "LAKEFS": program,
        "LAKEFS_LISTEN_ADDRESS": f"127.0.0.1:{port}",
        "LAKEFS_BLOCKSTORE_LOCAL_PATH": str(folder / "objects"),
        "LAKEFS_DATABASE_POSTGRES_CONNECTION_STRING": f"postgres://lakefs@127.0.0.1:{databases.port}/lakefs",
        "PGPASSWORD": password_of("lakefs"),
        "PGSSLMODE": "prefer",
        "LAKEFS_AUTH_ENCRYPT_SECRET_KEY": password_of("lakefs-encryption"),
        "LAKEFS_INSTALLATION_ACCESS_KEY_ID": LAKEFS_KEY,
        "LAKEFS_INSTALLATION_SECRET_ACCESS_KEY": password_of("lakefs-key"),
    }
    with answering(["sh", str(SCRIPTS / "lakefs.sh")], variables, server.log, f"{server.url}/_health"):
        yield server


@contextmanager
def answering(command: list[str], variables: Mapping[str, str], log: Path, url: str) -> Iterator[None]:
    """A server that runs, from its first answer on."""
    spared = {name: os.environ.get(name, "") + ",127.0.0.1" for name in ("no_proxy", "NO_PROXY")}
    with running(command, {**variables, **spared}, log) as process:
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        yield
