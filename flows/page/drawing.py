"""Where the marks of the page's drawings go: arithmetic only, the template has the ink. Lengths are in pixels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Protocol

from components.records import Parameters, Scalar

# --- scales -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale: the values `ticks[0]` to `ticks[-1]` lie between `start` and `end`."""

    ticks: tuple[float, ...]
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where `value` is; what lies beyond the ticks, or is no number, is drawn at the margin."""
        low, high = self.ticks[0], self.ticks[-1]
        share = (min(max(low, value), high) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def label(self, value: float) -> str:
        """`value` with as many decimals as tell the ticks apart."""
        step = self.ticks[1] - self.ticks[0]
        return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def axis(values: Iterable[float], start: float, end: float, parts: int = 4) -> Axis:
    """A scale around finite `values`, with about `parts` round steps (1, 2 or 5 times a power of ten)."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    rough = ((high - low) or abs(high) or 1.0) / parts
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(tuple(index * step for index in range(first, max(last, first + 1) + 1)), start, end)


# --- trials -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Panel:
    """One parameter against the metric: a dot a trial, `(x, y, is the best)`, the best last so that it lies on top."""

    parameter: str
    dots: tuple[tuple[float, float, bool], ...]
    labels: tuple[tuple[float, str], ...]
    log: bool


def panels(
    trials: Sequence[tuple[Parameters, float]], best: Parameters, across: tuple[float, float], up: Axis
) -> list[Panel]:
    """A panel for each parameter that takes more than one value.

    Args:
        trials: parameters and metric of each.
        best: the parameters of the best one.
        across: where the dots may lie from left to right.
        up: the metric's scale.
    """
    found = []
    for name in dict.fromkeys(name for parameters, _ in trials for name in parameters.values):
        having = [(parameters, value) for parameters, value in trials if parameters.values.get(name) is not None]
        settings = [parameters.values[name] for parameters, _ in having]
        if len(set(settings)) > 1:
            place, labels, log = _spread(settings, *across)
            dots = [(place[parameters.values[name]], up.at(value), parameters == best) for parameters, value in having]
            found.append(Panel(name, tuple(sorted(dots, key=lambda dot: dot[2])), labels, log))
    return found


def _spread(
    settings: list[Scalar], start: float, end: float
) -> tuple[dict[Scalar, float], tuple[tuple[float, str], ...], bool]:
    """The place of each setting, the labels below, and whether the scale is logarithmic."""
    numbers = [value for value in settings if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(settings):  # words, in the order in which they were tried
        words = list(dict.fromkeys(settings))
        pitch = (end - start) / len(words)
        place = {word: round(start + (index + 0.5) * pitch, 1) for index, word in enumerate(words)}
        return place, tuple((place[word], str(word)) for word in words), False
    low, high = min(numbers), max(numbers)
    log = low > 0 and high / low >= 20
    warp = math.log if log else float
    inner = Axis((warp(low), warp(high)), start + 6, end - 6)
    place = {number: inner.at(warp(number)) for number in numbers}
    return place, ((place[low], f"{low:g}"), (place[high], f"{high:g}")), log


# --- the lifecycle ----------------------------------------------------------------------------------------------------


class Step(Protocol):
    """What is drawn of a node."""

    @property
    def name(self) -> str: ...
    @property
    def step(self) -> str: ...
    @property
    def needs(self) -> tuple[str, ...]: ...
    @property
    def status(self) -> str: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Box:
    """One node, or the `count` nodes of one step, with its upper left corner."""

    name: str
    count: int
    status: str
    seconds: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Graph:
    """Boxes, and edges as SVG path data."""

    boxes: tuple[Box, ...]
    edges: tuple[str, ...]
    width: float
    height: float


WORST_FIRST = ("failed", "running", "waiting", "skipped", "done", "found")
WIDE, HIGH, LANE = 76, 36, 8
"""A box, and the room between two of a layer."""


def graph(steps: Sequence[Step], *, side_by_side: int, gap: float, down: bool = False) -> Graph:
    """Lay nodes out in layers by what they need, from left to right, or from top to bottom with `down`.

    Each node lies one layer after the last of what it needs. Edges that a longer path implies are left out. An edge
    that passes a layer gets a free lane in it (Sugiyama, Tagawa, Toda 1981, with one sweep against crossings).

    Args:
        steps: the nodes.
        side_by_side: more nodes of one step than this become one box.
        gap: pixels between two layers.
        down: whether layers are rows.
    """
    members = _gathered(steps, side_by_side)
    rank, edges = _ranked(members)
    chains = [_chain(source, target, rank) for source, target in _reduced(edges, rank)]
    slots = _slotted(rank, chains)

    along, cross = (HIGH, WIDE) if down else (WIDE, HIGH)
    most = max(map(len, slots))

    def place(slot: Slot) -> tuple[float, float]:
        """Where a slot begins along the way, and its middle across it."""
        layer = slots[slot[1]]
        return slot[1] * (along + gap), ((most - len(layer)) / 2 + layer.index(slot)) * (cross + LANE) + cross / 2

    boxes = []
    for name, nodes in members.items():
        far, middle = place((name, rank[name]))
        x, y = (middle - cross / 2, far) if down else (far, middle - cross / 2)
        status = min((node.status for node in nodes), key=WORST_FIRST.index)
        boxes.append(Box(name, len(nodes), status, sum(node.seconds for node in nodes), x, y))
    paths = [_path([place(slot) for slot in chain], along, down=down) for chain in chains]
    far, wide = len(slots) * (along + gap) - gap, most * (cross + LANE) - LANE
    return Graph(tuple(boxes), tuple(paths), *((wide, far) if down else (far, wide)))


def _gathered(steps: Sequence[Step], limit: int) -> dict[str, list[Step]]:
    """The nodes of each box, by its name: the node's own, or the step's where there are many of it."""
    by_step: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        by_step[step.step].append(step)
    boxes: dict[str, list[Step]] = defaultdict(list)
    for step in sorted(steps, key=lambda step: step.name):
        many = len(by_step[step.step]) > limit
        boxes[step.step.rsplit(":", 1)[-1] if many else step.name].append(step)
    return dict(boxes)


def _ranked(members: Mapping[str, Sequence[Step]]) -> tuple[dict[str, int], set[tuple[str, str]]]:
    """The layer of each box, and its edges; those that lead back inside a loop of boxes are dropped."""
    home = {step.name: box for box, steps in members.items() for step in steps}
    needs = {step.name: [need for need in step.needs if need in home] for steps in members.values() for step in steps}
    depth: dict[str, int] = {}
    for name in TopologicalSorter(needs).static_order():
        depth[name] = max((depth[need] + 1 for need in needs[name]), default=0)
    first = {box: min(depth[step.name] for step in steps) for box, steps in members.items()}
    layers = {layer: index for index, layer in enumerate(sorted(set(first.values())))}
    rank = {box: layers[layer] for box, layer in first.items()}
    edges = {(home[need], home[name]) for name, found in needs.items() for need in found}
    return rank, {(source, target) for source, target in edges if rank[source] < rank[target]}


def _reduced(edges: set[tuple[str, str]], rank: Mapping[str, int]) -> list[tuple[str, str]]:
    """The edges that no longer path implies."""
    after: dict[str, set[str]] = defaultdict(set)
    for source, target in edges:
        after[source].add(target)
    reach: dict[str, set[str]] = {}
    for box in sorted(rank, key=lambda box: -rank[box]):
        reach[box] = after[box].union(*(reach[target] for target in after[box]))
    return sorted(
        (source, target)
        for source, target in edges
        if not any(target in reach[other] for other in after[source] if other != target)
    )


Slot = tuple[str, int]
"""A place in a layer: a box's name, or an edge's where it only passes; and the layer."""


def _chain(source: str, target: str, rank: Mapping[str, int]) -> list[Slot]:
    passing = [(f"{source}>{target}", layer) for layer in range(rank[source] + 1, rank[target])]
    return [(source, rank[source]), *passing, (target, rank[target])]


def _slotted(rank: Mapping[str, int], chains: Sequence[Sequence[Slot]]) -> list[list[Slot]]:
    """The slots of each layer, in an order that follows the layer before it."""
    before: dict[Slot, list[Slot]] = defaultdict(list)
    for chain in chains:
        for left, right in pairwise(chain):
            before[right].append(left)
    slots: list[list[Slot]] = [[] for _ in range(max(rank.values()) + 1)]
    for slot in sorted({*rank.items(), *(slot for chain in chains for slot in chain)}):
        slots[slot[1]].append(slot)
    place: dict[Slot, float] = {}
    for layer in slots:
        layer.sort(key=lambda slot: sum(place[left] for left in before[slot]) / max(1, len(before[slot])))
        place.update({slot: index - len(layer) / 2 for index, slot in enumerate(layer)})
    return slots


def _path(stops: Sequence[tuple[float, float]], along: float, *, down: bool) -> str:
    """From stop to stop: across each gap in an S, straight through each lane."""

    def point(far: float, middle: float) -> str:
        return f"{middle:g} {far:g}" if down else f"{far:g} {middle:g}"

    path = ""
    for (before, start), (after, end) in pairwise(stops):
        left = before + along
        bend = (left + after) / 2
        path += "L" if path else "M"
        path += f"{point(left, start)}C{point(bend, start)} {point(bend, end)} {point(after, end)}"
    return path
