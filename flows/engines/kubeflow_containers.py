"""Compiled pipelines in containers on this machine, by Kubeflow's own local runner over the API of Docker or podman.

The runner keeps its settings in globals, prints, does one thing at a time and cannot be stopped; so it has a process of
its own, which ends the run's containers and itself as soon as the pipe from its parent closes, whether that let go or
died.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from components import config
from components.errors import ConfigError, GateError, NotFoundError, UnavailableError
from components.ingest import observe
from components.profile import Kubeflow, LakeFSStore
from components.runs import Run
from components.source_adapters import open_source

if TYPE_CHECKING:
    from components.source_settings import AnyTable
    from flows.dag import Dag

INSIDE = PurePosixPath("/opt/trilha")
"""Where the image has the repository."""

LOOK_EVERY = 0.2
"""Seconds between two looks at the record of the run."""


def image_here(profile: str, settings: Kubeflow) -> str:
    """The full name of the profile's image on this machine: podman puts `localhost/` before one that was built here.

    Raises:
        UnavailableError: neither Docker nor podman answers.
        NotFoundError: the image is not here.
    """
    import docker

    name = settings.image
    if name is None:
        raise ConfigError(
            f"profile {profile!r} names no image",
            accepted="`kubeflow: {image: trilha:dev}`",
            next_step=f"make image, then name it in config/profiles/{profile}.yaml",
        )
    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        where = os.environ.get("DOCKER_HOST", "/var/run/docker.sock")
        raise UnavailableError(
            f"neither Docker nor podman answers at {where}",
            accepted="Docker's API: DOCKER_HOST, or its own socket",
            next_step="start Docker, or `podman system service --time=0 unix:///SOCKET &` and name it in DOCKER_HOST",
        ) from error
    try:
        found = client.images.get(name)
    except docker.errors.ImageNotFound:
        raise NotFoundError(f"no image {name!r} on this machine", next_step="make image") from None
    finally:
        client.close()
    return next((tag for tag in found.tags if tag.endswith(name)), name)


def run_here(packages: Sequence[str], dag: Dag, run: Run, look: Callable[[], object]) -> str:
    """Run compiled pipelines, as many side by side as the profile has workers, and wait for all of them.

    Args:
        packages: the compiled pipelines; one that fails stops no other.
        dag: whose nodes they have.
        run: which the nodes belong to.
        look: is called again and again meanwhile.

    Returns:
        the last thing that a runner said of a failure, or nothing.
    """
    header = run.header
    folder = run.workspace.home / "kubeflow" / header.id
    folder.mkdir(parents=True)
    names = [f"pipeline-{number:04}" for number in range(len(packages))]
    for name, package in zip(names, packages, strict=True):
        # Kubeflow's local runner fails on this placeholder; the run has its id, so nothing reads it.
        text = package.replace("{{$.pipeline_job_create_time_utc}}", header.started)
        (folder / f"{name}.yaml").write_text(text)
    mounts = [
        {"target": str(there), "source": str(here), "type": "bind", "read_only": read_only}
        for here, there, read_only in _mounts(dag, run)
    ]
    job = {"run": header.id, "container": _container(run), "mounts": mounts}
    side_by_side = min(run.workspace.profile.workers, len(names))
    with (folder / "log.txt").open("wb") as log, ExitStack() as stack:
        shares = [{**job, "pipelines": names[first::side_by_side]} for first in range(side_by_side)]
        runners = [stack.enter_context(_runner(folder, share, log)) for share in shares]
        for runner in runners:
            _follow(runner, look)
    if not any(runner.returncode for runner in runners):
        return ""
    lines = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {max(runner.returncode for runner in runners)}"


@contextmanager
def _runner(folder: Path, job: dict[str, Any], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs its share of the pipelines in `folder`, and ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.engines.kubeflow_runner", str(folder)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,  # a terminal's Ctrl-C comes to us, and the pipe passes it on
    )
    assert process.stdin
    try:
        process.stdin.write(f"{json.dumps(job)}\n".encode())  # by the pipe: it holds secrets, and no file should
        process.stdin.flush()
        yield process
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()


def _follow(runner: subprocess.Popen[bytes], look: Callable[[], object]) -> None:
    """Wait until it ends."""
    while True:
        try:
            runner.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            look()
        else:
            return


def _container(run: Run) -> dict[str, Any]:
    """What every container is started with, in the words of Docker's Python library.

    It is this user and sees this machine's network and processes, so that the services of the profile are where they
    are for everybody else here.
    """
    return {
        "user": f"{os.getuid()}:{os.getgid()}",
        "network_mode": "host",
        "pid_mode": "host",
        "cap_add": ["SYS_PTRACE"] if os.getuid() == 0 else [],  # else root in there may not know root's services here
        "labels": {"trilha.run": run.header.id},
        "environment": _environment(run),
    }


def _environment(run: Run) -> dict[str, str]:
    """Nobody starts a container again here, so it makes its attempts by itself; secrets come from our environment."""
    profile = run.workspace.profile
    wanted = {
        name
        for group in (profile.kubeflow.secrets, profile.kubeflow.config_maps)
        for keys in group.values()
        for name in keys.values()
    }
    wanted |= {connection.url_env for connection in profile.connections.values() if connection.url_env}
    if isinstance(profile.store, LakeFSStore):
        wanted |= {profile.store.access_key_env, profile.store.secret_key_env}
    passed = {name: os.environ[name] for name in sorted(wanted) if name in os.environ}
    return passed | {"TRILHA_RETRIES": "here", "TRILHA_ROOT": str(INSIDE), "HOME": "/tmp"}  # noqa: S108  # of the container


def _mounts(dag: Dag, run: Run) -> Iterator[tuple[Path, PurePosixPath, bool]]:
    """What a container sees of this machine: here, there, and whether it may only read it.

    A path that the profile gives as absolute is the same in there.
    """
    root = config.root()
    seen: set[PurePosixPath] = set()
    for path, read_only in [*((state, False) for state in _state(run)), *((name, True) for name in _read(dag, run))]:
        there = INSIDE / path
        if (root / path).exists() and not seen & {there, *there.parents}:
            seen.add(there)
            yield root / path, there, read_only


def _state(run: Run) -> Iterator[Path]:
    """Folders that steps write to, as the profile gives them."""
    profile = run.workspace.profile
    home = run.workspace.home
    yield home.relative_to(config.root()) if "://" in profile.state else Path(profile.state)
    if profile.store.kind == "git":
        _ = run.workspace.store  # made now where it is not there yet: what is not there cannot be mounted
        yield Path(profile.store.path)
    repository = profile.services.triton.repository
    if repository and "://" not in repository:
        yield Path(repository)


def _read(dag: Dag, run: Run) -> Iterator[Path]:
    """What steps read from the repository of whoever runs this, in place of what the image has."""
    for name in ("config", "notebooks", "requirements.lock"):
        yield Path(name)
    for node in dag.nodes:
        if node.step is observe:  # what is observed is read
            sources = cast("dict[str, AnyTable]", node.arguments["sources"])
            for table, source in sources.items():
                with suppress(GateError, NotFoundError):  # it is not there, as the step will say
                    for name in open_source(run.workspace, run.header.project, table, source).here():
                        yield Path(name).parent
