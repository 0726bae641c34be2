"""The same DAG on several engines, and every difference between what they made of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components import config
from components.errors import ConfigError, TrilhaError
from components.records import Record, digest, identity
from components.runs import NodeState, RunLog, output_of
from flows.execute import ENGINES, LIFECYCLE, SCORING, dag_named, engine_named
from flows.fresh import fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from components.workspace import Workspace
    from flows.dag import Dag

WHOLE = "(run)"
"""Stands for the run where a node's name would be."""

SHOWN = 5
"""Values of one record that are named where more differ."""

ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one node on one engine.

    `digest` is its output's. `parts` says what must be equal: what the node is, how it ended, what it was given and
    what came out, each value by its path.
    """

    status: str
    attempts: int
    needs: tuple[str, ...]
    digest: str
    parts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Observed:
    """One run of the DAG. `outcome` is `done`, or the kind of the error that it ended with; `error` its one line."""

    engine: str
    outcome: str
    error: str
    seconds: float
    nodes: Mapping[str, Seen]


@dataclass(frozen=True, slots=True)
class Difference:
    """`node` has another `what` on one engine than on another; `values` by engine."""

    node: str
    what: str
    values: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.node}: {self.what}: {', '.join(f'{name} {value}' for name, value in self.values.items())}"


@dataclass(frozen=True, slots=True)
class Parity:
    """What each engine made of a project, and where they differ."""

    project: str
    observed: tuple[Observed, ...]
    differences: tuple[Difference, ...]


def parity(
    project: str,
    profile: str,
    engines: Sequence[str],
    until: str | None = None,
    say: Callable[[str], object] = print,
    name: str = LIFECYCLE,
) -> Parity:
    """Run a DAG of `project` on each of `engines`, one after the other, each in fresh stores; compare.

    Args:
        project: its name.
        profile: gives all but stores and services, which are made for each engine.
        engines: two or more.
        until: the last step.
        say: is told what is going on.
        name: of the DAG; a scoring runs as a whole, with a release that plain threads make first.

    Raises:
        ConfigError: an engine or the DAG is unknown, or a scoring is to stop on the way.
        TrilhaError: a run did not begin. One that fails is compared like any other.
    """
    if name == SCORING and until:
        raise ConfigError(f"--until {until} with the DAG {name}", accepted="the whole of it")
    dag = dag_named(name, project, profile, until)
    seen = []
    for engine in engines:
        say(f"{engine}: {project} in fresh stores")
        clock = time.perf_counter()
        with fresh(project, profile) as made:
            ended = made.score(engine) if name == SCORING else made.run(engine, until)
            seconds = round(time.perf_counter() - clock, 1)
            nodes = observed_nodes(made.workspace, dag, ended.run)
        seen.append(Observed(engine, ended.outcome, ended.error, seconds, nodes))
    return Parity(project, tuple(seen), tuple(differences(seen)))


def chosen(names: str | None, profile: str) -> tuple[list[str], dict[str, str]]:
    """The engines that `names`, separated by commas, asks for; where it is None, all that this machine can run.

    Returns:
        The engines, and those left out, each with the reason.

    Raises:
        ConfigError: an engine is unknown or named twice, or there is nothing to compare.
        TrilhaError: one that was asked for cannot run here; says what to install.
    """
    wanted = names.split(",") if names is not None else sorted(ENGINES)
    for name in wanted:
        engine_named(name)
    if len(wanted) != len(set(wanted)) or len(wanted) < 2:
        raise ConfigError(f"--engines {names}", accepted=f"two or more of {','.join(sorted(ENGINES))}")
    left_out: dict[str, str] = {}
    try:
        _check_here(wanted, profile)
    except TrilhaError as error:
        if names is not None:
            raise
        left_out["kubeflow"] = str(error)
    return [name for name in wanted if name not in left_out], left_out


def _check_here(engines: Sequence[str], profile: str) -> None:
    """Refuse Kubeflow where its containers cannot run; the other engines need no more than this environment."""
    if "kubeflow" in engines:
        from flows.engines.kubeflow_containers import image_here

        image_here(profile, config.load_profile(profile).kubeflow)


def observed_nodes(workspace: Workspace, dag: Dag, run: str) -> dict[str, Seen]:
    """What a run has on record about each node, in the order of `dag`; nodes that it does not have come last."""
    states = RunLog(workspace).nodes(run)
    known = {node.name: node for node in dag.nodes}
    seen = {}
    for name in [*known.keys() & states.keys(), *sorted(states.keys() - known.keys())]:
        state = states[name]
        record = output_of(known[name], state) if name in known and state.output is not None else None
        seen[name] = _seen(state, record)
    return {name: seen[name] for name in [*known, *seen] if name in seen}


def _seen(state: NodeState, record: Record | None) -> Seen:
    parts = {"is there": "yes", "step": state.step, "status": state.status, "attempts": str(state.attempts)}
    parts["needs"] = ", ".join(sorted(state.needs)) or "nothing"
    if state.status == "failed":
        parts["error"] = state.failure["error"] if state.failure else state.error.partition(":")[0]
    parts |= {f"guards[{index}]": guard for index, guard in enumerate(state.guards)}
    if state.key:
        parts |= {f"key.{name}": value for name, value in _leaves(state.key.model_dump(exclude={"digest"}))}
    if record is not None:
        parts |= {f"output.{name}": value for name, value in _leaves(identity(record))}
    made = digest(record) if record is not None else ""
    return Seen(state.status, state.attempts, state.needs, made, parts)


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Each scalar inside JSON with its path."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def differences(observed: Sequence[Observed]) -> Iterator[Difference]:
    """Every difference in the order of the DAG, so that the first one is where to look."""
    yield from _compared(WHOLE, {one.engine: {"ended": one.outcome} for one in observed})
    names = dict.fromkeys(name for one in observed for name in one.nodes)
    for name in names:
        nodes = {one.engine: one.nodes.get(name) for one in observed}
        here = {engine: node for engine, node in nodes.items() if node}
        if len(here) < len(nodes):
            yield Difference(name, "is there", {engine: "yes" if node else "no" for engine, node in nodes.items()})
        found = list(_compared(name, {engine: node.parts for engine, node in here.items()}))
        if any(one.what == "status" for one in found):  # one of them has no key or no output of that kind
            found = [one for one in found if not one.what.startswith(("key.", "output."))]
        if not _agree(observed, [need for node in here.values() for need in node.needs]):
            found = [one for one in found if not _passed_on(one)]
        inside = [one for one in found if one.what.startswith("output.")]
        yield from (one for one in found if one not in inside[SHOWN:])
        if len(inside) > SHOWN:
            yield Difference(name, "output", {engine: node.digest[:12] for engine, node in here.items()})


def _passed_on(one: Difference) -> bool:
    """Whether a difference of what a node was given says no more than that the nodes before it differ."""
    return one.what.startswith(("key.inputs.", "guards[")) and ABSENT not in one.values.values()


def _compared(name: str, sides: Mapping[str, Mapping[str, str]]) -> Iterator[Difference]:
    for what in dict.fromkeys(what for parts in sides.values() for what in parts):
        values = {engine: parts.get(what, ABSENT) for engine, parts in sides.items()}
        if len(set(values.values())) > 1:
            yield Difference(name, what, values)


def _agree(observed: Sequence[Observed], names: Iterable[str]) -> bool:
    """Whether each of the nodes made the same on every engine."""
    return all(len({one.nodes[name].digest if name in one.nodes else None for one in observed}) == 1 for name in names)
