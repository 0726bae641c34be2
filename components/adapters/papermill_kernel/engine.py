"""The engine `trilha` of papermill: its own notebook client, on a kernel that was forked already."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbformat import v4
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from traitlets import Type

ENGINE = "trilha"


class Execution(Protocol):
    """What the engine asks of the process that forked the kernel."""

    connection_file: str

    def listens(self) -> bool: ...

    def ended(self) -> bool: ...

    def cause_of_death(self) -> tuple[str, str, str]: ...


class _Engine(NBClientEngine):
    """A kernel's death is written into the cell that ran, where papermill finds it as it finds what a cell raised."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, execution: Execution, **_: Any) -> None:
        current = next(index for index, cell in enumerate(nb_man.nb.cells) if cell.cell_type == "code")

        def remember(cell: Any, cell_index: int) -> None:  # noqa: ARG001  # nbclient calls with these names
            nonlocal current
            current = cell_index

        client = PapermillNotebookClient(
            nb_man,
            km=_Kernel(execution),
            kernel_name=kernel_name,
            timeout=None,  # the notebook has a deadline, not the cell
            iopub_timeout=60,
            on_cell_execute=remember,
        )
        try:
            client.execute()
        except DeadKernelError:
            name, value, words = execution.cause_of_death()
            cell = nb_man.nb.cells[current]
            cell.execution_count = cell.execution_count or client.code_cells_executed
            cell.outputs.append(
                v4.new_output("error", ename=name, evalue=value, traceback=[f"{name}: {value}", *words.splitlines()])
            )
            nb_man.cell_exception(cell, cell_index=current)


papermill_engines.register(ENGINE, _Engine)


class _Client(AsyncKernelClient):
    """Ready as soon as the kernel has answered and its output is heard; the stock client listens 0.2 s longer."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # the stock signature
        """Ask until an answer has come on both channels.

        Raises:
            DeadKernelError: the kernel died, or did not answer in `timeout` seconds.
        """
        end = time.monotonic() + (timeout or 60)
        while time.monotonic() < end and await self.is_alive():
            request = self.kernel_info()
            try:
                return await asyncio.wait_for(self._answered(request), 0.02)
            except TimeoutError:
                continue  # the subscription to its output came after the output
        raise DeadKernelError("the kernel did not answer")

    async def _answered(self, request: str) -> None:
        await self._recv_reply(request)
        while True:
            message = await self.get_iopub_msg()
            idle = message["content"].get("execution_state") == "idle"
            if idle and message["parent_header"].get("msg_id") == request:
                return


class _Kernel(AsyncKernelManager):
    """A manager for a kernel that somebody else forked, and will kill."""

    client_factory = Type(klass=_Client)

    def __init__(self, execution: Execution) -> None:
        super().__init__(connection_file=execution.connection_file)
        self._execution = execution
        self.load_connection_file()

    def client(self, **options: Any) -> Any:
        """A client, as soon as the kernel listens.

        Raises:
            DeadKernelError: it died before.
        """
        if not self._execution.listens():
            raise DeadKernelError("the kernel died before it listened")
        return super().client(**options)

    @property
    def has_kernel(self) -> bool:
        return True

    async def _async_is_alive(self) -> bool:
        return not self._execution.ended()

    is_alive = _async_is_alive
