"""A node on another work pool: a run of the deployment `step/POOL`, which the engine waits for.

Only the call travels. The records that the node needs, and the one it returns, are on the record of the run, which lies
where every machine of the profile sees it. The node goes through the same ledger there, so a flow run whose engine was
killed is not begun a second time: the next run waits for it and finds what it did.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelling, Crashed

from components.attempts import over_time
from components.errors import (
    ConflictError,
    DagError,
    NotFoundError,
    TimeLimitError,
    TrilhaError,
    UnavailableError,
    rebuilt,
)
from components.ledger import Key, key_of
from components.records import Record, Skipped, parts
from components.runs import NodeState, Run, output_of
from flows.dag import Dag, Node
from flows.engines.prefect_placed import last_beat
from flows.engines.prefect_pools import hindrance
from flows.packing import packed
from flows.placement import elsewhere
from flows.plan import differences

FLOW = "step"
"""The flow in flows/deployments.py; its deployments are named after their pools."""
LIMIT = 500_000
"""Bytes of a call; Prefect's server refuses parameters of more than 512 KiB."""
POLL = 0.5
"""Seconds between two looks at a flow run."""
PATIENCE = 10.0
"""Seconds after which a flow run that nobody has taken is spoken of."""
SILENCE = 45.0
"""Seconds without a sign of life after which a machine counts as gone."""
OUTAGE = 120.0
"""Seconds that Prefect's server may not answer for."""


class Placement:
    """The nodes of one run that run on other work pools.

    Args:
        dag: the whole DAG.
        run: the run.
        client: of the flow run.

    Raises:
        NotFoundError: a pool has no deployment to run steps with.
        DagError: a call is too long to travel.
    """

    def __init__(self, dag: Dag, run: Run, client: SyncPrefectClient) -> None:
        self._run, self._client = run, client
        nodes = elsewhere(dag, run.workspace.profile.pools)
        for pool in sorted({str(node.pool) for node in nodes.values()}):
            _check_deployed(client, pool, run)
        self._calls = {name: _travelling(dag, node) for name, node in nodes.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._calls

    def do(self, node: Node, arguments: Mapping[str, Any], guards: Sequence[Any]) -> Record:
        """Do one node through the ledger, once, on its pool; what needs no worker waits for none.

        Raises:
            TrilhaError: what the node failed with there.
            TimeLimitError: it was not done, or not even begun, by its deadline.
            UnavailableError: the machine that ran it is gone.
        """
        key = key_of(node.step, arguments)
        mark = key.digest if node.policy.cache else f"{self._run.header.id}/{node.name}"
        deadline = time.monotonic() + (node.policy.timeout or float("inf"))
        while not self._settled(node, arguments, guards, key):
            before = self._state(node)
            child, mine = self._join_or_begin(node, mark)
            with self._cancelling(child, mine=mine):
                child = self._wait(node, child, deadline)
            if mine:
                return self._result(node, child, before, key)
        return self._run.apply(node, arguments, guards)

    def _settled(self, node: Node, arguments: Mapping[str, Any], guards: Sequence[Any], key: Key) -> bool:
        """Whether the node is skipped, or the ledger has it."""
        if any(isinstance(part, Skipped) for part in parts([*arguments.values(), *guards])):
            return True
        if not all(gate.passed for gate in guards):
            return True
        return node.policy.cache and self._run.workspace.ledger.find(node.step, key.digest) is not None

    def _state(self, node: Node) -> NodeState | None:
        return self._run.log.node(self._run.header.id, node.name)

    def _join_or_begin(self, node: Node, mark: str) -> tuple[FlowRun, bool]:
        """The flow run that does this very node, for whatever run, or a new one; and whether it is this run's."""
        known = self._client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[mark])))
        for other in known:
            if other.state is not None and not other.state.is_final():
                get_run_logger().info("flow run %s does the same; its result is waited for", other.name)
                return other, False
        name = f"{self._run.header.id}/{node.name}"
        child = run_deployment(
            f"{FLOW}/{node.pool}",
            parameters={"call": self._calls[node.name], "header": self._run.header.model_dump_json()},
            flow_run_name=name,
            tags=[self._run.header.project, mark],
            idempotency_key=f"{mark}/{len(known)}",  # another run that begins it at this moment gets the same one
            timeout=0,
        )
        assert isinstance(child, FlowRun)
        return child, child.name == name

    @contextmanager
    def _cancelling(self, child: FlowRun, *, mine: bool) -> Iterator[None]:
        """Cancel the flow run where this run stops waiting for it."""
        try:
            yield
        except BaseException:
            if mine:
                with suppress(httpx.HTTPError):
                    self._client.set_flow_run_state(child.id, Cancelling(message="nobody waits for it any more"))
            raise

    def _wait(self, node: Node, child: FlowRun, deadline: float) -> FlowRun:
        """The flow run, once it has ended; the run's watcher is told what its process writes down meanwhile."""
        begun = answered = heard = time.monotonic()
        beat, said, seen = b"", False, self._state(node)
        while True:
            now = time.monotonic()
            with suppress(httpx.HTTPError, ObjectNotFound):
                child = self._client.read_flow_run(child.id)
                answered = now
            state = child.state
            assert state is not None
            seen = self._tell(node, seen)
            if state.is_final():
                return child
            if now > deadline:
                self._fail(node, over_time(node) if state.is_running() else _never_begun(node))
            if now - answered > OUTAGE:
                silent = f"Prefect has not answered for {OUTAGE:g} s"
                self._fail(node, UnavailableError(silent, next_step="trilha status"))
            latest = last_beat(self._run.workspace, child.name)
            if latest != beat or not state.is_running():
                beat, heard = latest, now
            if now - heard > SILENCE:
                gone: State[Any] = Crashed(message=f"its machine is gone: no sign of life for {SILENCE:g} s")
                self._client.set_flow_run_state(child.id, gone, force=True)
            if not said and state.is_scheduled() and now - begun > PATIENCE:
                said = self._say_why(node)
            time.sleep(POLL)

    def _tell(self, node: Node, seen: NodeState | None) -> NodeState | None:
        now = self._state(node)
        if now is not None and now != seen and now.status != "waiting":
            self._run.watch(now)
        return now

    def _say_why(self, node: Node) -> bool:
        """Say why nobody has taken the node's flow run, if that is known."""
        why, state = hindrance(self._client, str(node.pool)), self._state(node)
        if why:
            get_run_logger().warning(why)
        if why and state is not None:
            self._run.watch(state.model_copy(update={"error": why}))
        return bool(why)

    def _result(self, node: Node, child: FlowRun, before: NodeState | None, key: Key) -> Record:
        """What the node's process wrote down at its end."""
        state = self._state(node)
        if state is None or state == before or state.status in {"waiting", "running"}:
            self._fail(node, _without_a_word(node, child))
        if state.failure:
            raise rebuilt(state.failure)
        if state.status == "failed":
            raise RuntimeError(state.error)  # what nobody foresaw there was not foreseen here either
        if state.key and state.key.digest != key.digest:
            self._fail(node, _other_code(node, key, state.key))
        return output_of(node, state)

    def _fail(self, node: Node, error: TrilhaError) -> NoReturn:
        """Write down what the node's process could not, and raise it."""
        state = self._state(node)
        if state is not None:
            facts = {"status": "failed", "output": None, "error": str(error), "failure": error.as_dict()}
            failed = state.model_copy(update=facts)
            self._run.log.write(self._run.header.id, failed)
            self._run.watch(failed)
        raise error


def _check_deployed(client: SyncPrefectClient, pool: str, run: Run) -> None:
    try:
        client.read_deployment_by_name(f"{FLOW}/{pool}")
    except ObjectNotFound as error:
        raise NotFoundError(
            f"no deployment {FLOW}/{pool} on Prefect at {run.workspace.endpoint('prefect')}",
            accepted="one for each of the profile's `pools`",
            next_step="add it to prefect.yaml as docs/how-to/placement.md says, then prefect deploy --all",
        ) from error


def _travelling(dag: Dag, node: Node) -> str:
    """The node as text, for the parameters of a flow run."""
    text = packed(dag, node).model_dump_json()
    size = len(text.encode())
    if size > LIMIT:
        raise DagError(
            f"{node.line}: the arguments of step {node.name!r} take {size:,} bytes",
            accepted=f"at most {LIMIT:,} for a step on another work pool",
            next_step=f"take {node.step.__name__} out of `placement` in project.yaml",
        )
    return text


def _never_begun(node: Node) -> TimeLimitError:
    return TimeLimitError(
        f"step {node.name!r} was not begun on work pool {node.pool!r} within its {node.policy.timeout:g} s",
        accepted="a worker that has room",
        next_step=f"prefect worker start --pool {node.pool}",
    )


def _without_a_word(node: Node, child: FlowRun) -> TrilhaError:
    """What a node failed with whose process could not say so: it was killed or cancelled, or never came to it."""
    assert child.state is not None
    problem = f"step {node.name!r} on work pool {node.pool!r} ended as {child.state.name}"
    said = (child.state.message or "").partition("\n")[0]
    kind = UnavailableError if child.state.is_crashed() else TrilhaError
    return kind(f"{problem}: {said}" if said else problem, next_step=f"prefect flow-run logs {child.id}")


def _other_code(node: Node, here: Key, there: Key) -> ConflictError:
    return ConflictError(
        f"work pool {node.pool!r} did step {node.name!r} with other code than is here",
        accepted="the same revision and lock file on every machine",
        next_step="bring its workers to this revision",
        details="\n".join(differences(here, there, node)),
    )
