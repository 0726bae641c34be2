"""Where the background services of a profile listen: what `trilha up` wrote down, checked against the process."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from components.records import Record

TOKEN = "TRILHA_SERVICE"  # noqa: S105  # the name of a variable, not a secret
"""The environment variable by which a process is known as the service it was started as, whatever its PID."""


class Endpoint(Record):
    """One service that was started here.

    `url` is what clients use: `http://host:port`, or `host:port` where the service speaks gRPC. `token` is random, made
    anew at every start.
    """

    service: str
    url: str
    ports: dict[str, int]
    pid: int
    token: str
    started: str

    @property
    def alive(self) -> bool:
        """Whether the process runs: a PID that was given to somebody else since does not carry the token."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(TOKEN) == self.token
        except psutil.Error:
            return False


def spare_proxies() -> None:
    """Keep this process' requests to this machine from a proxy that the environment names for all others."""
    for name in ("no_proxy", "NO_PROXY"):
        spared = [host for host in os.environ.get(name, "").split(",") if host]
        if "127.0.0.1" not in spared:
            os.environ[name] = ",".join([*spared, "127.0.0.1", "localhost"])


def prefect_api(url: str) -> str:
    """The API of the Prefect server at `url`; a workspace of Prefect Cloud is known by the URL of its API."""
    return url if "/api/" in url else f"{url}/api"


def path(home: Path, service: str) -> Path:
    """The state file of a service."""
    return home / "services" / f"{service}.json"


def read(home: Path, service: str) -> Endpoint | None:
    """What was written down about a service, whether or not it still runs; None where nothing or nothing whole was."""
    try:
        return Endpoint.model_validate_json(path(home, service).read_bytes())
    except (OSError, ValidationError):
        return None
