"""What a forked child does to become an IPython kernel."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import random
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
"""From <linux/prctl.h>."""

TELL = signal.SIGUSR1
"""The signal on which a kernel writes where its threads are into its log."""


def fork(connection_file: Path, log: Path, *, cwd: Path, path: str, seed: int) -> tuple[int, int]:
    """Fork a kernel that listens where `connection_file` says.

    Returns its process id, which is its group's too, and the reading end of a pipe that says one byte when the kernel
    listens: zmq waits 0.1 s before it tries again to connect to a socket that was not there yet.

    Args:
        connection_file: Jupyter's connection file.
        log: takes what the kernel says outside of cells: where it crashed, say.
        cwd: its working directory.
        path: the folder that the notebook lies in: first on `sys.path`, as in JupyterLab.
        seed: of Python's and NumPy's global generators.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        _become(connection_file, log, cwd, path, seed, writing)
    finally:
        os._exit(1)


def _become(connection_file: Path, log: Path, cwd: Path, path: str, seed: int, ready: int) -> NoReturn:
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    words = log.open("w")
    os.dup2(words.fileno(), 1)
    os.dup2(words.fileno(), 2)
    faulthandler.enable(words, all_threads=False)
    faulthandler.register(TELL, words, all_threads=False)
    os.chdir(cwd)
    os.environ["IPYTHONDIR"] = str(cwd.parent / "ipython")  # a person's own start-up files are not part of a trial
    sys.path.insert(0, path)

    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance(connection_file=str(connection_file), log_level="CRITICAL")
    app.initialize(["--HistoryManager.enabled=False"])
    _seed_before_first_cell(app.shell, seed)
    os.write(ready, b"+")
    os.close(ready)
    app.start()
    os._exit(0)


def _seed_before_first_cell(shell: Any, seed: int) -> None:
    """Start the global generators from `seed`, after whatever Jupyter has drawn from them: its banner has a tip."""

    def start() -> None:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  # the global generator: what scikit-learn draws from by default
        shell.events.unregister("pre_execute", start)

    shell.events.register("pre_execute", start)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process, one of those that Linux keeps.

    Raises:
        OSError: it failed.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
