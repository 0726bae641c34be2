"""What every process of the wheel's Python backend does first: see to it that it ends with its server.

Such a process looks whether the server's number is still there. A server that was killed keeps its number until
somebody asks for its exit code; until then, and where the number is another process' by now, what ran its models
stayed: idle, deaf to SIGTERM. Whose child it is says more: a dead server's children are another process' at once.

Linux is asked to end it as well, for a process that was killed while it spoke may hold Python's lock for ever. That is
bound to the thread of the server that it is a child of. The one that started it ends when the model is loaded; from
then on it is the main thread.

`components.adapters.triton_binary` puts a copy of this file beside its copy of `triton_python_backend_utils`, which
every stub imports, and lets that module import it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""From <linux/prctl.h>."""

OFTEN: Final = 0.05
SECONDS: Final = 0.5
"""Between two looks: until Linux watches as well, and then."""


def _end_with(server: int) -> None:
    bound = False
    while os.getppid() == server:
        if not bound and _is_main_thread_s(server):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            bound = True
        time.sleep(SECONDS if bound else OFTEN)
    os.kill(os.getpid(), signal.SIGKILL)  # it hears nothing else


def _is_main_thread_s(server: int) -> bool:
    """Whether this process is a child of the server's main thread."""
    try:
        return str(os.getpid()) in Path(f"/proc/{server}/task/{server}/children").read_text().split()
    except OSError:  # a Linux that does not say so, or a server that is just gone
        return False


def watch() -> None:
    """Look beside what goes on here."""
    threading.Thread(target=_end_with, args=(os.getppid(),), name="ends with its server", daemon=True).start()
