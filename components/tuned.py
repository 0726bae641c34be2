"""What `trilha tune` found: `config/projects/NAME/serve.tuned.yaml`, which completes `serve.triton` of project.yaml.

It is part of what the steps get as `serve`, so the next run exports, qualifies and releases with it. What project.yaml
itself sets stands: the file only fills in what is not set there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, PositiveFloat, PositiveInt

from components.serve_settings import DynamicBatching, InstanceGroup, Microseconds, Triton
from components.settings import Settings

FILE: Final = "serve.tuned.yaml"


class Found(Settings):
    """How it was found; for people, and no part of what a bundle is."""

    release: PositiveInt
    """Whose model was measured."""
    rows: PositiveInt = 1
    """Of a request."""
    p99_ms: PositiveFloat
    """Budget."""
    measured_p99_ms: float
    requests_per_second: float
    before: float
    """Requests a second that held the budget with the settings of before."""
    clients: PositiveInt
    generator: str
    machine: str
    at: str


class Knobs(Settings):
    """The settings that are searched. `preferred_batch_size` 0 is none."""

    instances: PositiveInt = Field(default=1, le=64)
    preferred_batch_size: int = Field(default=0, ge=0, le=16_384)
    max_queue_delay_microseconds: Microseconds = 0

    def __str__(self) -> str:
        plural = "s" if self.instances > 1 else ""
        if not self.preferred_batch_size:
            return f"{self.instances} instance{plural}, all that wait go together"
        delay = f", {self.max_queue_delay_microseconds} us" if self.max_queue_delay_microseconds else ""
        return f"{self.instances} instance{plural}, batches of {self.preferred_batch_size}{delay}"


class TunedFile(Settings):
    """`serve.tuned.yaml`."""

    settings: Knobs
    found: Found


def fixed(own: Triton) -> frozenset[str]:
    """The fields of `Knobs` that project.yaml sets itself."""
    names = {"instances"} if "instance_group" in own.model_fields_set else set()
    if not own.dynamic_batching:
        return frozenset(names | {"preferred_batch_size", "max_queue_delay_microseconds"})
    return frozenset(names | (own.dynamic_batching.model_fields_set & Knobs.model_fields.keys()))


def knobs_of(settings: Triton) -> Knobs:
    """What settings say of the knobs."""
    instances = sum(group.count for group in settings.instance_group) or 1
    batching = settings.dynamic_batching or DynamicBatching()
    return Knobs(
        instances=min(instances, 64),
        preferred_batch_size=batching.preferred_batch_size[0] if batching.preferred_batch_size else 0,
        max_queue_delay_microseconds=batching.max_queue_delay_microseconds,
    )


def completed(own: Triton, knobs: Knobs) -> Triton:
    """`own`, and the knobs where it says nothing."""
    known = fixed(own)
    changes: dict[str, object] = {}
    if "instances" not in known and knobs.instances > 1:
        changes["instance_group"] = (InstanceGroup(count=knobs.instances),)
    batching: dict[str, object] = {}
    if "preferred_batch_size" not in known and knobs.preferred_batch_size:
        batching["preferred_batch_size"] = (knobs.preferred_batch_size,)
    if "max_queue_delay_microseconds" not in known and knobs.max_queue_delay_microseconds:
        batching["max_queue_delay_microseconds"] = knobs.max_queue_delay_microseconds
    if batching and own.dynamic_batching:
        changes["dynamic_batching"] = own.dynamic_batching.model_copy(update=batching)
    return own.model_copy(update=changes)


def write(folder: Path, tuned: TunedFile) -> Path:
    """Put the file into a project's folder, whole or not at all."""
    import yaml

    text = (
        "# Written by `trilha tune`. The next run releases with it; delete it to go back.\n"
        "# What project.yaml sets under serve.triton stands before it.\n"
    )
    path = folder / FILE
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + yaml.safe_dump(tuned.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    part.replace(path)
    return path
