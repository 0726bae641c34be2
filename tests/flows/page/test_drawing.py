"""Where marks go: scales hold their values, boxes do not touch, edges say what the needs said."""

from __future__ import annotations

from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from components.records import Parameters
from components.runs import NodeState
from flows.page.drawing import HIGH, WIDE, Graph, axis, graph, panels

FINITE = st.floats(-1e9, 1e9)


def state(name: str, *needs: str, status: str = "done") -> NodeState:
    step = name.split("-", maxsplit=1)[0]
    return NodeState(name=name, step=f"components.{step}:{step}", needs=needs, status=status, seconds=1.0)


@st.composite
def dags(draw: st.DrawFn) -> list[NodeState]:
    """Nodes that need any of the nodes before them; some are of one step."""
    names = [f"{'step' if draw(st.booleans()) else 'other'}-{index:02}" for index in range(draw(st.integers(1, 14)))]
    return [
        state(name, *sorted(draw(st.sets(st.sampled_from(names[:index]))) if index else ()))
        for index, name in enumerate(names)
    ]


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_axis_holds_all(values: list[float]) -> None:
    """Every value lies between the ends, in order, and the ticks are few and rise."""
    scale = axis(values, 10, 110)
    places = [scale.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert 10 <= places[0] <= places[-1] <= 110
    assert 2 <= len(scale.ticks) <= 7
    assert list(scale.ticks) == sorted(set(scale.ticks))


def test_axis_is_round() -> None:
    """Ticks are what people count in, and their labels tell them apart."""
    scale = axis([0.5, 0.6912], 0, 100)
    assert [scale.label(tick) for tick in scale.ticks] == ["0.50", "0.55", "0.60", "0.65", "0.70"]
    assert axis([3, 3], 0, 100).ticks[0] <= 3 <= axis([3, 3], 0, 100).ticks[-1]


def test_axis_beyond() -> None:
    """No number, and a number beyond the ticks, is drawn at the margin."""
    scale = axis([0.0, 1.0, float("inf"), float("nan")], 0, 100)
    assert scale.at(float("inf")) == 100
    assert scale.at(float("nan")) == 0


@given(steps=dags(), limit=st.integers(1, 4), down=st.booleans())
def test_boxes_do_not_touch(*, steps: list[NodeState], limit: int, down: bool) -> None:
    """Boxes lie inside the drawing and apart from each other, and every node is in one."""
    drawn = graph(steps, side_by_side=limit, gap=10, down=down)
    assert sum(box.count for box in drawn.boxes) == len(steps)
    for box in drawn.boxes:
        assert 0 <= box.x <= drawn.width - WIDE
        assert 0 <= box.y <= drawn.height - HIGH
    for one, other in combinations(drawn.boxes, 2):
        assert abs(one.x - other.x) >= WIDE or abs(one.y - other.y) >= HIGH


@given(dags())
def test_edges_keep_the_order(steps: list[NodeState]) -> None:
    """Along the edges that are drawn, each node can be reached from just those that it needs, near or far."""
    drawn = graph(steps, side_by_side=99, gap=10)
    needs = {step.name: set(step.needs) for step in steps}
    assert closure(needs) == closure(edges_of(drawn))


def edges_of(drawn: Graph) -> dict[str, set[str]]:
    """The needs of each box, read off the ends of the paths."""
    right = {(box.x + WIDE, box.y + HIGH / 2): box.name for box in drawn.boxes}
    left = {(box.x, box.y + HIGH / 2): box.name for box in drawn.boxes}
    found: dict[str, set[str]] = {box.name: set() for box in drawn.boxes}
    for path in drawn.edges:
        numbers = [float(word) for word in path.replace("M", " ").replace("C", " ").replace("L", " ").split()]
        found[left[numbers[-2], numbers[-1]]].add(right[numbers[0], numbers[1]])
    return found


def closure(needs: dict[str, set[str]]) -> dict[str, set[str]]:
    """All that each node needs, near or far."""
    far = {name: set(found) for name, found in needs.items()}
    for middle, name in product(far, far):
        if middle in far[name]:
            far[name] |= far[middle]
    return far


def test_implied_edges_are_left_out() -> None:
    """What a longer path says already is not drawn again."""
    drawn = graph([state("a"), state("b", "a"), state("c", "a", "b")], side_by_side=9, gap=10)
    assert edges_of(drawn) == {"a": set(), "b": {"a"}, "c": {"b"}}


def test_many_of_one_step() -> None:
    """A search of hundreds of trials, each asked for after the ones before it, is two boxes."""
    trials: list[NodeState] = []
    for index in range(600):
        trials.append(
            state(f"propose-{index:03}", *(f"train-{before:03}" for before in range(max(0, index - 2), index)))
        )
        trials.append(state(f"train-{index:03}", f"propose-{index:03}"))
    steps = [*trials, state("select", *(trial.name for trial in trials if trial.name.startswith("train")))]
    drawn = graph(steps, side_by_side=8, gap=10)
    assert [(box.name, box.count) for box in drawn.boxes] == [("propose", 600), ("select", 1), ("train", 600)]
    assert edges_of(drawn) == {"propose": set(), "train": {"propose"}, "select": {"train"}}


def test_worst_status() -> None:
    """A box of many nodes shows what a person has to know first."""
    steps = [state("train-0"), state("train-1", status="failed"), state("train-2", status="found")]
    assert graph(steps, side_by_side=2, gap=10).boxes[0].status == "failed"


def trial(value: float, **settings: object) -> tuple[Parameters, float]:
    return Parameters.model_validate({"values": settings}), value


def test_panels() -> None:
    """A panel for each parameter that varies; a wide range is logarithmic; the best lies on top."""
    trials = [
        trial(0.7, family="a", rate=0.01, depth=3),
        trial(0.8, family="a", rate=1.0, depth=3),
        trial(0.6, family="b", depth=3, extra=None),
    ]
    family, rate = panels(trials, trials[1][0], (0, 100), axis([0.6, 0.8], 90, 10))
    assert (family.parameter, [text for _, text in family.labels]) == ("family", ["a", "b"])
    assert (rate.parameter, rate.log, len(rate.dots)) == ("rate", True, 2)
    assert [is_best for _, _, is_best in family.dots] == [False, False, True]
    assert family.dots[-1][1] == 10


def test_panels_mixed() -> None:
    """Words and switches keep their places in the order in which they were tried."""
    trials = [trial(0.7, depth="auto", balanced=True), trial(0.8, depth=3, balanced=False)]
    depth, balanced = panels(trials, trials[0][0], (0, 100), axis([0.7, 0.8], 90, 10))
    assert [text for _, text in depth.labels] == ["auto", "3"]
    assert [text for _, text in balanced.labels] == ["True", "False"]
