"""What a run would do, and why a run did what it did: both read the ledger's keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from components.errors import NotFoundError
from components.ledger import Key, key_of
from components.records import Record, Skipped, parts
from components.runs import Header, NodeState, RunLog
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
    log = RunLog(workspace)
    newest = next(
        (header for header in map(log.header, log.ids()) if (header.dag, header.project) == (dag.name, project)), None
    )
    known: dict[str, Record] = {}
    planned: list[Planned] = []
    for node in dag.nodes:
        arguments = replaced(dict(node.arguments), Ref, lambda ref: known[ref.node])
        gates = [known[guard.node] for guard in node.guards]
        entry, known[node.name] = _foresee(node, arguments, gates, workspace)
        if entry.action == "run" and not entry.why:
            earlier = log.node(newest.id, node.name) if newest else None
            entry = Planned(node.name, "run", _reason(node, arguments, earlier))
        planned.append(entry)
    return planned


def _foresee(
    node: Node, arguments: Mapping[str, Any], gates: list[Record], workspace: Workspace
) -> tuple[Planned, Record]:
    unknown = [part.node for part in parts([*arguments.values(), *gates]) if isinstance(part, _Unknown)]
    if unknown:
        return Planned(node.name, "run", f"after {', '.join(dict.fromkeys(unknown))}"), _Unknown(node=node.name)
    skipped = next((part for part in parts([*arguments.values(), *gates]) if isinstance(part, Skipped)), None)
    held = next((gate for gate in gates if not getattr(gate, "passed", True)), None)
    if skipped or held:
        reason = skipped.skipped if skipped else f"{type(held).__name__.lower()} did not pass"
        return Planned(node.name, "skip", reason), Skipped(skipped=reason)
    if not node.policy.cache:
        return Planned(node.name, "look", "it reads the outside world"), node.step(**arguments)
    found = workspace.ledger.find(node.step, key_of(node.step, arguments).digest)
    if found:
        return Planned(node.name, "found", f"done on {found[0].started[:19]} by run {found[0].run}"), found[1]
    return Planned(node.name, "run", ""), _Unknown(node=node.name)


def _reason(node: Node, arguments: Mapping[str, object], earlier: NodeState | None) -> str:
    if earlier is None or earlier.key is None:
        return "never done"
    changes = list(differences(earlier.key, key_of(node.step, arguments), node))
    return "; ".join(changes) or "what it made is gone or was replaced"


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
    for earlier in log.before(header):
        before = log.node(earlier.id, name)
        if before is not None and before.key is not None:
            node = next((node for node in dag.nodes if node.name == name), None)
            changes = list(differences(before.key, state.key, node))
            since = f"{name} was done because, since run {earlier.id},"
            return [
                since,
                *(changes or ["what it made was gone or replaced, or it looks at the outside world every time"]),
            ]
    return [f"{name} was done for the first time"]


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
