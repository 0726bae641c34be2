"""A real PostgreSQL and a real Redis for tests, with passwords, on free ports of loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.services.processes import free_port

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "deploy" / "compose" / "scripts"
PASSWORD = "seed-4e21-of-a-superuser-nobody-may-see"
ROLES = ("prefect", "mlflow", "lakefs", "backup", "grafana")


@dataclass(frozen=True)
class Postgres:
    """A server; the roles of deploy/compose/scripts/databases.sh have passwords of their own."""

    port: int

    def environment(self, role: str = "postgres") -> dict[str, str]:
        """What Postgres' own programs read, for a role."""
        password = PASSWORD if role == "postgres" else password_of(role)
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": role, "PGPASSWORD": password}
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"} | where

    def script(self, name: str, role: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the deployment as a role."""
        environment = self.environment(role) | variables
        return subprocess.run(
            ["sh", SCRIPTS / name], env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def make_databases(self) -> subprocess.CompletedProcess[str]:
        """Roles and databases, as the deployment makes them."""
        return self.script(
            "databases.sh", "postgres", **{f"{role.upper()}_DATABASE": password_of(role) for role in ROLES}
        )

    def ask(self, query: str, role: str = "postgres", database: str = "postgres") -> str:
        """The answer to a query, one line a row."""
        command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", database, "--command", query]
        done = subprocess.run(command, env=self.environment(role), capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else f"refused: {done.stderr.strip()}"


def password_of(role: str) -> str:
    return f"seed-77b0-of-{role}-nobody-may-see"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that asks for passwords, with no database of ours."""
    if not (shutil.which("postgres") and shutil.which("initdb")):
        pytest.skip("no `postgres` and `initdb` on PATH")
    folder = Path(tempfile.mkdtemp(prefix="trilha-pg-"))  # its server may not be root, and pytest's folders are root's
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    (folder / "password").write_text(PASSWORD)
    quiet = {"user": user, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    initial = ["-U", "postgres", "-A", "scram-sha-256", "--pwfile", folder / "password", "-E", "UTF8", "--locale", "C"]
    subprocess.run(["initdb", "-D", folder / "data", *initial], check=True, **quiet)
    server = Postgres(free_port([]))
    options = ["-h", "127.0.0.1", "-p", str(server.port), "-k", folder, "-c", "fsync=off", "-c", "max_connections=200"]
    process = subprocess.Popen(["postgres", "-D", folder / "data", *options], **quiet)
    try:
        _wait_for_port(server.port, process)
        while server.ask("select 1") != "1":
            time.sleep(0.05)
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # its fast shutdown: clients are cut off
        process.wait()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def databases(postgres: Postgres) -> Postgres:
    """The server, with the deployment's roles and databases."""
    done = postgres.make_databases()
    assert done.returncode == 0, done.stderr
    return postgres


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL, password and all, of a server that is configured as the deployment does it."""
    if not shutil.which("redis-server"):
        pytest.skip("no `redis-server` on PATH")
    port, folder = free_port([]), tmp_path_factory.mktemp("redis")
    password = password_of("redis")
    settings = f"port {port}\nbind 127.0.0.1\nappendonly yes\ndir {folder}\nrequirepass {password}\n"
    with running(["redis-server", "-"], {}, folder / "log", settings) as process:
        _wait_for_port(port, process)
        yield f"redis://:{password}@127.0.0.1:{port}/1"


@contextmanager
def running(
    command: list[str], variables: Mapping[str, str], log: Path, words: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, and all that it starts, for as long as the block takes; `words` is its standard input."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment | variables, stdin=subprocess.PIPE, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(words.encode())
    process.stdin.close()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
