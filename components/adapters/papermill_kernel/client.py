"""The run's end: starts the zygote once, sends orders, waits, and says what went wrong in Trilha's words."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components import errors
from components.errors import ConfigError, TimeLimitError, TrilhaError, UnavailableError
from components.records import Scalar

WARM_UP = 180.0
"""Seconds that the zygote may take to import everything."""
GRACE = 60.0
"""Seconds that an executor may take after the deadline to end the kernel, write the page and answer."""
LOG_TAIL = 4_000
"""Characters of the zygote's log that go into an error."""


@dataclass(frozen=True, slots=True)
class Order:
    """One execution of a notebook.

    Args:
        notebook: the notebook; its folder is importable.
        output: where the executed notebook goes, also when it fails.
        page: where its HTML page goes.
        parameters: injected after the cell tagged `parameters`, which has to define each of them.
        timeout: seconds for the whole execution.
        memory_mb: memory that the kernel may take beyond what it is born with, MiB.
        seed: of the global generators of Python and NumPy.
    """

    notebook: Path
    output: Path
    page: Path
    parameters: Mapping[str, Scalar]
    timeout: float
    memory_mb: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Executed:
    """What an execution took.

    `seconds` by the wall, from fork to page; the kernel's peak resident memory, with the libraries that all kernels
    share; and its seconds of CPU.
    """

    seconds: float
    peak_memory_mb: float
    cpu_seconds: float


class Running:
    """An execution that was begun.

    Args:
        order: what is carried out.
        connection: to the executor; closing it ends the execution.
        zygote: the parent of the executor.
    """

    def __init__(self, order: Order, connection: socket.socket, zygote: _Zygote) -> None:
        self._order, self._connection, self._zygote = order, connection, zygote

    def wait(self) -> Executed:
        """Wait for the end.

        Raises:
            TimeLimitError: it ran past its deadline.
            ConfigError: the notebook does not define a parameter.
            GateError, ...: the notebook raised one of Trilha's own errors.
            TrilhaError: a cell raised, went over its memory, or its kernel died.
            UnavailableError: the executor itself is gone.
        """
        answers = self._connection.makefile()
        answer = ""
        try:
            self._connection.settimeout(WARM_UP)
            if answers.readline():
                self._connection.settimeout(self._order.timeout + GRACE)
                answer = answers.readline()
        except TimeoutError:
            raise TimeLimitError(
                f"{self._order.notebook}: no answer {GRACE:g} s after its deadline", details=self._zygote.log()
            ) from None
        except ConnectionError:
            pass
        if not answer:
            raise UnavailableError(
                f"{self._order.notebook}: the process that executed it is gone",
                next_step="look whether the machine ran out of memory, then run again",
                details=self._zygote.log(),
            )
        outcome = json.loads(answer)
        if outcome["failure"]:
            raise _error(self._order, outcome["failure"])
        return Executed(outcome["seconds"], outcome["peak_memory_mb"], outcome["cpu_seconds"])


@contextmanager
def start(order: Order) -> Iterator[Running]:
    """Begin to execute a notebook; leaving the block ends what is still running. Threads may do so side by side."""
    zygote = _Zygote.running()
    with zygote.executor() as connection:
        fields = {**asdict(order), "environ": dict(os.environ)}
        try:
            connection.sendall(json.dumps(fields, default=str).encode() + b"\n")
        except ConnectionError:
            raise UnavailableError("the warm kernel process died", details=zygote.log()) from None
        yield Running(order, connection, zygote)


def warm_up() -> None:
    """Start the warm process if there is none, and return at once: it imports while the run does something else."""
    _Zygote.running()


class _Zygote:
    """The warm process of this run; there is one at a time."""

    _lock = threading.Lock()
    _current: _Zygote | None = None

    @classmethod
    def running(cls) -> _Zygote:
        """The zygote, started if there is none."""
        with cls._lock:
            if cls._current is None or cls._current.process.poll() is not None:
                cls._current = cls()
            return cls._current

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # lives as long as the process
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"},
                start_new_session=True,  # Ctrl-C is for the run alone, whose end closes the sockets
            )

    @contextmanager
    def executor(self) -> Iterator[socket.socket]:
        """A connection to a fresh executor."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._lock:
                try:
                    socket.send_fds(self._control, [b"+"], [theirs.fileno()])
                except ConnectionError:
                    raise UnavailableError("the warm kernel process died", details=self.log()) from None
            yield ours

    def log(self) -> str:
        """The end of what the zygote and its executors wrote."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), LOG_TAIL, max(0, size - LOG_TAIL)).decode(errors="replace")


def _error(order: Order, failure: dict[str, Any]) -> TrilhaError:
    """What an executor says went wrong, as one of Trilha's errors."""
    if "unknown" in failure:
        return ConfigError(
            f"{order.notebook}: no parameter {failure['unknown'][0]!r} in the cell tagged `parameters`",
            accepted=", ".join(failure["known"]) or "a cell tagged `parameters` that defines it",
            next_step="define it there with a default, or take it out of the search",
        )
    name, value = failure["name"], failure["value"]
    where = str(order.notebook) if failure["cell"] is None else f"{order.notebook}, cell [{failure['cell']}]"
    details = f"{failure['source']}\n\n{failure['traceback']}"
    if name == "TimeLimitError":
        smaller = "make the trial smaller, or raise `search.timeout`"
        return TimeLimitError(f"{where}: {value}", next_step=smaller, details=details)
    if name.endswith("MemoryError") or "bad_alloc" in value:
        smaller = "make the trial smaller, or raise `search.memory_mb`"
        return TrilhaError(f"{where}: out of memory: {value}", next_step=smaller, details=details)
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, TrilhaError):  # raised in the notebook: a gate, say
        return kind(f"{where}: {value}", details=details)
    return TrilhaError(f"{where}: {name}: {value}", next_step="open the partial notebook", details=details)
