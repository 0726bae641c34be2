"""Nodes as JSON, for engines that do them in another process."""

from __future__ import annotations

from components.calls import RECORD, PackedCall
from components.records import to_json
from flows.dag import Dag, Node, Ref, replaced


def packed(dag: Dag, node: Node) -> PackedCall:
    """`node` without its DAG."""
    return PackedCall(
        name=node.name,
        step_name=node.step.__name__,
        arguments=to_json(replaced(dict(node.arguments), Ref, lambda ref: {RECORD: ref.node})),
        guards=tuple(guard.node for guard in node.guards),
        sources={name: dag[name].step.__name__ for name in node.needs},
        policy=node.policy,
    )
