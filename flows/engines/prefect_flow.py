"""A DAG as a Prefect flow: each node becomes a task, submitted when what it needs has ended.

Records stay in this process and pass from task to task as they are; the server gets states, dependencies, logs and
artifacts.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

from prefect import Flow, Task, tags
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, SettingsContext, SyncClientContext, get_settings_context
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.task_engine import TaskRunTimeoutError
from prefect.task_runners import ThreadPoolTaskRunner

from components.attempts import over_time, worth_retrying
from components.endpoints import prefect_api
from components.errors import TrilhaError
from components.records import Record
from components.runs import Run
from flows.dag import Dag, Node, Ref, replaced
from flows.engines.prefect_artifacts import Board
from flows.engines.prefect_placement import Placement
from flows.engines.prefect_reaper import bury, sign


def run_as_flow(dag: Dag, run: Run) -> dict[str, Record]:
    """Run `dag` as a flow run on the profile's server; it has the run's id for its name.

    Inside a flow run that is going on, as in a deployment, the nodes become tasks of that one, which gets the name.
    """
    header, workspace = run.header, run.workspace
    outer = FlowRunContext.get()
    if outer is not None and outer.flow_run is not None:
        client = get_client(sync_client=True)
        named = {*outer.flow_run.tags, header.project, header.profile}
        client.update_flow_run(outer.flow_run.id, name=header.id, tags=named)
        sign(client, outer.flow_run.id)
        return _Schedule(dag, run, client).run()

    api = prefect_api(workspace.endpoint("prefect"))

    def body() -> dict[str, Record]:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        sign(client, context.flow_run.id)
        return _Schedule(dag, run, client).run()

    whole = Flow(
        body,
        name=dag.name,
        flow_run_name=header.id,
        description=f"The DAG `{dag.name}` of Trilha.",
        validate_parameters=False,
        persist_result=False,
        result_storage=workspace.home / "prefect" / "storage",  # else the server is asked for one
    )
    with talking_to(api), tags(header.project, header.profile), SyncClientContext.get_or_create() as context:
        client = context.client  # one for the flow, its tasks and its artifacts
        bury(client, [header.project, header.profile])
        return whole()


@contextmanager
def talking_to(api: str) -> Iterator[None]:
    """This process talks to the server at `api`.

    Heartbeats are for automations of a cluster; here they would cost a second at the end of every run. The settings are
    copied, not made anew: reading and checking all of them again takes a tenth of a second.
    """
    context = get_settings_context()
    settings = context.settings
    changed = settings.model_copy(
        update={
            "api": settings.api.model_copy(update={"url": api}),
            "flows": settings.flows.model_copy(update={"heartbeat_frequency": None}),
        }
    )
    with SettingsContext(profile=context.profile, settings=changed):
        yield


class _Schedule:
    """The nodes of one flow run."""

    def __init__(self, dag: Dag, run: Run, client: SyncPrefectClient) -> None:
        self._dag, self._run = dag, run
        self._board = Board(run.workspace, client, run.header.project)
        self._placement = Placement(dag, run, client)
        self._records: dict[str, Record] = {}
        self._threads: dict[str, int] = {}

    def run(self) -> dict[str, Record]:
        """Submit each node as soon as what it needs has ended, so that no thread sits and waits for another.

        Raises:
            TrilhaError: the first failure; nodes that do not need the failed one have finished.
        """
        futures: dict[str, PrefectFuture[State[None]]] = {}
        ended: SimpleQueue[str] = SimpleQueue()
        over: dict[str, None] = {}
        waiting = list(self._dag.nodes)
        workers = self._run.workspace.profile.workers
        with ThreadPoolTaskRunner[State[None]](max_workers=workers) as runner, self._interruptible():
            while len(over) < len(self._dag.nodes):
                for node in [node for node in waiting if over.keys() >= set(node.needs)]:
                    waiting.remove(node)
                    before = [futures[name] for name in node.needs]
                    future = futures[node.name] = runner.submit(self._task(node), {}, wait_for=before)
                    future.add_done_callback(partial(_put, ended, node.name))
                over[ended.get()] = None
        for name in over:
            futures[name].wait()  # it has ended; this takes its state over without asking the server
            state = futures[name].state
            if not state.is_completed() and state.name != "NotReady":  # that one waits for a node that failed
                raise _error(self._dag[name], futures[name])
        return self._records

    def _task(self, node: Node) -> Task[[], State[None]]:
        policy = node.policy

        def step() -> State[None]:
            return self._do(node)

        return Task(
            step,
            name=node.step.__name__,
            task_run_name=node.name,
            description=(node.step.__doc__ or "").strip().partition("\n")[0],
            retries=policy.retries,
            retry_delay_seconds=policy.retry_delay,
            retry_condition_fn=_worth_retrying,
            timeout_seconds=None if node.name in self._placement else policy.timeout,  # there it has a deadline too
            cache_policy=NO_CACHE,  # the ledger is the one place where work is remembered
            persist_result=False,
        )

    def _do(self, node: Node) -> State[None]:
        """Do one node in a thread of the pool; returns the state that its task shows."""
        arguments = replaced(dict(node.arguments), Ref, lambda ref: self._records[ref.node])
        guards = [self._records[guard.node] for guard in node.guards]
        self._threads[node.name] = threading.get_ident()
        try:
            do = self._placement.do if node.name in self._placement else self._run.apply
            record = self._records[node.name] = do(node, arguments, guards)
        except TrilhaError as error:
            self._board.show_error(node, error)
            raise
        finally:
            del self._threads[node.name]
        seen = self._run.log.node(self._run.header.id, node.name)
        status = seen.status if seen else "done"
        if seen and status == "skipped":
            return Completed(name="Skipped", message=seen.output["skipped"])
        found = f"Nothing changed since {seen.started}." if seen and status == "found" else ""
        said = self._board.show(node, record, arguments, found)
        return Completed(name="Cached", message=found) if found else Completed(message=said or None)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """When a signal ends the flow, end the steps that are running too: closing the pool would wait for them."""
        try:
            yield
        except BaseException:
            for thread in list(self._threads.values()):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
            raise


def _put(queue: SimpleQueue[str], name: str, _: PrefectFuture[State[None]]) -> None:
    queue.put(name)


def _worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001  # Prefect's signature
    """Whether a second attempt can end otherwise; the step's own deadline is not given twice."""
    error = state.data
    return isinstance(error, Exception) and not isinstance(error, TaskRunTimeoutError) and worth_retrying(error)


def _error(node: Node, future: PrefectFuture[State[None]]) -> BaseException:
    """What a task failed with, as the caller should see it."""
    error: Any = future.result(raise_on_failure=False)
    if isinstance(error, TaskRunTimeoutError):
        return over_time(node)
    assert isinstance(error, BaseException)
    return error
