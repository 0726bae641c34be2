"""What every process of the `nvidia-pytriton` wheel's Python backend does first: see to it that it ends with its server.

Such a process looks whether the server's number is still there. A server that was killed keeps its number until somebody
asks for its exit code; until then, and where the number is another process' by now, what ran its models stayed: idle,
deaf to SIGTERM. Whose child it is says more: of a dead server it is nobody's, and some other process' at once.

`components.adapters.triton_binary` puts a copy of this file beside its copy of `triton_python_backend_utils`, which
every stub imports, and lets that module import it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

SECONDS: Final = 1.0
"""Between two looks."""


def _end_with(server: int) -> None:
    while os.getppid() == server:
        time.sleep(SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)  # it hears nothing else


def watch() -> None:
    """Look beside what goes on here."""
    threading.Thread(target=_end_with, args=(os.getppid(),), name="ends with its server", daemon=True).start()
