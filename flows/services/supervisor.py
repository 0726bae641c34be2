"""Start, find again and stop the services of a profile: one set a home, however many commands ask for it."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components import endpoints
from components.endpoints import Endpoint
from components.errors import UnavailableError
from components.records import Record
from flows.services import health, processes
from flows.services.logs import log_path, tail
from flows.services.registry import SERVICES, Service

if TYPE_CHECKING:
    from components.workspace import Workspace

Say = Callable[[str], object]

START = 120.0
"""Seconds that a service gets to start; the first start makes its database."""

ANSWER = 20.0
"""Seconds that a running service gets to answer before it counts as hung: a busy machine makes it slow."""

ROOM = 100 * 2**20
"""Bytes that the disk must have left."""


class Status(Record):
    """How one service is; `elsewhere` is one that the profile names by its URL. `uptime` is in seconds."""

    service: str
    state: Literal["running", "not answering", "stopped", "elsewhere", "unreachable"]
    url: str = ""
    pid: int | None = None
    uptime: float | None = None


def ensure(workspace: Workspace, names: Sequence[str] = tuple(SERVICES), say: Say = lambda _: None) -> list[str]:
    """Return once the services `names` are well, with those that had to be started, side by side.

    `say` is told what is started and where it listens.

    Raises:
        UnavailableError: a service did not start, or one that runs elsewhere does not answer.
    """
    here = []
    for name in names:
        url = _elsewhere(workspace, name)
        if url is None:
            here.append(SERVICES[name])
        elif not health.reachable(SERVICES[name], url):
            raise UnavailableError(
                f"{name} at {url} does not answer",
                next_step=f"start it there, or take services.{name}.url out of config/profiles/{workspace.name}.yaml",
            )
    if all(_runs(workspace.home, service) for service in here):
        return []
    with workspace.lock("services"):  # two commands at once: the second one finds what the first one started
        wanting = [service for service in here if not _runs(workspace.home, service, ANSWER)]
        _start_all(workspace, wanting, say)
    return [service.name for service in wanting]


def down(workspace: Workspace, names: Sequence[str] = tuple(SERVICES)) -> list[str]:
    """Stop the services and everything they started; returns the names of those that ran."""
    home = workspace.home
    with workspace.lock("services"):
        running = sorted({service for service, _ in processes.find(home, names)})
        processes.stop(home, running)
        for name in names:
            endpoints.path(home, name).unlink(missing_ok=True)
    return running


def status(workspace: Workspace) -> list[Status]:
    """How every service is, asked just now."""
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        return list(pool.map(lambda service: _status(workspace, service), SERVICES.values()))


def _status(workspace: Workspace, service: Service) -> Status:
    url = _elsewhere(workspace, service.name)
    if url:
        there = health.reachable(service, url)
        return Status(service=service.name, state="elsewhere" if there else "unreachable", url=url)
    found = endpoints.read(workspace.home, service.name)
    if found is None or not found.alive:
        return Status(service=service.name, state="stopped")
    uptime = datetime.now(UTC) - datetime.fromisoformat(found.started)
    return Status(
        service=service.name,
        state="running" if health.well(service, found.ports) else "not answering",
        url=found.url,
        pid=found.pid,
        uptime=round(uptime.total_seconds(), 1),
    )


def _elsewhere(workspace: Workspace, name: str) -> str | None:
    """The URL of a service that the profile has elsewhere."""
    url: str | None = getattr(workspace.profile.services, name).url
    return url and url.rstrip("/")


def _runs(home: Path, service: Service, patience: float = 0.0) -> bool:
    """Whether the service runs and is well, or becomes so within `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        found = endpoints.read(home, service.name)
        if found is None or not found.alive:
            return False
        if health.well(service, found.ports):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)


def _start_all(workspace: Workspace, services: Sequence[Service], say: Say) -> None:
    """Start `services` side by side and wait for each; the lock is held."""
    if not services:
        return
    home, names = workspace.home, [service.name for service in services]
    processes.stop(home, names)  # what crashed, hangs, or was left by a command that was killed while it waited
    left = shutil.disk_usage(home).free
    if left < ROOM:
        raise UnavailableError(
            f"{home}: {left // 2**20} MiB left on the disk",
            accepted=f"{ROOM // 2**20} MiB at least",
            next_step="make room, or set `state` in the profile to a folder on another disk",
        )
    one_at_a_time = threading.Lock()

    def tell(text: str) -> None:
        with one_at_a_time:
            say(text)

    say(f"starting {', '.join(names)}")
    with ThreadPoolExecutor(len(services)) as pool:
        futures = [pool.submit(_start, workspace, service, tell) for service in services]
        try:
            for future in futures:
                with suppress(UnavailableError):  # the others may start; the first failure is raised below
                    future.result()
        except BaseException:  # an interrupt: what is half-started is stopped, and so the threads end
            processes.stop(home, names)
            raise
    for future in futures:
        future.result()


def _start(workspace: Workspace, service: Service, say: Say) -> None:
    """Start one service and write down where it is, once it is well."""
    home = workspace.home
    wanted: int = getattr(workspace.profile.services, service.name).port
    for last in (False, True):
        ports = _choose_ports(service, wanted, endpoints.read(home, service.name))
        if wanted and service.main_port(ports) != wanted:
            say(f"port {wanted} is in use by another program; {service.name} takes {service.main_port(ports)}")
        clock = time.monotonic()
        token = processes.new_token(home, service.name)
        process = processes.spawn(home, service.name, service.launch(workspace, ports), token)
        trouble = _wait(service, ports, process)
        if not trouble:
            _write_down(home, service, ports, process.pid, token)
            say(f"{service.name} is up at {service.url(ports)} after {time.monotonic() - clock:.1f} s")
            return
        processes.stop(home, [service.name])
        lost = not all(processes.is_free(port) for port in ports.values())
        if last or not lost:  # a port that somebody else took in between is worth a second attempt
            raise UnavailableError(
                f"{service.name} did not start: it {trouble}",
                next_step=f"trilha logs {service.name}; trilha doctor",
                details="\n".join(tail(log_path(home, service.name), 15)),
            )


def _choose_ports(service: Service, wanted: int, before: Endpoint | None) -> dict[str, int]:
    """The profile's ports; where those are taken, the ones it had, so that old links stay good; else free ones."""
    ports: dict[str, int] = {}
    for name, offset in service.ports.items():
        candidates = [wanted + offset] if wanted else []
        candidates += [before.ports[name]] if before and name in before.ports else []
        found = next((port for port in candidates if port not in ports.values() and processes.is_free(port)), None)
        ports[name] = found or processes.free_port(ports.values())
    return ports


def _wait(service: Service, ports: dict[str, int], process: subprocess.Popen[bytes]) -> str:
    """Wait until a new process is well; returns what went wrong, in words, if something did."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"ended with code {process.returncode}"
        if health.well(service, ports):
            return ""
        time.sleep(0.05)
    return f"did not answer within {START:g} s"


def _write_down(home: Path, service: Service, ports: dict[str, int], pid: int, token: str) -> None:
    """Let every command from now on find the service."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    endpoint = Endpoint(service=service.name, url=service.url(ports), ports=ports, pid=pid, token=token, started=now)
    path = endpoints.path(home, service.name)
    part = path.with_suffix(".part")
    part.write_text(endpoint.model_dump_json())
    part.replace(path)
