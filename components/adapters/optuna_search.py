"""The next parameter set, by Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011).

No study is kept anywhere: it is rebuilt from the trials that are done, so that a proposal depends on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.records import Parameters, digest
from components.search_settings import Choice, Range, Search

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

SPACE = "space"
"""Optuna's name for the choice of a space, which comes before the axes of that space."""


def ask(
    search: Search, seen: Sequence[tuple[Parameters, float]], *, place: int, maximize: bool, seed: int
) -> Parameters:
    """What to try next.

    Args:
        search: its spaces are searched.
        seen: what was tried, and the metric that came out; NaN is passed over.
        place: of the trial in its wave, from 0. The proposals before it in the wave are made again, so that it keeps
            its distance from them.
        maximize: whether a higher metric is better.
        seed: of the sampler.
    """
    import optuna

    mixed = int(digest([seed, len(seen)])[:8], 16)  # the sampler starts anew with each wave
    sampler = optuna.samplers.TPESampler(seed=mixed)
    study = optuna.create_study(sampler=sampler, direction="maximize" if maximize else "minimize")
    for parameters, value in seen:
        if not math.isnan(value):
            study.add_trial(_told(search, parameters, value))
    return [_suggested(search, study.ask()) for _ in range(place + 1)][-1]


def _suggested(search: Search, trial: optuna.Trial) -> Parameters:
    index = trial.suggest_categorical(SPACE, range(len(search.spaces)))
    values = {}
    for name, axis in search.spaces[index].items():
        label = f"{index}.{name}"
        if isinstance(axis, Choice):
            values[name] = trial.suggest_categorical(label, axis.values)
        elif axis.integer:
            values[name] = trial.suggest_int(label, *_whole(axis), log=axis.log)
        else:
            values[name] = trial.suggest_float(label, axis.low, axis.high, log=axis.log)
    return Parameters(values=values)


def _told(search: Search, parameters: Parameters, value: float) -> optuna.trial.FrozenTrial:
    """A trial that is done, as Optuna would have asked for it."""
    import optuna

    index = next(index for index, space in enumerate(search.spaces) if _holds(space, parameters))
    axes = search.spaces[index]
    return optuna.trial.create_trial(
        value=value,
        params={SPACE: index, **{f"{index}.{name}": parameters.values[name] for name in axes}},
        distributions={
            SPACE: optuna.distributions.CategoricalDistribution(range(len(search.spaces))),
            **{f"{index}.{name}": _distribution(axis) for name, axis in axes.items()},
        },
    )


def _holds(space: dict[str, Choice | Range], parameters: Parameters) -> bool:
    values = parameters.values
    return set(space) == set(values) and all(
        values[name] in axis.values if isinstance(axis, Choice) else axis.low <= _number(values[name]) <= axis.high
        for name, axis in space.items()
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _distribution(axis: Choice | Range) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Choice):
        return CategoricalDistribution(axis.values)
    if axis.integer:
        return IntDistribution(*_whole(axis), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _whole(axis: Range) -> tuple[int, int]:
    return math.ceil(axis.low), math.floor(axis.high)
