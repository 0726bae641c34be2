"""Triton's own settings of a project's models: `serve.triton` in project.yaml, in the words of Triton's ModelConfig.

A bundle is an ensemble over parts, so each setting goes to where it does what its name says: `of_part` says what of
them a part gets, and `of_ensemble` what the ensemble gets. `version_policy` goes to no model: a version is a release.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from components.settings import Settings

LEARNED: Final = frozenset({"model", "fused"})
"""The parts that hold what was learned, and take nearly all of a request's time."""


def _ascending(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """`sizes`, if each is larger than the one before; a ValueError says so."""
    if list(sizes) != sorted(set(sizes)):
        raise ValueError("sizes in ascending order, each once")
    return sizes


Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=16_384)], ...], AfterValidator(_ascending)]
"""Rows of a batch."""
Microseconds = Annotated[int, Field(ge=0, le=60_000_000)]


class Resource(Settings):
    """So much of what instances share, held while one of them runs."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    count: PositiveInt = 1


class RateLimiter(Settings):
    """Instances take turns where there is not enough of a resource for all; a smaller `priority` comes more often."""

    resources: tuple[Resource, ...] = ()
    priority: PositiveInt = 1


class InstanceGroup(Settings):
    """Copies of a model that run side by side, on the CPU or on each of `gpus`."""

    count: PositiveInt = Field(default=1, le=64)
    kind: Literal["cpu", "gpu"] = "cpu"
    gpus: tuple[NonNegativeInt, ...] = ()
    """None with kind gpu: on every GPU that the server sees."""
    rate_limiter: RateLimiter | None = None

    @model_validator(mode="after")
    def _has_its_gpus(self) -> InstanceGroup:
        if self.gpus and self.kind == "cpu":
            raise ValueError("no `gpus` with kind cpu")
        return self


class QueuePolicy(Settings):
    """What becomes of a request that waits in the queue."""

    timeout_action: Literal["reject", "delay"] = "reject"
    """After its time: refuse it, or answer it after all that are in time."""
    default_timeout_microseconds: Microseconds = 0
    """0: it waits as long as it takes."""
    allow_timeout_override: bool = False
    """Whether a request may ask for a shorter time."""
    max_queue_size: NonNegativeInt = 0
    """Requests that wait; one more is refused. 0: any number."""


class DynamicBatching(Settings):
    """Requests that wait go through a model together."""

    preferred_batch_size: Sizes = ()
    """Rows that go at once when there are as many; of more, the rest goes next. None: all that wait."""
    max_queue_delay_microseconds: Microseconds = 0
    """That a request waits for others to go with."""
    preserve_ordering: bool = False
    priority_levels: NonNegativeInt = Field(default=0, le=100)
    """Levels that a request's `priority` may have; 1 goes first."""
    default_priority_level: NonNegativeInt = 0
    """Of a request that has none."""
    default_queue_policy: QueuePolicy | None = None
    priority_queue_policy: dict[PositiveInt, QueuePolicy] = {}
    """Level -> its own policy."""

    @model_validator(mode="after")
    def _knows_its_levels(self) -> DynamicBatching:
        levels = self.priority_levels
        if levels and not 1 <= self.default_priority_level <= levels:
            raise ValueError(f"a `default_priority_level` from 1 to {levels}, the `priority_levels`")
        if not levels and (self.default_priority_level or self.priority_queue_policy):
            raise ValueError("`priority_levels` where levels are spoken of")
        if any(level > levels for level in self.priority_queue_policy):
            raise ValueError(f"levels from 1 to {levels} in `priority_queue_policy`")
        return self


class Direct(Settings):
    """Each sequence has a place in one instance to itself."""

    max_queue_delay_microseconds: Microseconds = 0
    minimum_slot_utilization: float = Field(default=0.0, ge=0, le=1)


class Oldest(Settings):
    """Requests of several sequences go through an instance together, the oldest first."""

    max_candidate_sequences: int = Field(default=64, ge=1, le=65_536)
    """Sequences of one instance at a time."""
    preferred_batch_size: Sizes = ()
    max_queue_delay_microseconds: Microseconds = 0
    preserve_ordering: bool = False


class SequenceBatching(Settings):
    """Requests that belong together go to the same instance, one after the other: a part may remember."""

    direct: Direct | None = None
    oldest: Oldest | None = None
    max_sequence_idle_microseconds: int = Field(default=1_000_000, ge=1, le=3_600_000_000)
    """A sequence without a request for so long is forgotten."""

    @model_validator(mode="after")
    def _is_one(self) -> SequenceBatching:
        if self.direct and self.oldest:
            raise ValueError("one of `direct` and `oldest`")
        return self


class TransactionPolicy(Settings):
    """`decoupled`: a request may have several answers, or come to its own in steps."""

    decoupled: bool = False


class ModelWarmup(Settings):
    """Golden requests that each instance answers before it gets anybody's."""

    rows: PositiveInt = Field(default=1, le=64)
    """Golden requests, the first ones."""
    batch_size: Sizes = Field(default=(1,), min_length=1, max_length=8)
    """How many of the same go together, each size by itself."""
    count: PositiveInt = Field(default=1, le=1000)
    """Times."""


class ResponseCache(Settings):
    """The server remembers whole answers: the same tensors, the same answer."""

    enable: bool = True


class Latest(Settings):
    """So many of the newest releases."""

    num_versions: int = Field(default=2, ge=2, le=100)


class All(Settings):
    """Every release."""


class Specific(Settings):
    """The releases of these numbers."""

    versions: tuple[PositiveInt, ...] = Field(min_length=1)


class VersionPolicy(Settings):
    """Which releases the server keeps loaded for those who ask them by number: one of three."""

    latest: Latest | None = None
    all: All | None = None
    specific: Specific | None = None

    @model_validator(mode="after")
    def _is_one(self) -> VersionPolicy:
        if [self.latest, self.all, self.specific].count(None) != 2:
            raise ValueError("one of `latest`, `all` and `specific`")
        return self


class Triton(Settings):
    """`serve.triton`; what is not set is as Trilha does by itself."""

    instance_group: tuple[InstanceGroup, ...] = Field(default=(), max_length=16)
    """None: one instance on the CPU."""
    dynamic_batching: DynamicBatching | Literal[False] = DynamicBatching()
    """False: every request goes through by itself."""
    sequence_batching: SequenceBatching | None = None
    """In place of `dynamic_batching` for the part that learned, which has to be a Python class."""
    model_transaction_policy: TransactionPolicy = TransactionPolicy()
    """Of the part that learned, which has to be a Python class, and of the ensemble."""
    model_warmup: ModelWarmup | None = None
    response_cache: ResponseCache | None = None
    version_policy: VersionPolicy | None = None
    """The release that serves and the one before always stay loaded; None: no others do."""

    @model_validator(mode="after")
    def _remembers_one_thing(self) -> Triton:
        if self.response_cache and self.response_cache.enable and (self.sequence_batching or self.decoupled):
            raise ValueError("no `response_cache` where the same tensors may have other answers: sequences, decoupled")
        return self

    @property
    def decoupled(self) -> bool:
        """Whether a request may have several answers."""
        return self.model_transaction_policy.decoupled


UNSET: Final = Triton()
"""What Trilha does by itself."""


def of_part(settings: Triton, part: str) -> Triton:
    """What of the settings the part gets.

    All parts have as many instances, for the narrowest would set the pace, and the same priorities and queue policies,
    which Triton passes on from the ensemble. GPUs, rate limits, preferred sizes and the delay, which would add up over
    the parts, are for the part that holds what was learned.
    """
    mine: dict[str, object] = {"response_cache": None, "version_policy": None}
    if part not in LEARNED:
        mine |= {"sequence_batching": None, "model_transaction_policy": TransactionPolicy()}
        count = sum(group.count for group in settings.instance_group)
        mine["instance_group"] = (InstanceGroup(count=min(count, 64)),) if count else ()
        if settings.dynamic_batching:
            plain = {"preferred_batch_size": (), "max_queue_delay_microseconds": 0}
            mine["dynamic_batching"] = settings.dynamic_batching.model_copy(update=plain)
    return settings.model_copy(update=mine)


def of_ensemble(settings: Triton) -> Triton:
    """What of the settings the ensemble gets, which answers as a whole and runs nothing itself."""
    return Triton(response_cache=settings.response_cache, model_transaction_policy=settings.model_transaction_policy)
