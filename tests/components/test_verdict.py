"""What is called worse is worse, however often one looks; what is called fine has been shown."""

from __future__ import annotations

import random

import pytest
from scipy.stats import binomtest

from components.rollout_settings import RolloutRules
from components.verdict import Arm, Counts, Look, difference, interval, judge, newcombe, quantile_limits, width, wilson

RULES = RolloutRules(errors=0.02, latency=1.5, disagreement=0.1, samples=100)


def found(counts: Counts, rules: RolloutRules = RULES) -> dict[str, str]:
    """Finding by criterion."""
    return {look.what: look.finding for look in judge(rules, counts)}


def arm(requests: int, failed: int = 0, seconds: float = 0.01) -> Arm:
    made = Arm(requests, failed)
    for _ in range(requests - failed):
        made.took(seconds)
    return made


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (17, 1000)])
def test_wilson_is_scipy_s(hits: int, count: int) -> None:
    """With the normal quantile, the limits are those of SciPy."""
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count, 1.959963984540054) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_newcombe_is_his_own() -> None:
    """The worked example of the paper: 56 of 70 less 48 of 80 is 0.0524 to 0.3339."""
    z = 1.959963984540054
    found = newcombe(56 / 70, wilson(56, 70, z), 48 / 80, wilson(48, 80, z))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_width_holds_at_all_sizes_at_once() -> None:
    """Of 400 fair coins that are looked at after each of 2,000 throws, no more leave the limits than is said."""
    draw, left, alpha = random.Random(3), 0, 0.05
    for _ in range(400):
        heads = 0
        for count in range(1, 2001):
            heads += draw.random() < 0.5
            if abs(heads / count - 0.5) > width(count, alpha / 2) * 0.5 / count**0.5:
                left += 1
                break
    assert left <= 400 * alpha


def test_two_of_the_same_are_not_told_apart() -> None:
    """Releases that fail, answer and take alike, at the very edge of nothing: few are ever called worse."""
    rules = RolloutRules(errors=0.001, latency=1.1, disagreement=0.05, samples=100)
    draw, worse = random.Random(5), 0
    for _ in range(60):
        counts = Counts()
        for step in range(1, 1501):
            for one in (counts.running, counts.candidate):
                one.requests += 1
                one.failed += draw.random() < 0.02
                one.took(draw.lognormvariate(-5, 0.6))
            counts.rows += 1
            counts.differ += draw.random() < 0.05
            if step % 25 == 0 and "worse" in found(counts, rules).values():
                worse += 1
                break
    assert worse <= 3


def test_a_candidate_that_always_fails_is_found_at_once() -> None:
    """Some twenty requests are enough."""
    assert found(Counts(running=arm(400), candidate=arm(24, 24)))["errors"] == "worse"
    assert found(Counts(running=arm(400), candidate=arm(2, 2)))["errors"] == "open"


def test_little_is_said_of_little() -> None:
    """Nothing failed in a few requests: open, for a share of two in a hundred was not excluded; in many: fine."""
    few = Counts(running=arm(150), candidate=arm(150), rows=20)
    assert found(few) == {"errors": "open", "p50": "fine", "p99": "fine", "disagreement": "open"}
    many = Counts(running=arm(2000), candidate=arm(2000), rows=500)
    assert set(found(many).values()) == {"fine"}
    assert found(Counts()) == {"errors": "open", "p50": "open", "p99": "open", "disagreement": "open"}


def test_errors_of_both_are_no_ones() -> None:
    """Where both fail alike, the candidate is not worse."""
    assert found(Counts(running=arm(3000, 600), candidate=arm(3000, 610)))["errors"] != "worse"
    assert found(Counts(running=arm(3000, 30), candidate=arm(3000, 300)))["errors"] == "worse"


def test_slow() -> None:
    """A candidate of twice the time is worse, one of 1.3 times is within 1.5 times."""
    assert found(Counts(running=arm(2000), candidate=arm(2000, seconds=0.02)))["p99"] == "worse"
    assert found(Counts(running=arm(2000), candidate=arm(2000, seconds=0.013)))["p99"] == "fine"
    few = found(Counts(running=arm(60), candidate=arm(60, seconds=0.02)))
    assert (few["p50"], few["p99"]) == ("worse", "open")


def test_a_quantile_s_limits_hold() -> None:
    """The true p99 of a known distribution is within them, and they close in on it."""
    draw, true = random.Random(7), 0.01 * 2.718281828 ** (0.5 * 2.3263478740408408)
    widths = []
    for count in (500, 5000, 50_000):
        one = Arm()
        for _ in range(count):
            one.took(0.01 * draw.lognormvariate(0, 0.5))
        low, high = quantile_limits(one.seconds, 0.02, 0.99)
        assert low <= true <= high
        widths.append(high / low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 1.5


def test_disagreement() -> None:
    """Half of the rows is worse than a tenth; its words say the numbers."""
    looks: list[Look] = judge(RULES, Counts(running=arm(100), candidate=arm(100), rows=100, differ=50))
    assert looks[-1].finding == "worse"
    assert looks[-1].words.startswith("50 of 100 rows answered differently")


def test_nothing_is_known_of_nothing() -> None:
    """Limits without a sample are the whole range."""
    assert interval(0, 0, 0.05) == (0.0, 1.0)
    assert difference((0, 0), (1, 5), 0.05) == (-1.0, 1.0)
    assert quantile_limits([0, 0], 0.05, 0.5) == (0.0, float("inf"))
