"""The warm process: imports what notebooks need, then forks an executor for each socket that it is sent.

It has one thread and runs nothing of any notebook, so that each fork starts from the same clean state. The thread pools
that OpenBLAS and Arrow start on import end at a fork by their own handlers; OpenMP's start with their first use.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import signal
import socket
import sys
import warnings
from contextlib import suppress

PRELOAD = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.debugger",
    "numpy",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "lightgbm",
    "onnx",
    "onnxmltools",
    "onnxruntime",
    "skl2onnx",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "tensorboard.summary.writer.event_file_writer",
    "tensorboard.plugins.hparams.summary_v2",
    "components.adapters.from_lightgbm",
    "components.adapters.from_sklearn",
    "components.adapters.onnx_graphs",
    "components.metrics",
    "components.model_inputs",
    "components.plots",
    "components.trial",
)
"""What kernels and notebooks use; what is not installed is left out."""


def main(control: int) -> None:
    """Serve until the other end of the socket `control` is closed."""
    requests = socket.socket(fileno=control)
    _end_with(requests)
    from components.adapters.papermill_kernel import executor

    os.environ.update(executor.ENVIRON)
    for name in PRELOAD:
        with suppress(ImportError):
            importlib.import_module(name)
    executor.warm_up()
    gc.collect()
    gc.freeze()  # what is imported stays shared with every fork: no collection writes to its pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps executors
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)  # see above
    while True:
        _, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
        if not descriptors:
            return
        if os.fork() == 0:
            for changed in (signal.SIGCHLD, signal.SIGIO):
                signal.signal(changed, signal.SIG_DFL)
            requests.close()
            executor.run(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _end_with(requests: socket.socket) -> None:
    """End this process as soon as the run is gone, in the middle of an import too: SIGIO says that something came."""

    def look(*_: object) -> None:
        with suppress(BlockingIOError):
            if not requests.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                os._exit(0)

    signal.signal(signal.SIGIO, look)
    fcntl.fcntl(requests, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(requests, fcntl.F_SETFL, fcntl.fcntl(requests, fcntl.F_GETFL) | os.O_ASYNC)
    look()


if __name__ == "__main__":
    main(int(sys.argv[1]))
