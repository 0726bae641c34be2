"""The DAG language: what tracing yields, and what it refuses."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import ConfigError, DagError
from components.project import Policy
from components.records import Record
from flows.dag import Do, Ref, apart, fold, trace, until


class Number(Record):
    value: int

    @property
    def passed(self) -> bool:
        return self.value > 0


def one(value: int) -> Number:
    return Number(value=value)


def total(numbers: list[Number], extra: dict[str, Number] | None = None) -> Number:
    return Number(value=sum(n.value for n in numbers) + sum(n.value for n in (extra or {}).values()))


def small(do: Do) -> Number:
    parts = [do.named(f"one-{i}")(one, i) for i in range(3)]
    with do.when(parts[2]):
        return do(total, parts, extra={"more": parts[0]})


def test_nodes_come_in_an_order_in_which_each_follows_what_it_needs() -> None:
    """A traced DAG lists nodes by explicit names, with the edges that arguments and guards make."""
    dag = trace(small)
    assert [node.name for node in dag.nodes] == ["one-0", "one-1", "one-2", "total"]
    assert dag["total"].needs == ("one-0", "one-1", "one-2")
    assert dag["total"].guards[0].node == "one-2"
    assert dag.result == "total"


def test_fold_replaces_refs_wherever_they_are_nested() -> None:
    """The fold hands plain values to `apply`, also inside lists and dicts."""
    done = fold(trace(small), lambda node, arguments, guards: node.step(**arguments))
    assert done["total"] == Number(value=3)


def test_a_node_knows_the_line_that_made_it() -> None:
    """File and line of the author's call, not of the language."""
    line = trace(small)["total"].line
    assert line.startswith(f"{Path(__file__)}:")
    number = int(line.rsplit(":", 1)[1])
    assert "do(total" in Path(__file__).read_text().splitlines()[number - 1]


@pytest.mark.parametrize(
    "look",
    [bool, len, list, str, int, hash, abs, lambda r: r.value, lambda r: r[0], lambda r: r + 1, lambda r: 1 > r,
     lambda r: r == 3, lambda r: f"{r}", lambda r: operator.neg(r), lambda r: r(), lambda r: setattr(r, "x", 1)],
)  # fmt: skip
def test_looking_into_a_result_is_refused(look: Callable[[Ref], object]) -> None:
    """Every operator on a result names the step and says to move the logic into a step."""

    def dag(do: Do) -> Number:
        first = do(one, 1)
        look(first)  # type: ignore[arg-type]
        return first

    with pytest.raises(DagError, match=r"test_dag.py:\d+: the result of step 'one'.*move that logic into a step"):
        trace(dag)


def test_a_name_used_twice_is_refused() -> None:
    """Names are explicit: the second node of a step has to be given one."""

    def dag(do: Do) -> Number:
        do(one, 1)
        return do(one, 2)

    with pytest.raises(DagError, match="a node 'one' is there already.*do.named"):
        trace(dag)


def test_arguments_that_do_not_fit_are_refused_when_traced() -> None:
    """A misspelt argument is found before anything runs."""
    with pytest.raises(DagError, match="step one: .*unexpected keyword.*accepted: \\(value"):
        trace(lambda do: do(one, value=1, valu=2))


def test_a_guard_must_be_a_result() -> None:
    """A plain value cannot hold back nodes: it is known when the DAG is traced."""

    def dag(do: Do) -> Number:
        with do.when(True):  # type: ignore[arg-type]
            return do(one, 1)

    with pytest.raises(DagError, match="the guard is a bool"):
        trace(dag)


def test_a_policy_goes_by_node_then_by_step_and_must_name_one() -> None:
    """The node's own name wins; a policy for nothing is a mistake."""
    dag = trace(small, policies={"one": Policy(retries=1), "one-1": Policy(retries=2)})
    assert [dag[name].policy.retries for name in ("one-0", "one-1", "total")] == [1, 2, 0]
    with pytest.raises(
        ConfigError, match=r"policy.on: no step 'on' in small \(did you mean 'one'\?\); accepted: one, one-0"
    ):
        trace(small, policies={"on": Policy()})


def test_until_keeps_what_a_node_needs() -> None:
    """A part of a DAG ends with the node asked for."""
    assert [node.name for node in until(trace(small), "one-1").nodes] == ["one-1"]
    with pytest.raises(ConfigError, match=r"no step 'toatl' in small \(did you mean 'total'\?\); accepted: one-0, "):
        until(trace(small), "toatl")


def test_parts_that_need_nothing_of_each_other() -> None:
    """Each with its nodes in their order, whichever of them were joined late; a DAG that hangs together is one."""

    def two(do: Do) -> Number:
        left, right, other = do.named("left")(one, 1), do.named("right")(one, 2), do.named("other")(one, 3)
        do.named("alone")(total, [other])
        return do.named("both")(total, [right, left])

    parts = apart(trace(two))
    assert [[node.name for node in part.nodes] for part in parts] == [["right", "left", "both"], ["other", "alone"]]
    assert [part.result for part in parts] == ["both", "alone"]
    assert [part.result for part in apart(trace(small))] == ["total"]
