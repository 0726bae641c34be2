"""`trilha stream`: one process a project, which feeds its tables from their topics until it is told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from components import config
from components.errors import ConfigError, ConflictError, TrilhaError, UnavailableError
from components.records import Record
from components.stream_settings import Stream, StreamTable

if TYPE_CHECKING:
    from types import FrameType

    from components.project import Project
    from components.stream_metrics import StreamMetrics
    from components.workspace import Workspace

START: Final = 60.0
"""Seconds that a process in the background gets to begin."""
STOP: Final = 120.0
"""Seconds that a process gets for the batch in hand."""
HOST: Final = "127.0.0.1"


class StreamProcess(Record):
    """The process of one project on this machine, as it wrote itself down."""

    pid: int
    created: float
    """When the system says that it began: a PID may be given to somebody else."""
    started: str
    metrics: str
    """The URL for Prometheus."""
    ended: str = ""
    """Why it ended, where it did so itself; `stopped` where it was told to."""

    @property
    def alive(self) -> bool:
        """Whether it feeds."""
        return not self.ended and self.there

    @property
    def there(self) -> bool:
        """Whether the process is, whatever it does."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def streams_of(project: Project) -> dict[str, Stream]:
    """Table -> the `stream` that feeds it.

    Raises:
        ConfigError: the project has none.
    """
    found = {name: source.stream for name, source in project.file.sources.items() if isinstance(source, StreamTable)}
    if not found:
        raise ConfigError(
            f"no table of {project.name} is fed by a stream",
            accepted="a table under `sources` with `stream`",
            next_step=f"add one to config/projects/{project.name}/project.yaml: docs/how-to/streams.md",
        )
    return found


def read(workspace: Workspace, project: str) -> StreamProcess | None:
    """What the project's last process on this machine wrote down."""
    try:
        return StreamProcess.model_validate_json(_path(workspace, project).read_bytes())
    except (OSError, ValidationError):
        return None


def log_path(workspace: Workspace, project: str) -> Path:
    """Where a process in the background writes what it has to say."""
    from flows.services.logs import log_path

    return log_path(workspace.home, f"stream-{project}")


def run(workspace: Workspace, project: str, port: int, say: Callable[[str], object]) -> None:
    """Feed the project's tables, each by a thread of its own, until SIGTERM or an interrupt; what is in hand is done.

    Args:
        workspace: where the tables are.
        project: its name.
        port: of loopback, for Prometheus; 0 takes a free one.
        say: is told what a person should know.

    Raises:
        ConflictError: another process of this machine feeds them.
        TrilhaError: what a person has to see to; other tables end after the batch in hand.
    """
    from components.stream import Feed
    from components.stream_metrics import StreamMetrics

    settings = config.load_project(project)
    streams = streams_of(settings)
    over = threading.Event()
    with _alone(workspace, project), _signals(over):
        metrics = StreamMetrics(project)
        state = _begin(workspace, project, metrics, port)
        ended = "killed"
        feeds = [
            Feed(workspace, project, table, stream, settings.expectations.get(table, ()), metrics, over, say)
            for table, stream in streams.items()
        ]
        try:
            with ThreadPoolExecutor(len(feeds), "feed") as pool:
                futures = [pool.submit(feed.run) for feed in feeds]
                try:
                    wait(futures, return_when=FIRST_COMPLETED)
                finally:
                    over.set()
            for future in futures:
                future.result()
            ended = "stopped"
        except TrilhaError as error:
            ended = str(error)
            raise
        finally:
            _write(workspace, project, state.model_copy(update={"ended": ended}))


def detach(workspace: Workspace, project: str, port: int) -> StreamProcess:
    """Start the process in the background, and return once it runs.

    Raises:
        ConflictError: there is one.
        UnavailableError: it ended at once.
    """
    from flows.services.logs import tail
    from flows.services.processes import new_token, spawn
    from flows.services.registry import Launch, clean

    with _alone(workspace, project):
        pass  # nobody else feeds them; whoever comes in between is refused by the process itself
    import components

    variables = (connection.url_env for connection in workspace.profile.connections.values())
    secrets = {name: os.environ[name] for name in variables if name and name in os.environ}
    ours = {"PYTHONPATH": str(Path(components.__path__[0]).parent), "TRILHA_ROOT": str(config.root())}
    arguments = [sys.executable, "-m", "flows.streaming", project, "--profile", workspace.name, "--port", str(port)]
    name = f"stream-{project}"
    launch = Launch(arguments, clean(os.environ) | ours | secrets)
    process = spawn(workspace.home, name, launch, new_token(workspace.home, name))
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        state = read(workspace, project)
        if state is not None and state.pid == process.pid:
            return state
        time.sleep(0.05)
    process.kill()
    path = log_path(workspace, project)
    raise UnavailableError(
        f"the stream of {project} did not start",
        next_step=f"look into {path}",
        details="\n".join(tail(path, 10)),
    )


def stop(workspace: Workspace, project: str) -> bool:
    """Have the project's process on this machine end after the batch in hand; returns whether one ran.

    Raises:
        UnavailableError: it does not end.
    """
    state = read(workspace, project)
    if state is None or not state.alive:
        return False
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP
    while state.there:
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"process {state.pid}, the stream of {project}, does not end",
                next_step=f"kill -9 {state.pid}; nothing is lost by that",
            )
        time.sleep(0.05)
    return True


# --- inside -----------------------------------------------------------------------------------------------------------


@contextmanager
def _alone(workspace: Workspace, project: str) -> Iterator[None]:
    """Be the one process of this machine for the project. The kernel lets go of it when a process dies."""
    from filelock import FileLock, Timeout

    folder = workspace.home / "locks"
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / f"stream-{project}.lock", timeout=0):
            yield
    except Timeout as error:
        state = read(workspace, project)
        raise ConflictError(
            f"process {state.pid if state else 'of somebody'} feeds {project} already",
            accepted="one process for one project",
            next_step=f"trilha stream status {project}; trilha stream stop {project}",
        ) from error


@contextmanager
def _signals(over: threading.Event) -> Iterator[None]:
    """Let SIGTERM and an interrupt set `over`; a second one is meant as usual."""

    def tell(number: int, _frame: FrameType | None) -> None:
        over.set()
        signal.signal(number, before[number])

    before = {int(number): signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _begin(workspace: Workspace, project: str, metrics: StreamMetrics, port: int) -> StreamProcess:
    """Answer Prometheus, and write down who we are."""
    import psutil
    from prometheus_client import start_http_server

    try:
        server, _ = start_http_server(port, HOST, registry=metrics.registry)
    except OSError as error:
        raise UnavailableError(
            f"port {port} of {HOST} is not to be had: {error.strerror}", next_step="another --port, or none"
        ) from error
    state = StreamProcess(
        pid=os.getpid(),
        created=psutil.Process().create_time(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics=f"http://{HOST}:{server.server_port}/metrics",
    )
    _write(workspace, project, state)
    return state


def _path(workspace: Workspace, project: str) -> Path:
    return workspace.home / "services" / f"stream-{project}.json"


def _write(workspace: Workspace, project: str, state: StreamProcess) -> None:
    path = _path(workspace, project)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(state.model_dump_json())
    part.replace(path)


def main() -> None:
    """Feed until told to stop: `python -m flows.streaming PROJECT --profile NAME`."""
    import argparse

    from components.workspace import open_workspace

    parser = argparse.ArgumentParser(prog="python -m flows.streaming")
    parser.add_argument("project")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    try:
        run(open_workspace(given.profile), given.project, given.port, _say)
    except TrilhaError as error:
        _say(f"error: {error}")
        sys.exit(error.exit_code)


def _say(text: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    print(f"{now} {text}", file=sys.stderr, flush=True)  # noqa: T201  # standard error is its log


if __name__ == "__main__":
    main()
