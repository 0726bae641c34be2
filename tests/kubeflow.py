"""A server that speaks the part of Kubeflow Pipelines' REST interface (v2beta1) that Trilha uses.

This is the one border of Trilha at which nothing real serves: Kubeflow's API server needs a Kubernetes cluster. The
client in front of it is Kubeflow's own, over real HTTP; the paths and bodies are those that its generated code sends.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

TOKEN = "seed-4f1d-of-a-token-nobody-may-see"


class Server:
    """What the server knows, and how it is to refuse: `refusal` is a status and a message."""

    def __init__(self) -> None:
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.tokens: set[str] = set()
        self.refusal: tuple[int, str] | None = None
        self.ends: dict[str, Any] = {"state": "SUCCEEDED"}
        """What a run becomes once it was asked for."""
        self.url = ""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """The status and the body that a request is answered with."""
        if self.refusal:
            return self.refusal[0], {"code": 7, "message": self.refusal[1]}
        kind, _, name = path.removeprefix("/apis/v2beta1/").partition("/")
        if kind == "healthz":
            return 200, {"multi_user": True}
        if kind == "experiments":
            return self._experiments(method, body)
        if kind == "runs":
            return self._runs(method, name, query, body)
        if kind == "recurringruns":
            return self._schedules(method, name, body)
        return 404, {"message": f"no {path}"}

    def _experiments(self, method: str, body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, {"experiments": list(self.experiments.values())}
        made = {"experiment_id": str(uuid.uuid4()), **body}
        self.experiments[body["display_name"]] = made
        return 200, made

    def _runs(self, method: str, name: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if method == "POST" and name.endswith(":terminate"):
            self.runs[name.removesuffix(":terminate")]["state"] = "CANCELED"
            return 200, {}
        if method == "POST":
            made = {"run_id": str(uuid.uuid4()), "state": "PENDING", **body}
            self.runs[made["run_id"]] = made
            return 200, made
        if name:
            if name not in self.runs:
                return 404, {"message": f"run {name} not found"}
            if self.runs[name]["state"] != "CANCELED":
                self.runs[name] |= self.ends
            return 200, self.runs[name]
        if "filter" not in query:
            return 200, {"runs": list(self.runs.values())}
        wanted = json.loads(query["filter"][0])["predicates"][0]
        assert (wanted["operation"], wanted["key"]) == ("EQUALS", "display_name")
        return 200, {"runs": [run for run in self.runs.values() if run["display_name"] == wanted["stringValue"]]}

    def _schedules(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        if method == "DELETE":
            del self.schedules[name]
            return 200, {}
        if method == "GET":
            return 200, {"recurringRuns": list(self.schedules.values())}
        made = {"recurring_run_id": str(uuid.uuid4()), **body}
        self.schedules[made["recurring_run_id"]] = made
        return 200, made


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def _do(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        served: Server = self.server.served
        token = re.sub("^Bearer ", "", self.headers.get("Authorization", ""))
        served.tokens.add(token)
        if token != TOKEN:
            status, answer = 401, {"message": f"token {token} has expired"}
        else:
            status, answer = served.answer(self.command, url.path, parse_qs(url.query), body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        if 300 <= status < 400:  # as proxies that ask people to log in do
            self.send_header("Location", "/login")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _do  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def kubeflow() -> Iterator[Server]:
    """A server on a free port of loopback; the environment does not hold its token."""
    served = Server()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.served = served  # type: ignore[attr-defined]
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
