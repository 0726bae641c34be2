"""What this machine has: Python, packages, room, programs, ports."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from components import config, endpoints
from components.errors import TrilhaError
from components.workspace import Workspace
from flows.doctor.check import Check, lacking

GIB = 2**30


def python(_: Workspace) -> Iterator[Check]:
    """Whether it is a version that the packages are for."""
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"{version} at {sys.executable}"
    if (3, 11) <= sys.version_info < (3, 14):
        yield Check(name="python", verdict="good", found=found)
    else:
        yield lacking("python", found, "install Python 3.11 to 3.13; make setup PYTHON=python3.12")


def packages(_: Workspace) -> Iterator[Check]:
    """Whether the environment is what the lock says, and the project is installed from this folder."""
    lock = config.root() / "requirements.lock"
    if not lock.is_file():
        yield Check(name="packages", verdict="note", found=f"no {lock}: nothing says which versions belong together")
        return
    wrong = list(_differences(lock))
    if wrong:
        some = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        yield lacking("packages", some, "make setup")
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


def machine(workspace: Workspace) -> Iterator[Check]:
    """CPUs and memory."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    found = f"{cores} CPUs, {memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB of memory free"
    if memory.available < 2 * GIB:
        yield lacking("machine", found, "2 GiB are wanted: `trilha down` frees some", needed=False)
    else:
        yield Check(name="machine", verdict="good", found=f"{found}; {workspace.profile.workers} steps side by side")


def disk(workspace: Workspace) -> Iterator[Check]:
    """Room where this machine keeps its part."""
    free = shutil.disk_usage(workspace.home).free
    found = f"{free / GIB:.1f} GiB free at {workspace.home}"
    writable = os.access(workspace.home, os.W_OK)
    if not writable:
        yield lacking("disk", f"{workspace.home} cannot be written", "change its owner")
    elif free < GIB:
        yield lacking("disk", found, "make room, or set `state` to another disk")
    else:
        yield Check(name="disk", verdict="good", found=found)


def git(_: Workspace) -> Iterator[Check]:
    """Stock git and its LFS, which a run can do without."""
    git = shutil.which("git")
    if git is None:
        yield lacking("git", "no git: releases cannot name the code's revision", "install git", needed=False)
    else:
        yield Check(name="git", verdict="good", found=git)
    if shutil.which("git-lfs") is None:
        yield lacking(
            "git-lfs",
            "no git-lfs: only needed to clone the data with stock git",
            "apt-get install git-lfs, or see git-lfs.com",
            needed=False,
        )
    else:
        yield Check(name="git-lfs", verdict="good", found="here")


def triton(workspace: Workspace) -> Iterator[Check]:
    """Whether the server is here and the loader finds all that it and its Python backend need."""
    settings = workspace.profile.services.triton
    if settings.url:
        return
    from components.adapters.triton_binary import command

    try:
        repository = workspace.home / "triton" / "models"
        arguments, environment = command(workspace.home, repository, 0, 0, 0, more=settings.backends)
    except TrilhaError as error:
        yield lacking("tritonserver", error.problem, error.next_step)
        return
    server = arguments[0]
    tried = subprocess.run([server, "--help"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode == 127:  # the loader's own
        yield lacking("tritonserver", tried.stderr, "install that library with the system's package manager")
    else:
        yield Check(name="tritonserver", verdict="good", found=server)


def ports(workspace: Workspace) -> Iterator[Check]:
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
            yield lacking(
                name,
                f"port {taken[0]} is in use by another program; a free one will be taken",
                f"end that program, or set services.{name}.port in config/profiles/{workspace.name}.yaml",
                needed=False,
            )
        else:
            yield Check(name=name, verdict="good", found=f"not running; port {settings.port} is free")
