"""What Prometheus is told. Names of projects are known ones, so that nobody can make up a million series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from components.gateway.routing import SelectionRouter

if TYPE_CHECKING:
    from components.gateway.catalogue import Catalogue, Door

KIND: Final = b"text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds."""


class Metrics:
    """The gateway's own; Triton's are at Triton's port for metrics, on loopback."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        prefix = "trilha_gateway"
        self._requests = Counter(
            f"{prefix}_requests", "Requests answered.", ["route", "project", "status"], registry=registry
        )
        self._seconds = Histogram(
            f"{prefix}_seconds", "From a request's head to its answer.", ["route", "project"],
            buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self._model = Histogram(
            f"{prefix}_model_seconds", "Triton's share of it.", ["project"], buckets=BUCKETS, registry=registry
        )
        self._release = Gauge(
            f"{prefix}_release", "Number of the release that answers.", ["project"], registry=registry
        )
        self._ready = Gauge(f"{prefix}_ready", "1 where every project's release answers.", registry=registry)
        self._cache = Counter(
            f"{prefix}_cache", "Answers looked for, by where they were.", ["found"], registry=registry
        )
        self._log = Counter(f"{prefix}_log", "Requests written down, or not.", ["fate"], registry=registry)
        self._arms = Counter(
            f"{prefix}_arm_requests", "Where several releases may answer: requests of each, by what became of them.",
            ["project", "release", "fate"], registry=registry,
        )  # fmt: skip
        self._arm_seconds = Histogram(
            f"{prefix}_arm_seconds", "Likewise: Triton's share of it.", ["project", "release"],
            buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self._share = Gauge(
            f"{prefix}_rollout_share", "Share of requests that go to the candidate, or are asked of it as well.",
            ["project", "release"], registry=registry,
        )  # fmt: skip
        self._rewards = Gauge(
            f"{prefix}_arm_rewards", "Rewards that a release of a selection has, by all gateways.",
            ["project", "release"], registry=registry,
        )  # fmt: skip
        self._reward = Gauge(
            f"{prefix}_arm_reward_sum", "What they are in sum.", ["project", "release"], registry=registry
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._models: dict[str, Histogram] = {}

    def answered(self, route: str, project: str, status: int, seconds: float) -> None:
        """Count a request."""
        key = (route, project, status)
        if key not in self._known:
            self._known[key] = (
                self._requests.labels(route, project, str(status)), self._seconds.labels(route, project)
            )  # fmt: skip
        counter, histogram = self._known[key]
        counter.inc()
        histogram.observe(seconds)

    def asked(self, project: str, seconds: float) -> None:
        """Count a question to Triton."""
        if project not in self._models:
            self._models[project] = self._model.labels(project)
        self._models[project].observe(seconds)

    def arm(self, door: Door, fate: str, seconds: float | None = None) -> None:
        """Count a request of one of several releases that may answer: `answered`, `failed`, or asked `beside`."""
        self._arms.labels(door.project, door.number, fate).inc()
        if seconds is not None:
            self._arm_seconds.labels(door.project, door.number).observe(seconds)

    def cached(self, where: str) -> None:
        """Count a look for an answer: `memory`, `redis` or `miss`."""
        self._cache.labels(where).inc()

    def logged(self, fate: str, count: int) -> None:
        """Count requests that were `written` down, or `dropped`."""
        self._log.labels(fate).inc(count)

    def page(self, catalogue: Catalogue) -> bytes:
        """All of it, in Prometheus' text."""
        self._ready.set(catalogue.ready)
        for name, entry in catalogue.projects.items():
            self._release.labels(name).set(entry.champion.number if entry.champion else 0)
        self._share.clear()
        for name, entry in catalogue.projects.items():
            if entry.rollout is not None:
                self._share.labels(name, entry.rollout.candidate).set(entry.rollout.share if entry.router else 0)
            if isinstance(entry.router, SelectionRouter):
                for release, rewards in entry.router.rewards.items():
                    self._rewards.labels(name, release).set(rewards.count)
                    self._reward.labels(name, release).set(rewards.total)
        return generate_latest(self._registry)
