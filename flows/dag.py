"""The DAG language: a function that calls `do(step, ...)` is traced once into nodes; an engine folds over them.

`do` has the step's own signature, so a type checker checks the edges. While a DAG is traced, `do` returns a `Ref` where
the step's record will be: pass it on, never look into it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

from components.errors import ConfigError, DagError, nearest
from components.project import Policy
from components.settings import NAME

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Gate(Protocol):
    """A record that can hold back the nodes after it."""

    @property
    def passed(self) -> bool: ...


class Do(Protocol):
    """What a DAG gets to name its steps with."""

    def __call__(self, step: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Add a node that calls `step`; it has the step's name."""

    def named(self, name: str) -> Do:
        """`do` for a node of another name, where a step is done more than once."""

    def when(self, gate: Gate) -> AbstractContextManager[None]:
        """Nodes added inside are skipped unless `gate` passed."""


class Ref:
    """Stands for the record of a node that has not run. Every operator refuses."""

    __slots__ = ("node",)
    node: str

    def __init__(self, node: str) -> None:
        object.__setattr__(self, "node", node)

    def __repr__(self) -> str:
        return f"Ref({self.node!r})"

    def _refuse(self, *_: object) -> NoReturn:
        raise DagError(
            f"{_author_line()}: the result of step {self.node!r} is looked into while the DAG is traced",
            accepted="passing it on to another step, or `with do.when(...)`",
            next_step="move that logic into a step",
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # copy, pickle and inspect probe for these and expect AttributeError
            raise AttributeError(name)
        self._refuse()


_OPERATORS = """
    bool len iter contains getitem setitem delitem call eq ne lt le gt ge hash int float index str format bytes add radd
    sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul and rand or ror xor rxor
    lshift rshift neg pos invert abs round enter exit await setattr delattr
"""
for _operator in _OPERATORS.split():
    setattr(Ref, f"__{_operator}__", Ref._refuse)  # noqa: SLF001  # the class is finished here


@dataclass(frozen=True, slots=True)
class Node:
    """One call of a step. `arguments` hold values and `Ref`s, also inside lists, tuples and dicts."""

    name: str
    step: Callable[..., Any]
    arguments: Mapping[str, object]
    guards: tuple[Ref, ...]
    policy: Policy
    line: str
    """Where the DAG says so: `file:line`."""
    pool: str | None = None
    """Where it is to run, as the project's `placement` says; a profile without that pool runs it like any other."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the nodes that come right before this one."""
        return tuple(dict.fromkeys(ref.node for ref in _refs([*self.arguments.values(), *self.guards])))


@dataclass(frozen=True, slots=True)
class Dag:
    """A traced DAG: its nodes in an order in which each comes after what it needs; `result` is the last record's."""

    name: str
    nodes: tuple[Node, ...]
    result: str

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


class _Tracer:
    """`Do` while a DAG is traced."""

    def __init__(
        self,
        nodes: dict[str, Node],
        guards: list[Ref],
        policies: Mapping[str, Policy],
        placement: Mapping[str, str],
        name: str = "",
    ) -> None:
        self._nodes, self._guards, self._name = nodes, guards, name
        self._policies, self._placement = policies, placement

    def __call__(self, step: Callable[..., Any], /, *args: object, **kwargs: object) -> Any:
        name, line = self._name or step.__name__, _author_line()
        if not NAME.fullmatch(name):
            raise DagError(f"{line}: node name {name!r}", accepted="a-z, 0-9, '-' and '_', a letter first")
        if name in self._nodes:
            raise DagError(
                f"{line}: a node {name!r} is there already ({self._nodes[name].line})",
                accepted="one node a name",
                next_step="name this one: do.named(...)(...)",
            )
        try:
            arguments = inspect.signature(step).bind(*args, **kwargs).arguments
        except TypeError as error:
            raise DagError(f"{line}: step {step.__name__}: {error}", accepted=str(inspect.signature(step))) from error
        policy = self._policies.get(name) or self._policies.get(step.__name__) or Policy()
        pool = self._placement.get(name) or self._placement.get(step.__name__)
        self._nodes[name] = Node(name, step, arguments, tuple(self._guards), policy, line, pool)
        return Ref(name)

    def named(self, name: str) -> _Tracer:
        return _Tracer(self._nodes, self._guards, self._policies, self._placement, name)

    @contextmanager
    def when(self, gate: Any) -> Iterator[None]:
        if not isinstance(gate, Ref):
            raise DagError(f"{_author_line()}: the guard is a {type(gate).__name__}", accepted="the result of a step")
        self._guards.append(gate)
        try:
            yield
        finally:
            self._guards.pop()


def trace(
    dag: Callable[..., object],
    *arguments: object,
    policies: Mapping[str, Policy] | None = None,
    placement: Mapping[str, str] | None = None,
    line_of: Callable[[str, str], str] = lambda what, name: f"{what}.{name}",
) -> Dag:
    """Call `dag(do, *arguments)` once and return what it did.

    Args:
        dag: a function that takes a `Do` first.
        *arguments: what else it takes.
        policies: by the name of a node or of a step; the node's own name wins.
        placement: pools, by the name of a node or of a step likewise.
        line_of: where `policy` or `placement` says something of a name, for an error.

    Raises:
        DagError: a name is used twice, a call does not fit a step's signature, or a result is looked into.
        ConfigError: a policy or a placement names no node.
    """
    nodes: dict[str, Node] = {}
    result = dag(_Tracer(nodes, [], policies or {}, placement or {}), *arguments)
    known = {*nodes, *(node.step.__name__ for node in nodes.values())}
    for what, names in (("policy", policies or {}), ("placement", placement or {})):
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"{line_of(what, name)}: no step {name!r} in {dag.__name__}{nearest(name, known)}",
                    accepted=", ".join(sorted(known)),
                    next_step="correct that line",
                )
    if not isinstance(result, Ref):
        raise DagError(f"{dag.__name__} returns {type(result).__name__}", accepted="the result of its last step")
    return Dag(dag.__name__, tuple(nodes.values()), result.node)


def until(dag: Dag, name: str) -> Dag:
    """The part of `dag` that node `name` needs, itself included.

    Raises:
        ConfigError: there is no such node.
    """
    known = [node.name for node in dag.nodes]
    if name not in known:
        raise ConfigError(
            f"no step {name!r} in {dag.name}{nearest(name, known)}", accepted=", ".join(known), next_step="name one"
        )
    wanted = {name}
    for node in reversed(dag.nodes):
        if node.name in wanted:
            wanted.update(node.needs)
    return replace(dag, nodes=tuple(node for node in dag.nodes if node.name in wanted), result=name)


def apart(dag: Dag) -> tuple[Dag, ...]:
    """The parts of `dag` that need nothing of each other, in the order of their first nodes."""
    names: dict[str, tuple[str, ...]] = {}
    for node in dag.nodes:
        part = tuple(dict.fromkeys([*(name for need in node.needs for name in names[need]), node.name]))
        names.update(dict.fromkeys(part, part))
    nodes = {node.name: node for node in dag.nodes}
    parts = dict.fromkeys(names[name] for name in nodes)
    return tuple(replace(dag, nodes=tuple(nodes[name] for name in part), result=part[-1]) for part in parts)


def fold(dag: Dag, apply: Callable[[Node, dict[str, Any], tuple[Any, ...]], T]) -> dict[str, T]:
    """Call `apply(node, arguments, guards)` for each node in order; `Ref`s are replaced by what `apply` returned."""
    done: dict[str, T] = {}
    for node in dag.nodes:
        arguments = replaced(dict(node.arguments), Ref, lambda ref: done[ref.node])
        done[node.name] = apply(node, arguments, tuple(done[guard.node] for guard in node.guards))
    return done


def replaced(value: Any, kind: type[T], by: Callable[[T], Any]) -> Any:
    """`value` with each `kind` in it, also inside lists, tuples and dicts, replaced by `by(it)`."""
    if isinstance(value, kind):
        return by(value)
    if isinstance(value, list | tuple):
        return type(value)(replaced(item, kind, by) for item in value)
    if isinstance(value, dict):
        return {name: replaced(item, kind, by) for name, item in value.items()}
    return value


def _refs(value: object) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _refs(item)
    elif isinstance(value, dict):
        yield from _refs(list(value.values()))


def _author_line() -> str:
    """`file:line` of the nearest caller outside this module and contextlib."""
    frame = sys._getframe(1)  # noqa: SLF001  # inspect.stack() reads every source file on the way
    while frame.f_back and frame.f_code.co_filename in (__file__, contextmanager.__code__.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
