"""What a run would do, and why a run did what it did: both read the ledger's keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from components.errors import NotFoundError
from components.ledger import Key, key_of, lost
from components.records import Record, Skipped, parts
from components.runs import Header, NodeState, RunLog, new_header
from components.steps import LOOKING
from flows.dag import Dag, Node, Ref, replaced

if TYPE_CHECKING:
    from components.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Planned:
    """What a run would do with a node. `look`: it reads the outside world, which a plan does as well."""

    name: str
    action: Literal["found", "run", "skip", "look"]
    why: str


class _Unknown(Record):
    """Stands for the record of a node that would run first."""

    node: str


def plan(dag: Dag, workspace: Workspace, project: str) -> list[Planned]:
    """For each node whether a run would find it in the ledger or do it, and why. Changes nothing."""
    log, now = RunLog(workspace), new_header(dag.name, project, workspace.name, "")
    known: dict[str, Record] = {}
    again: dict[str, list[Record]] = {}
    planned: list[Planned] = []
    for node in dag.nodes:
        arguments = replaced(dict(node.arguments), Ref, lambda ref: known[ref.node])
        gates = [known[guard.node] for guard in node.guards]
        entry, known[node.name] = _foresee(node, arguments, gates, workspace, again)
        if entry.action == "run" and not entry.why:
            entry = Planned(node.name, "run", _reason(node, arguments, log, now))
        planned.append(entry)
    return planned


def _foresee(
    node: Node,
    arguments: Mapping[str, Any],
    gates: list[Record],
    workspace: Workspace,
    again: dict[str, list[Record]],
) -> tuple[Planned, Record]:
    """What a run would do with a node, and the record that it would have.

    A step that was done and has lost what it made will make the same: what follows is looked up as if it were there.
    `again` has these nodes, and what each has lost.
    """
    unknown = [part.node for part in parts([*arguments.values(), *gates]) if isinstance(part, _Unknown)]
    if unknown:
        return Planned(node.name, "run", f"after {', '.join(dict.fromkeys(unknown))}"), _Unknown(node=node.name)
    skipped = next((part for part in parts([*arguments.values(), *gates]) if isinstance(part, Skipped)), None)
    held = next((gate for gate in gates if not getattr(gate, "passed", True)), None)
    if skipped or held:
        reason = skipped.skipped if skipped else f"{type(held).__name__.lower()} did not pass"
        return Planned(node.name, "skip", reason), Skipped(skipped=reason)
    if not node.policy.cache:
        return _every_time(node, arguments)
    recorded = workspace.ledger.recorded(node.step, key_of(node.step, arguments).digest)
    if recorded is None:
        return Planned(node.name, "run", ""), _Unknown(node=node.name)
    entry, record = recorded
    done = f"done on {entry.started[:19]} by run {entry.run}"
    made_again = [part for those in again.values() for part in those]
    gone = [part for part in workspace.ledger.gone(record) if part not in made_again]
    if gone:
        again[node.name] = list(gone)
        return Planned(node.name, "run", f"{done}, but {lost(gone)}"), record
    after = ", ".join(name for name in node.needs if name in again)
    return Planned(node.name, "found", done + (f", if {after} makes the same again" if after else "")), record


def _every_time(node: Node, arguments: Mapping[str, Any]) -> tuple[Planned, Record]:
    """Of a node that is not in the ledger: what looks is done, and what may change something is not."""
    if _only_looks(node):
        return Planned(node.name, "look", "it reads the outside world"), node.step(**arguments)
    return Planned(node.name, "run", "it runs every time"), _Unknown(node=node.name)


def _only_looks(node: Node) -> bool:
    return node.step.__name__ in LOOKING


def _reason(node: Node, arguments: Mapping[str, object], log: RunLog, now: Header) -> str:
    """Why a node is not in the ledger: what changed since the last run that came to it."""
    for earlier in log.before(now):
        state = log.node(earlier.id, node.name)
        if state is not None and state.key is not None:
            changes = "; ".join(differences(state.key, key_of(node.step, arguments), node))
            if state.status == "skipped":
                return changes or f"it was skipped in run {earlier.id}"
            return changes or f"its entry, written by run {earlier.id}, is not in the ledger any more"
    return "never done"


def why(workspace: Workspace, dag: Dag, header: Header, name: str) -> list[str]:
    """Why a run did, found or skipped a node, in plain lines.

    Raises:
        NotFoundError: the run has no such node.
    """
    log = RunLog(workspace)
    state = log.node(header.id, name)
    if state is None:
        raise NotFoundError(f"run {header.id} has no step {name!r}", accepted=", ".join(sorted(log.nodes(header.id))))
    if state.key is None:
        return [f"{name} is {state.status}" + (f": {state.error}" if state.error else "")]
    if state.status == "skipped":
        return [f"{name} was skipped: {state.output['skipped']}"]
    if state.status == "found":
        entry = workspace.ledger.read(state.key.digest)
        by = f" by run {entry.run} in {entry.seconds:.1f} s" if entry else ""
        return [
            f"{name} was found in the ledger: nothing in its key changed since it was done on {state.started[:19]}{by}"
        ]
    node = next((node for node in dag.nodes if node.name == name), None)
    for earlier in log.before(header):
        before = log.node(earlier.id, name)
        if before is not None and before.key is not None:
            return _since(earlier, before, state, node)
    return [f"{name} was done for the first time"]


def _since(earlier: Header, before: NodeState, state: NodeState, node: Node | None) -> list[str]:
    """Why a node was done, which an earlier run came to as well."""
    if node is not None and not node.policy.cache:
        does = "looks at the outside world" if _only_looks(node) else "runs"
        return [f"{node.name} was done because it {does} every time"]
    changes = list(differences(before.key, state.key, node)) if before.key and state.key else []
    if before.status == "skipped" and not changes:
        return [f"{before.name} was done because run {earlier.id} had skipped it: {before.output['skipped']}"]
    since = f"{before.name} was done because, since run {earlier.id},"
    return [since, *(changes or [state.lost or "its entry was not in the ledger any more"])]


def differences(before: Key, after: Key, node: Node | None = None) -> Iterator[str]:
    """Each part that differs between two keys of a step, in words."""
    if before.step != after.step:
        yield f"the step is {after.step}, it was {before.step}"
    for symbol in sorted({*before.source, *after.source}):
        old, new = before.source.get(symbol), after.source.get(symbol)
        if old != new:
            verb = "is new in the code it reaches" if old is None else "is gone" if new is None else "changed"
            yield f"code {symbol.rstrip(':')} {verb}"
    if before.lock != after.lock:
        yield "requirements.lock changed"
    for name in sorted({*before.inputs, *after.inputs}):
        if before.inputs.get(name) != after.inputs.get(name):
            yield f"input {name!r} changed{_origin(node, name)}"


def _origin(node: Node | None, name: str) -> str:
    """Which nodes an input comes from."""
    found: list[str] = []
    if node is not None:
        replaced(node.arguments.get(name), Ref, lambda ref: found.append(ref.node))
    return f" (from {', '.join(found)})" if found else ""
