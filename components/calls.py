"""One node as JSON: what a container's command line, or a deployment's parameters, carry to where it runs."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter

from components.ledger import revive
from components.project import Policy
from components.records import Record
from components.runs import Run
from components.steps import step_named

RECORD = "$record"
"""The key of the object that stands, among a call's arguments, for the record of another node."""


class PackedCall(Record):
    """A node without its DAG; a `components.runs.Call`.

    `arguments` are JSON, `{"$record": NODE}` stands for the record of another node. `sources` are the nodes that are
    needed, each with its step, which says of what type its record is.
    """

    name: str
    step_name: str
    arguments: dict[str, Any]
    guards: tuple[str, ...]
    sources: dict[str, str]
    policy: Policy

    @property
    def step(self) -> Callable[..., Any]:
        return step_named(self.step_name)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the nodes that come right before this one."""
        return tuple(self.sources)

    def do(self, run: Run, outputs: Mapping[str, object]) -> Record:
        """Do the node once, as part of `run`; `outputs` are the records that it needs, as JSON."""
        records = {name: revive(step_named(step), outputs[name]) for name, step in self.sources.items()}
        hints = typing.get_type_hints(self.step)
        arguments = {name: _unpacked(value, hints[name], records) for name, value in self.arguments.items()}
        return run.apply(self, arguments, [records[name] for name in self.guards])


def _unpacked(value: Any, hint: Any, records: Mapping[str, Record]) -> Any:
    """An argument as the step takes it: of its type, or with records where they belong."""
    filled = _filled(value, records)
    return filled if filled != value else TypeAdapter(hint).validate_python(value)


def _filled(value: Any, records: Mapping[str, Record]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {RECORD}:
            return records[value[RECORD]]
        return {name: _filled(item, records) for name, item in value.items()}
    return [_filled(item, records) for item in value] if isinstance(value, list) else value
