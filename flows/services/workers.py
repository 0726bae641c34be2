"""`python -m flows.services.workers`: Prefect's workers on this machine, as many as `trilha up --workers N` asks for.

One process looks after them: it starts another where one ended, follows the server to another port, and answers
`/health` with 200 once the server says that every one of them is online. It imports nothing of Prefect, which would
take a hundred megabytes.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote, urlsplit

from components.endpoints import prefect_api
from components.errors import UnavailableError
from components.workspace import Workspace, open_workspace

TICK = 1.0
"""Seconds between two looks at the workers."""

HEARTBEAT = 30
"""Seconds between two signs of life of a flow run; Prefect accepts no less."""


def wanted(home: Path) -> int:
    """How many workers there are to be."""
    try:
        return int(_wanted_path(home).read_text())
    except (OSError, ValueError):
        return 1


def want(home: Path, count: int) -> None:
    """Have `count` workers from now on; those that run follow within `TICK`."""
    path = _wanted_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(str(count))
    part.replace(path)


def _wanted_path(home: Path) -> Path:
    return home / "services" / "workers.count"


def name_of(number: int) -> str:
    """The worker's name on the server, the same at every start."""
    return f"{socket.gethostname()}-{number}"


class Crew:
    """The workers of one profile on this machine."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._pool = workspace.profile.services.workers.pool
        self._url = ""
        self._members: dict[int, subprocess.Popen[bytes]] = {}

    def look(self) -> None:
        """Start who is missing, end who is too many."""
        try:
            url = self._workspace.endpoint("prefect")
        except UnavailableError:
            return  # it may come back; workers wait for it, too
        if url != self._url:
            self.end()
            self._url = url
        count = wanted(self._workspace.home)
        for number in [number for number in self._members if number > count]:
            _end([self._members.pop(number)])
        for number in range(1, count + 1):
            member = self._members.get(number)
            if member is None or member.poll() is not None:
                self._members[number] = self._start(number)

    def end(self) -> None:
        """End all of them."""
        _end(list(self._members.values()))
        self._members.clear()

    def well(self) -> bool:
        """Whether there are as many as there should be, and the server says that each is online."""
        count = wanted(self._workspace.home)
        if len(self._members) != count or any(member.poll() is not None for member in self._members.values()):
            return False
        try:
            online = {worker["name"] for worker in self._on_server() if worker["status"] == "ONLINE"}
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return online >= {name_of(number) for number in range(1, count + 1)}

    def _on_server(self) -> list[dict[str, Any]]:
        """The workers of the pool as the server knows them."""
        parts = urlsplit(prefect_api(self._url))
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=1.5)
        try:
            path = f"{parts.path}/work_pools/{quote(self._pool)}/workers/filter"
            connection.request("POST", path, "{}", {"Content-Type": "application/json"} | _authorization())
            answer = connection.getresponse()
            found: list[dict[str, Any]] = json.loads(answer.read()) if answer.status == 200 else []
            return found
        finally:
            connection.close()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        command = ["worker", "start", "--pool", self._pool, "--type", "process", "--name", name_of(number)]
        environment = {
            "PREFECT_API_URL": prefect_api(self._url),
            "PREFECT_HOME": str(self._workspace.home / "prefect"),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
            "PREFECT_WORKER_QUERY_SECONDS": "2",  # a run that a person starts should not wait for ten
            "PREFECT_WORKER_ENABLE_CANCELLATION": "true",  # of runs that have not begun; others see to it themselves
        }
        return subprocess.Popen(
            [sys.executable, "-m", "prefect", "--no-prompt", *command, "--install-policy", "never"],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
        )


def _authorization() -> dict[str, str]:
    password, key = os.environ.get("PREFECT_API_AUTH_STRING"), os.environ.get("PREFECT_API_KEY")
    if password:
        return {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    return {"Authorization": f"Bearer {key}"} if key else {}


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End workers; what they run goes with them, and is found in the ledger by the next run."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + 5
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _serve(crew: Crew, host: str, port: int) -> None:
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            self.send_response(200 if self.path == "/health" and crew.well() else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((host, port), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> None:
    """Look after the workers until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m flows.services.workers")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    crew, over = Crew(open_workspace(options.profile)), threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _serve(crew, options.host, options.port)
    try:
        while not over.wait(TICK):
            crew.look()
    finally:
        crew.end()


if __name__ == "__main__":
    main()
