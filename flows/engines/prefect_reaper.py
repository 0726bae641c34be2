"""Flow runs that say they run though their process was killed: marked as crashed, by the next run and by the server.

A run carries the mark of its process as a label. Prefect's own heartbeats notice a dead run on any machine after a
minute and a half; on this machine there is no need to wait for silence.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.states import Cancelled, Crashed

LABEL = "trilha.process"
"""The label of a flow run that holds the mark of its process."""

HEARTBEAT = "prefect.flow-run.heartbeat"
SILENCE = 90.0
"""Seconds without a heartbeat, which come every 30 s, after which a run counts as crashed."""


def sign(client: SyncPrefectClient, flow_run: UUID) -> None:
    """Write this process on a flow run, so that others can tell when it was killed."""
    client.update_flow_run_labels(flow_run, {LABEL: _mark(psutil.Process())})


def bury(client: SyncPrefectClient, tags: Sequence[str] = ()) -> list[FlowRun]:
    """Mark the flow runs of this machine whose process is gone as crashed, or cancelled if that was under way.

    Args:
        client: of the server.
        tags: only runs that have all of them.

    Returns:
        those that were marked.
    """
    unfinished = [StateType.RUNNING, StateType.CANCELLING]
    running = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=unfinished)),
            tags=FlowRunFilterTags(all_=list(tags)) if tags else None,
        ),
        sort=FlowRunSort.START_TIME_ASC,  # the server gives 200 at most; the dead are the old ones
    )
    gone = [run for run in running if _is_gone(str(run.labels.get(LABEL, "")))]
    for run in gone:
        _end(client, run)
    return gone


def watch_heartbeats(client: SyncPrefectClient) -> None:
    """Have the server mark runs as crashed that have fallen silent, on whatever machine: Prefect's own automation."""
    ends = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed")}
    wanted = AutomationCore(
        name="Runs that fell silent have crashed",
        description=f"A run of a worker gives a sign of life every 30 s; without one for {SILENCE:g} s it has crashed.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            after={HEARTBEAT},
            expect={HEARTBEAT, *ends},
            threshold=1,
            within=timedelta(seconds=SILENCE),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no sign of life for {SILENCE:g} s")],
    )
    there = client.read_automations_by_name(wanted.name)
    if not there:
        client.create_automation(wanted)
    elif AutomationCore(**there[0].model_dump(exclude={"id"})) != wanted:
        client.update_automation(there[0].id, wanted)


def _mark(process: psutil.Process) -> str:
    """A process of this machine, told apart from a later one that gets its PID."""
    return f"{_here()}:{process.pid}:{process.create_time():.0f}"


def _here() -> str:
    """Where a PID means something: this machine, or the container of it that this process is in.

    A container that shares the machine's network has its name as well, and PIDs of its own.
    """
    with suppress(OSError):
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').stat().st_ino}"
    return socket.gethostname()


def _is_gone(mark: str) -> bool:
    host, _, rest = mark.partition(":")
    pid = rest.partition(":")[0]
    if host != _here() or not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        return _mark(process) != mark or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _end(client: SyncPrefectClient, run: FlowRun) -> None:
    """Give a run, and what it left running, a final state."""
    message = "the process that ran it is gone"
    cancelling = run.state is not None and run.state.is_cancelling()
    final: State[Any] = Cancelled(message=message) if cancelling else Crashed(message=message)
    client.set_flow_run_state(run.id, final, force=True)
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING]))),
    )
    for task in tasks:
        client.set_task_run_state(task.id, Crashed(message=message), force=True)
