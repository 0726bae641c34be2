"""One execution of a notebook: papermill with our engine, in a process of its own.

It is forked from the zygote, forks the kernel, and answers with one line of JSON. A watch thread holds the kernel to
its deadline and its memory, and ends everything when the run at the other end of the socket is gone.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import papermill
import psutil
from jupyter_client.connect import write_connection_file
from nbconvert import HTMLExporter
from nbformat import v4
from papermill.exceptions import PapermillExecutionError, strip_color

from components.adapters.papermill_kernel import kernel
from components.adapters.papermill_kernel.engine import ENGINE

MIB = 2**20
LOOK = 0.05
"""Seconds between two looks at the kernel's memory: a kernel fills some 100 MiB in that time."""
LOOK_AROUND = 1.0
"""Seconds between two looks at the memory of the processes that the notebook started."""
LOG_TAIL = 3_000
"""Characters of a kernel's last words that are kept."""

ENVIRON = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as ipykernel does, which comes after matplotlib here
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # no word from a debugger that nobody uses
}
"""What executors and kernels have in their environment beside what the run has."""

_NOTHING = "data:text/javascript,"
EXPORTER = HTMLExporter(require_js_url=_NOTHING, mathjax_url=_NOTHING, mermaid_js_url=_NOTHING)
"""Pages that load nothing from elsewhere. It is made before the fork, and keeps its compiled templates."""


def warm_up() -> None:
    """Make a page, so that the forks find the templates compiled."""
    EXPORTER.from_notebook_node(v4.new_notebook(cells=[v4.new_markdown_cell("# -"), v4.new_code_cell("1")]))


def run(connection: socket.socket) -> NoReturn:
    """Execute the order that comes over `connection`, answer, and leave nothing behind."""
    os.setsid()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)  # what a notebook starts and forgets becomes our child
    long = len(tempfile.gettempdir()) > 60  # the path of a Unix socket ends at 107 bytes
    scratch = Path(tempfile.mkdtemp(prefix="trilha-trial-", dir="/tmp" if long else None))  # noqa: S108  # ours alone
    try:
        connection.sendall(b"begun\n")
        order = json.loads(connection.makefile().readline())
        answer = _answer(order, scratch, connection)
        _clear(scratch)
        connection.sendall(json.dumps(answer).encode() + b"\n")
    except (ConnectionError, ValueError):  # the run is gone, before its order was whole or before it had the answer
        _clear(scratch)
    finally:
        os._exit(0)


def _answer(order: dict[str, Any], scratch: Path, connection: socket.socket) -> dict[str, Any]:
    """What came of the order, whatever that is."""
    try:
        return Execution(order, scratch).run(connection)
    except Exception as error:  # noqa: BLE001  # nobody above but the run, which gets it: a full disk, say
        return {"failure": _failure(type(error).__name__, str(error), trace=traceback.format_exc())}


def _failure(name: str, value: str, *, cell: int | None = None, source: str = "", trace: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "cell": cell, "source": source, "traceback": trace}


class Execution:
    """One order being carried out.

    Args:
        order: the fields of `client.Order`, and `environ`.
        scratch: a folder of its own.
    """

    def __init__(self, order: dict[str, Any], scratch: Path) -> None:
        self._order = order
        self._scratch = scratch
        self._log = scratch / "kernel.log"
        self._pid = 0
        self._exit: int | None = None
        self._usage: resource.struct_rusage | None = None
        self._verdict: tuple[str, str] | None = None
        self.connection_file = ""

    def run(self, connection: socket.socket) -> dict[str, Any]:
        """Carry the order out; the answer's `failure` is None where all went well."""
        order, clock = self._order, time.perf_counter()
        os.environ.clear()
        os.environ.update(order["environ"], **ENVIRON)
        known = sorted(papermill.inspect_notebook(order["notebook"]))
        unknown = sorted(set(order["parameters"]) - set(known))
        if unknown:
            return {"failure": {"unknown": unknown, "known": known}}
        self._start_kernel()
        threading.Thread(target=self._watch, args=(connection,), daemon=True).start()
        failure = self._execute()
        self._kill()
        self.ended(wait=True)
        Path(order["page"]).write_text(EXPORTER.from_filename(order["output"])[0])
        usage = self._usage
        assert usage is not None
        return {
            "failure": failure,
            "seconds": time.perf_counter() - clock,
            "peak_memory_mb": usage.ru_maxrss / 1024,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
        }

    def _execute(self) -> dict[str, Any] | None:
        """Let papermill work; what a cell raised, or the kernel died of, comes back."""
        order = self._order
        try:
            papermill.execute_notebook(
                order["notebook"],
                order["output"],
                order["parameters"],
                engine_name=ENGINE,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                request_save_on_cell_execute=False,  # 8 ms each; it is written at the end, however that comes
                execution=self,
            )
        except PapermillExecutionError as error:
            trace = strip_color("\n".join(error.traceback))
            return _failure(error.ename, error.evalue, cell=error.exec_count, source=error.source, trace=trace)
        return _failure(*self._verdict) if self._verdict else None  # it ended between the verdict and the signal

    def _start_kernel(self) -> None:
        """Start the kernel at once: it comes up while papermill reads the notebook."""
        self.connection_file, _ = write_connection_file(
            str(self._scratch / "kernel.json"),
            shell_port=1,
            iopub_port=2,
            stdin_port=3,
            control_port=4,
            hb_port=5,
            ip=str(self._scratch / "kernel"),
            key=os.urandom(32).hex().encode(),
            transport="ipc",
        )
        cwd = self._scratch / "work"
        cwd.mkdir()
        self._pid, self._ready = kernel.fork(
            Path(self.connection_file),
            self._log,
            cwd=cwd,
            path=str(Path(self._order["notebook"]).resolve().parent),
            seed=self._order["seed"],
        )

    def listens(self) -> bool:
        """Wait until the kernel listens; False where it died before."""
        return bool(os.read(self._ready, 1))

    def ended(self, *, wait: bool = False) -> bool:
        """Whether the kernel's process has ended."""
        if self._exit is None:
            pid, status, usage = os.wait4(self._pid, 0 if wait else os.WNOHANG)
            if pid:
                self._exit, self._usage = os.waitstatus_to_exitcode(status), usage
        return self._exit is not None

    def cause_of_death(self) -> tuple[str, str, str]:
        """Why the kernel is gone: a name, a sentence, and its last words."""
        self.ended(wait=True)
        words = self._log.read_text(errors="replace").split("\nExtension modules:")[0]
        words = re.split(r"\n.*IPython.core.interactiveshell", words)[0][-LOG_TAIL:]  # below is Jupyter's own machinery
        if self._verdict:
            return *self._verdict, words
        status = self._exit or 0
        how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with exit code {status}"
        return "DeadKernelError", f"the kernel died {how}", words

    def _watch(self, connection: socket.socket) -> None:
        """Hold the kernel to its deadline and its memory; end all when the run is gone."""
        timeout, allowed = self._order["timeout"], self._order["memory_mb"]
        connection.settimeout(LOOK)
        kernel_process = psutil.Process(self._pid)
        born = kernel_process.memory_info().rss
        others, looked, end = 0, time.monotonic(), time.monotonic() + timeout
        while True:
            if _is_gone(connection):
                _clear(self._scratch)
                os._exit(1)
            try:
                if time.monotonic() > end:
                    return self._stop("TimeLimitError", f"stopped at its deadline of {timeout:g} s")
                if time.monotonic() > looked + LOOK_AROUND:
                    others, looked = _held_by_others(self._pid), time.monotonic()
                held = (kernel_process.memory_info().rss - born + others) // MIB
                if held > allowed:
                    return self._stop("MemoryError", f"stopped at {held} MiB, memory_mb is {allowed}")
            except psutil.NoSuchProcess:
                return None

    def _stop(self, name: str, value: str) -> None:
        """Kill the kernel for a reason; it says where it was before."""
        self._verdict = name, value
        with suppress(ProcessLookupError):
            os.kill(self._pid, kernel.TELL)
            time.sleep(0.1)
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


def _is_gone(connection: socket.socket) -> bool:
    """Whether the run has closed its end; it waits a little for that."""
    try:
        connection.recv(1)
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def _held_by_others(kernel_pid: int) -> int:
    """Bytes that only the processes hold which the notebook started, directly or not."""
    held = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            held += child.memory_full_info().uss if child.pid != kernel_pid else 0
    return held


def _clear(scratch: Path) -> None:
    """Kill every process below this one, also those that left the kernel's group, and drop its files."""
    with suppress(ChildProcessError):  # there is none any more
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            for child in psutil.Process().children(recursive=True) if not pid else ():
                child.kill()
    shutil.rmtree(scratch, ignore_errors=True)
