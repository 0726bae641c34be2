"""Search: which parameter sets are tried."""

from __future__ import annotations

import itertools
import math
import random

from components.records import Parameters, Scalar, Trial
from components.search_settings import Choice, Range, Search


def points(search: Search, seed: int) -> list[Parameters | None]:
    """The parameter sets of a search, in order; None stands for one that `propose` finds while the search runs.

    A grid takes every combination of every space, the last axis changing fastest. Random draws depend on their own
    number and the seed alone, so that more trials leave the first ones as they were.
    """
    if search.method == "grid":
        return [Parameters(values=values) for space in search.spaces for values in _combinations(space)]
    trials = range(search.trials or 0)
    if search.method == "random":
        return [_draw(search, random.Random(f"{seed}/{index}")) for index in trials]  # noqa: S311  # no secret
    return [None for _ in trials]


def propose(search: Search, index: int, earlier: list[Trial], metric: str, seed: int) -> Parameters:
    """The parameter set of trial `index`, by Optuna from what came out of the trials of earlier waves.

    Args:
        search: method `optuna`.
        index: of the trial, from 0.
        earlier: the trials of all earlier waves; their number is the index of this wave's first trial.
        metric: what is to become better.
        seed: of the sampler; the same arguments give the same proposal.
    """
    from components.adapters.optuna_search import ask
    from components.metrics import HIGHER_IS_BETTER

    seen = [(trial.parameters, trial.metrics[metric]) for trial in earlier]
    return ask(search, seen, place=index - len(earlier), maximize=metric in HIGHER_IS_BETTER, seed=seed)


def _combinations(space: dict[str, Choice | Range]) -> list[dict[str, Scalar]]:
    axes = [axis.values for axis in space.values() if isinstance(axis, Choice)]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*axes)]


def _draw(search: Search, rng: random.Random) -> Parameters:
    space = rng.choice(search.spaces)
    return Parameters(values={name: _value(axis, rng) for name, axis in space.items()})


def _value(axis: Choice | Range, rng: random.Random) -> Scalar:
    if isinstance(axis, Choice):
        return rng.choice(axis.values)
    low, high = axis.low, axis.high
    if axis.integer:  # each whole number owns the stretch around it
        low, high = low - 0.5, high + 0.5
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if axis.log else rng.uniform(low, high)
    return min(max(round(value), math.ceil(axis.low)), math.floor(axis.high)) if axis.integer else value
