"""Processes that outlive the command that starts them, and are found again by what they carry, not by their PID."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from components.disk import is_full
from components.endpoints import TOKEN
from components.errors import UnavailableError
from flows.services.logs import log_path
from flows.services.registry import HOST, Launch

PATIENCE = 8.0
"""Seconds that a process gets to end in good order before it is killed."""

LOG_SIZE = 5_000_000
"""Bytes of log that are taken over into the next start; a longer one is put aside as `NAME.log.1`."""


def new_token(home: Path, service: str) -> str:
    """A token for one start of a service; the process and all its descendants carry it in their environment."""
    return f"{_prefix(home, service)}{secrets.token_hex(8)}"


def _prefix(home: Path, service: str) -> str:
    return f"{home}:{service}:"


def spawn(home: Path, service: str, launch: Launch, token: str) -> subprocess.Popen[bytes]:
    """Start a service in a session of its own, its output in its log.

    Raises:
        UnavailableError: the program cannot be started, or its log cannot be written.
    """
    path = log_path(home, service)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_SIZE:
            path.replace(path.with_name(f"{path.name}.1"))
        with path.open("ab") as log:
            return subprocess.Popen(
                launch.arguments,
                env=launch.environment | {TOKEN: token},
                cwd=path.parent,  # not the repository: Prefect reads settings from the files of its working directory
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        raise UnavailableError(
            f"{service} cannot be started: {error.filename or launch.arguments[0]}: {error.strerror}",
            next_step="make room on the disk" if is_full(error) else "trilha doctor",
        ) from error


def find(home: Path, services: Iterable[str]) -> Iterator[tuple[str, psutil.Process]]:
    """Every process of the services of this home, with its service's name; also those that no state file knows."""
    prefixes = {_prefix(home, service): service for service in services}
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile, or somebody else's
            token = process.environ().get(TOKEN, "")
            for prefix, service in prefixes.items():
                if token.startswith(prefix):
                    yield service, process


def stop(home: Path, services: Iterable[str]) -> None:
    """End every process of the services: politely from the top, by force what is left after `PATIENCE`."""
    services = list(services)
    found = [process for _, process in find(home, services)]
    known = {process.pid for process in found}
    for process in found:
        with suppress(psutil.Error):
            if process.ppid() not in known:  # the others are ended by their parent
                process.terminate()
    psutil.wait_procs(found, timeout=PATIENCE)
    left = [process for _, process in find(home, services)]
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=PATIENCE)


def is_free(port: int) -> bool:
    """Whether nobody listens on `port` of loopback."""
    return _bind(port) is not None


def free_port(taken: Collection[int] = ()) -> int:
    """A port of loopback that nobody listens on and that is not in `taken`."""
    while True:
        port = _bind(0)
        if port and port not in taken:
            return port


def _bind(port: int) -> int | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger do not count
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return None
        return int(probe.getsockname()[1])
