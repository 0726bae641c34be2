from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.records import Artifact, Graphs, Parameters, Trial
from components.search import points, propose
from components.search_settings import Choice, Range, Search

TREES = {"family": Choice(values=("trees",)), "leaves": Range(low=2, high=200, integer=True, log=True)}
LINEAR = {"family": Choice(values=("linear",)), "rate": Range(low=0.001, high=1.0, log=True)}
LEARNING = Search(method="optuna", spaces=(TREES, LINEAR), trials=12, parallel=3)


def tried(parameters: Parameters, auc: float) -> Trial:
    file = Artifact(path="x", sha256="0", size=0)
    return Trial(
        parameters=parameters,
        metrics={"auc": auc, "log_loss": 1 - auc},
        graphs=Graphs(pre=file, model=file, post=file),
        predictions=file,
        run_id="",
        notebook=file,
        page=file,
        plots=(),
        seconds=0.0,
    )


def run_search(search: Search, metric: str = "auc") -> list[Parameters]:
    """What the DAG does: waves of proposals, each seeing the trials of the waves before."""
    trials: list[Trial] = []
    found: list[Parameters] = []
    for index in range(search.trials or 0):
        wave = index - index % search.parallel
        point = propose(search, index, trials[:wave], metric, seed=7)
        found.append(point)
        rate = point.values.get("rate")
        trials.append(tried(point, 0.5 if not isinstance(rate, float) else 0.9 - abs(math.log10(rate) + 1) / 10))
    return found


def test_a_grid_takes_every_combination_of_every_space_in_order() -> None:
    """The last axis changes fastest, and spaces come one after the other."""
    search = Search(
        spaces=({"a": Choice(values=(1, 2)), "b": Choice(values=("x", "y"))}, {"c": Choice(values=(None,))})
    )

    assert [point and point.values for point in points(search, seed=0)] == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
        {"c": None},
    ]


def test_random_draws_stay_when_more_are_asked_for() -> None:
    """A longer search begins with the shorter one, so that what was tried is not tried again."""
    short = Search(method="random", spaces=(TREES, LINEAR), trials=5)
    long = short.model_copy(update={"trials": 20})

    assert points(long, seed=3)[:5] == points(short, seed=3)
    assert points(long, seed=4) != points(long, seed=3)


@settings(max_examples=50, deadline=None)
@given(low=st.integers(1, 50), width=st.integers(1, 50), log=st.booleans(), seed=st.integers(0, 1000))
def test_random_draws_lie_inside_their_ranges(low: int, width: int, *, log: bool, seed: int) -> None:
    """Whole numbers are whole, both bounds can come, and nothing lies beyond them."""
    axis = Range(low=low, high=low + width, integer=True, log=log)
    real = axis.model_copy(update={"integer": False})
    search = Search(method="random", spaces=({"n": axis, "x": real},), trials=20)

    for point in points(search, seed):
        assert point is not None
        n, x = point.values["n"], point.values["x"]
        assert isinstance(n, int)
        assert isinstance(x, float)
        assert low <= n <= low + width
        assert low - 1e-9 <= x <= low + width + 1e-9


def test_a_search_that_learns_leaves_its_points_open() -> None:
    """The DAG has to know how many trials there are, not which."""
    assert points(LEARNING, seed=0) == [None] * 12


def test_the_same_past_gives_the_same_proposals() -> None:
    """A search that is resumed, or run on another engine, goes the same way."""
    assert run_search(LEARNING) == run_search(LEARNING)


def test_proposals_of_one_wave_differ_and_waves_do_not_repeat() -> None:
    """The sampler is rebuilt for each proposal, and yet does not say the same thing twice."""
    found = [tuple(point.values.items()) for point in run_search(LEARNING)]

    assert len(set(found)) == len(found)


def test_optuna_learns_which_space_and_where_in_it() -> None:
    """On a slope with its top in the linear space at a rate of 0.1, late proposals lie closer to it than early ones."""
    found = run_search(Search(method="optuna", spaces=(TREES, LINEAR), trials=36, parallel=2))

    late = found[-10:]
    assert sum(point.values["family"] == "linear" for point in late) >= 6
    rates = [point.values["rate"] for point in late if "rate" in point.values]
    assert sum(abs(math.log10(float(str(rate))) + 1) < 0.5 for rate in rates) >= len(rates) / 2


def test_an_undefined_metric_is_passed_over() -> None:
    """A trial without a value says nothing, and stops nothing."""
    past = [tried(Parameters(values={"family": "linear", "rate": 0.1}), math.nan)]

    assert propose(LEARNING, 1, past, "auc", seed=0) == propose(LEARNING, 1, past, "auc", seed=0)


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_every_metric_has_its_direction(metric: str) -> None:
    """A lower loss and a higher AUC are the same news: both lead to the same proposals."""
    assert run_search(LEARNING, metric=metric) == run_search(LEARNING, metric="auc")
