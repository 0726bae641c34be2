"""The other end of a placement: a worker of the pool does one node of a run that goes on elsewhere."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

from prefect.logging import get_run_logger

from components import config
from components.calls import PackedCall
from components.errors import ConflictError, NotFoundError
from components.place import Place
from components.project import Notebook
from components.runs import Header, Run, RunLog
from components.workspace import Workspace, open_workspace
from flows.engines.local import check_node

BEAT = 5.0
"""Seconds between two signs of life."""


def do_here(call: PackedCall, header: Header) -> None:
    """Do one node of a run; the run's own record has what the node needs, and gets what it returns.

    Raises:
        TrilhaError: the node failed.
        DagError: its policy asks for what this machine does not have.
        ConflictError: the notebook here is not the one that the run began with.
        NotFoundError: the run is not known here.
    """
    workspace, here = open_workspace(header.profile), socket.gethostname()
    log = RunLog(workspace)
    earlier = log.node(header.id, call.name)
    begun = earlier.attempts if earlier else 0
    get_run_logger().info(
        f"{call.name} of run {header.id}: machine {here}, process {os.getpid()}, folder {config.root()}"
    )
    try:
        with _beating(workspace, f"{header.id}/{call.name}"):
            check_node(call, here)
            _check_notebook(call)
            outputs = {need: _output(workspace, log, header, need) for need in call.needs}
            call.do(Run(workspace, header, attempts={call.name: begun}), outputs)
    except Exception as error:
        Run(workspace, header, attempts={call.name: begun + 1}).fail(call, error)
        raise


def _check_notebook(call: PackedCall) -> None:
    """A notebook does not travel, and the ledger's key says with which cells the node is done."""
    if "notebook" not in call.arguments:
        return
    notebook = Notebook.model_validate(call.arguments["notebook"])
    path = config.root() / notebook.path
    if not path.is_file() or config.code_digest(path) != notebook.code:
        raise ConflictError(
            f"{path} on {socket.gethostname()} is not the notebook that the run began with",
            accepted="the same revision on every machine",
            next_step="bring this machine to it, and run again",
        )


def _output(workspace: Workspace, log: RunLog, header: Header, need: str) -> object:
    state = log.node(header.id, need)
    if state is None or state.output is None:
        raise NotFoundError(
            f"run {header.id} has no step {need!r} in {workspace.state}",
            accepted="a `state` that every machine of the profile sees",
            next_step=f"name it by its URL in config/profiles/{header.profile}.yaml, on every machine",
        )
    return state.output


@contextmanager
def _beating(workspace: Workspace, name: str) -> Iterator[None]:
    """Leave signs of life of the flow run `name` while inside."""
    beats, over = _beats(workspace), threading.Event()

    def beat() -> None:
        for number in count():
            with suppress(Exception):  # the next one may get through
                beats.write(_place(name), f"{socket.gethostname()} {os.getpid()} {number}".encode())
            if over.wait(BEAT):
                return

    threading.Thread(target=beat, name="beat", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def last_beat(workspace: Workspace, name: str) -> bytes:
    """The last sign of life of the flow run `RUN/NODE`; each one differs from the one before."""
    return _beats(workspace).read(_place(name)) or b""


def _beats(workspace: Workspace) -> Place:
    return Place(f"{workspace.state}/runs")


def _place(name: str) -> str:
    return name.replace("/", "/beats/")
