"""What this machine lacks to run a project, and how to get it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

from components import config, endpoints
from components.errors import TrilhaError
from components.records import Record
from components.workspace import Workspace, open_workspace

GIB = 2**30


class Check(Record):
    """One thing that was looked at; `note` is one that a run can do without."""

    name: str
    verdict: Literal["good", "note", "bad"]
    found: str
    remedy: str = ""


def examine(profile: str) -> list[Check]:
    """Look at all that a run of `profile` on this machine stands on; no service is started or stopped."""
    workspace = open_workspace(profile)
    looks: tuple[Callable[[Workspace], Iterator[Check]], ...] = (
        _python, _packages, _machine, _disk, _git, _triton, _ports,
    )  # fmt: skip
    return [check for look in looks for check in look(workspace)]


def _python(_: Workspace) -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"{version} at {sys.executable}"
    if (3, 11) <= sys.version_info < (3, 14):
        yield Check(name="python", verdict="good", found=found)
    else:
        yield Check(
            name="python",
            verdict="bad",
            found=found,
            remedy="install Python 3.11 to 3.13; make setup PYTHON=python3.12",
        )


def _packages(_: Workspace) -> Iterator[Check]:
    """Whether the environment is what the lock says, and the project is installed from this folder."""
    lock = config.root() / "requirements.lock"
    if not lock.is_file():
        yield Check(name="packages", verdict="note", found=f"no {lock}: nothing says which versions belong together")
        return
    wrong = list(_differences(lock))
    if wrong:
        some = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        yield Check(name="packages", verdict="bad", found=some, remedy="make setup")
    else:
        stamp = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
        yield Check(name="packages", verdict="good", found=f"as in requirements.lock ({stamp})")


def _differences(lock: Path) -> Iterator[str]:
    """What is installed in another version than the lock asks for, or not at all."""
    from packaging.requirements import Requirement

    for line in lock.read_text().splitlines():
        if not line or line[0] in " #":
            continue
        wanted = Requirement(line.rstrip(" \\"))
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield f"{wanted.name} is missing"
            continue
        if version not in wanted.specifier:
            yield f"{wanted.name} {version} in place of {wanted.specifier}"


def _machine(workspace: Workspace) -> Iterator[Check]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    found = f"{cores} CPUs, {memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB of memory free"
    if memory.available < 2 * GIB:
        yield Check(name="machine", verdict="note", found=found, remedy="2 GiB are wanted: `trilha down` frees some")
    else:
        yield Check(name="machine", verdict="good", found=f"{found}; {workspace.profile.workers} steps side by side")


def _disk(workspace: Workspace) -> Iterator[Check]:
    free = shutil.disk_usage(workspace.home).free
    found = f"{free / GIB:.1f} GiB free at {workspace.home}"
    writable = os.access(workspace.home, os.W_OK)
    if not writable:
        yield Check(name="disk", verdict="bad", found=f"{workspace.home} cannot be written", remedy="change its owner")
    elif free < GIB:
        yield Check(name="disk", verdict="bad", found=found, remedy="make room, or set `state` to another disk")
    else:
        yield Check(name="disk", verdict="good", found=found)


def _git(_: Workspace) -> Iterator[Check]:
    git = shutil.which("git")
    if git is None:
        yield Check(
            name="git", verdict="note", found="no git: releases cannot name the code's revision", remedy="install git"
        )
    else:
        yield Check(name="git", verdict="good", found=git)
    if shutil.which("git-lfs") is None:
        yield Check(
            name="git-lfs",
            verdict="note",
            found="no git-lfs: only needed to clone the data with stock git",
            remedy="apt-get install git-lfs, or see git-lfs.com",
        )
    else:
        yield Check(name="git-lfs", verdict="good", found="here")


def _triton(workspace: Workspace) -> Iterator[Check]:
    """Whether the server is here and the loader finds all that it and its Python backend need."""
    if workspace.profile.services.triton.url:
        yield Check(name="tritonserver", verdict="good", found=f"elsewhere: {workspace.profile.services.triton.url}")
        return
    from components.adapters.triton_binary import command

    try:
        arguments, environment = command(workspace.home, workspace.home / "triton" / "models", 0, 0, 0)
    except TrilhaError as error:
        yield Check(name="tritonserver", verdict="bad", found=error.problem, remedy=error.next_step)
        return
    server = arguments[0]
    tried = subprocess.run([server, "--help"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode == 127:  # the loader's own
        yield Check(
            name="tritonserver",
            verdict="bad",
            found=tried.stderr.strip(),
            remedy="install that library with the system's package manager",
        )
    else:
        yield Check(name="tritonserver", verdict="good", found=server)


def _ports(workspace: Workspace) -> Iterator[Check]:
    """Whether the ports that the profile names are ours or free."""
    from flows.services import SERVICES
    from flows.services.processes import is_free

    for name, service in SERVICES.items():
        settings = getattr(workspace.profile.services, name)
        if settings.url or not settings.port:
            continue
        running = endpoints.read(workspace.home, name)
        if running is not None and running.alive:
            yield Check(name=name, verdict="good", found=f"up at {running.url}")
            continue
        taken = [settings.port + offset for offset in service.ports.values() if not is_free(settings.port + offset)]
        if taken:
            yield Check(
                name=name,
                verdict="note",
                found=f"port {taken[0]} is in use by another program; a free one will be taken",
                remedy=f"end that program, or set services.{name}.port in config/profiles/{workspace.name}.yaml",
            )
        else:
            yield Check(name=name, verdict="good", found=f"not running; port {settings.port} is free")
