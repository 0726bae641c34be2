"""Whether a candidate does worse than the release that runs: errors, latency, disagreement, of what both did meanwhile.

Each finding is `worse` (shown to be beyond its bound), `fine` (shown to be within), or `open`. Somebody looks every
second, in any number of processes, so the limits hold at all sample sizes at once: Wilson's interval (Wilson, JASA 22,
1927) with the width of a confidence sequence in place of the normal quantile (Howard, Ramdas, McAuliffe and Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49(2), 2021, eq. 2: the stitched
bound of a mean of variance 1). Two shares are compared by Newcombe's interval of their difference (Statistics in
Medicine 17, 1998, method 10), quantiles by the intervals of the shares below them (Woodruff, JASA 47, 1952).

Nothing here needs more than `math`: the gateway looks while it answers, and SciPy takes a second to import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from components.rollout_settings import RolloutRules

FIRST: Final = 50e-6
"""Seconds: the first bucket ends there."""
GROWTH: Final = 1.1
"""A bucket ends so many times later than the one before: what is said of a quantile is so exact."""
BUCKETS: Final = 150
"""Up to 80 s; later ones are counted in the last."""
QUANTILES: Final = (0.5, 0.99)
"""Both are held to the bound: one that is slow throughout is found by its median, in few requests."""
LEAST: Final = 20
"""Requests, or rows, before a candidate is found worse: those that fail at one moment are not as many samples."""

Finding = Literal["worse", "fine", "open"]


class Arm(msgspec.Struct):
    """What one release did: requests that were answered or failed, those that failed, and latencies by bucket."""

    requests: int = 0
    failed: int = 0
    seconds: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)

    def took(self, seconds: float) -> None:
        """Count an answer's time."""
        place = 0 if seconds <= FIRST else math.ceil(math.log(seconds / FIRST) / math.log(GROWTH))
        self.seconds[min(place, BUCKETS - 1)] += 1

    def add(self, other: Arm) -> None:
        """Count what another process counted."""
        self.requests += other.requests
        self.failed += other.failed
        self.seconds = [mine + theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True)]

    def quantile(self, share: float) -> float:
        """Seconds that such a share of the answers took at most; infinite where it is not known."""
        total, seen = sum(self.seconds), 0
        for place, count in enumerate(self.seconds):
            seen += count
            if total and seen >= share * total:
                return FIRST * GROWTH**place
        return math.inf


class Counts(msgspec.Struct):
    """What a step of a roll-out saw. `rows` were answered by both, `differ` of them differently."""

    running: Arm = msgspec.field(default_factory=Arm)
    candidate: Arm = msgspec.field(default_factory=Arm)
    rows: int = 0
    differ: int = 0

    def add(self, other: Counts) -> None:
        """Count what another process counted."""
        self.running.add(other.running)
        self.candidate.add(other.candidate)
        self.rows += other.rows
        self.differ += other.differ


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one criterion: what it is, how it stands, and that in words."""

    what: str
    finding: Finding
    words: str


def judge(rules: RolloutRules, counts: Counts) -> list[Look]:
    """Every criterion of `rules`; the chance that any is ever found worse without being so is 1 - `confidence`."""
    alpha = (1 - rules.confidence) / (2 + len(QUANTILES))
    looks = [_errors(rules, counts, alpha)]
    if rules.latency is not None:
        looks += [_latency(rules, rules.latency, counts, alpha, share) for share in QUANTILES]
    if rules.disagreement is not None:
        looks.append(_disagreement(rules.disagreement, counts, alpha))
    return looks


def _errors(rules: RolloutRules, counts: Counts, alpha: float) -> Look:
    ours, theirs = counts.candidate, counts.running
    low, high = difference((ours.failed, ours.requests), (theirs.failed, theirs.requests), alpha)
    enough = min(ours.requests, theirs.requests) >= rules.samples
    words = (
        f"{ours.failed} of {ours.requests} requests failed, {theirs.failed} of {theirs.requests} of the running one's: "
        f"{low:+.2%} to {high:+.2%}, accepted up to {rules.errors:+.2%}"
    )
    return Look("errors", _finding(low, high, rules.errors, ours.requests, enough=enough), words)


def _disagreement(most: float, counts: Counts, alpha: float) -> Look:
    low, high = interval(counts.differ, counts.rows, alpha)
    limits = f"{low:.1%} to {high:.1%}, accepted up to {most:.1%}"
    words = f"{counts.differ} of {counts.rows} rows answered differently: {limits}"
    return Look("disagreement", _finding(low, high, most, counts.rows, enough=True), words)


def _latency(rules: RolloutRules, most: float, counts: Counts, alpha: float, share: float) -> Look:
    """Worse where it is shown to be; fine where it is within, as measured: to show that takes some 10,000 of each."""
    ours, theirs = counts.candidate.quantile(share), counts.running.quantile(share)
    least = quantile_limits(counts.candidate.seconds, alpha, share)[0]
    highest = quantile_limits(counts.running.seconds, alpha, share)[1]
    enough = min(sum(counts.candidate.seconds), sum(counts.running.seconds)) >= rules.samples
    finding: Finding = "worse" if least > most * highest else "fine" if enough and ours <= most * theirs else "open"
    name = f"p{share * 100:g}"
    words = f"{name} {_ms(ours)}, the running one's {_ms(theirs)}, accepted up to {most:g} times that"
    return Look(name, finding, words)


def _finding(low: float, high: float, most: float, count: int, *, enough: bool) -> Finding:
    if low > most and count >= LEAST:
        return "worse"
    return "fine" if enough and high <= most else "open"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if math.isfinite(seconds) else "not known yet"


def width(count: int, alpha: float) -> float:
    """Standard errors on one side of a mean of `count` values that hold at every `count` at once, but for `alpha`."""
    return 1.7 * math.sqrt(math.log(math.log(2 * max(2, count))) + 0.72 * math.log(5.2 / alpha))


def interval(hits: int, count: int, alpha: float) -> tuple[float, float]:
    """Wilson's limits of a share, each but for `alpha`, at every `count` at once."""
    if not count:
        return 0.0, 1.0
    return wilson(hits, count, width(count, alpha))


def wilson(hits: int, count: int, z: float) -> tuple[float, float]:
    """Wilson's limits of a share, `z` standard errors wide."""
    share, square = hits / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return (0.0 if not hits else max(0.0, middle - half)), (1.0 if hits == count else min(1.0, middle + half))


def difference(ours: tuple[int, int], theirs: tuple[int, int], alpha: float) -> tuple[float, float]:
    """Newcombe's limits of the difference of two shares, ours less theirs; each is given as hits and count."""
    if not ours[1] or not theirs[1]:
        return -1.0, 1.0
    return newcombe(ours[0] / ours[1], interval(*ours, alpha), theirs[0] / theirs[1], interval(*theirs, alpha))


def newcombe(
    ours: float, our_limits: tuple[float, float], theirs: float, their_limits: tuple[float, float]
) -> tuple[float, float]:
    """The limits of a difference from those of its parts."""
    by = ours - theirs
    return (
        by - math.hypot(ours - our_limits[0], their_limits[1] - theirs),
        by + math.hypot(our_limits[1] - ours, theirs - their_limits[0]),
    )


def quantile_limits(buckets: Sequence[int], alpha: float, share: float) -> tuple[float, float]:
    """Limits of a quantile, seconds: where the share below may, and where it must, have come to `share`."""
    total, seen, low = sum(buckets), 0, math.inf
    for place, count in enumerate(buckets):
        seen += count
        least, most = interval(seen, total, alpha)
        if most >= share and math.isinf(low):
            low = FIRST * GROWTH ** (place - 1) if seen and total else 0.0
        if least >= share:
            return low, FIRST * GROWTH**place
    return (low if total else 0.0), math.inf
