"""A project's settings as fields of Triton's ModelConfig, and whether a server has what they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from components.serve_settings import (
    Direct,
    DynamicBatching,
    InstanceGroup,
    ModelWarmup,
    QueuePolicy,
    SequenceBatching,
    Triton,
)

if TYPE_CHECKING:
    import numpy.typing as npt

Sample: TypeAlias = "Mapping[str, npt.NDArray[Any]]"
"""One row: input -> `[1, width]`."""


def put(config: Any, settings: Triton) -> None:
    """Write into `config` of a part what `of_part` gave it; warm-up comes by `put_warmup`.

    Args:
        config: a `ModelConfig`.
        settings: what the part gets.
    """
    config.instance_group.extend(map(_group, settings.instance_group or (InstanceGroup(),)))
    if settings.decoupled:
        config.model_transaction_policy.decoupled = True
    if settings.sequence_batching:
        config.sequence_batching.CopyFrom(_sequences(settings.sequence_batching))
    elif settings.dynamic_batching:
        config.dynamic_batching.CopyFrom(_batching(settings.dynamic_batching))


def put_whole(config: Any, settings: Triton) -> None:
    """Write into `config` of an ensemble what `of_ensemble` gave it."""
    if settings.response_cache:
        config.response_cache.enable = settings.response_cache.enable
    if settings.decoupled:
        config.model_transaction_policy.decoupled = True


def put_warmup(config: Any, warmup: ModelWarmup, samples: Sequence[Sample]) -> None:
    """Write into `config` of a part that each instance answers `samples` first, from the files of `warmup_files`.

    Args:
        config: with its inputs.
        warmup: which sizes, how often.
        samples: one row each: input -> `[1, width]`.
    """
    for row, sample in enumerate(samples):
        for size in warmup.batch_size:
            entry = config.model_warmup.add(name=f"golden {row}, {size} of it", batch_size=size, count=warmup.count)
            for place, tensor in enumerate(config.input):
                given = entry.inputs[tensor.name]
                given.data_type = tensor.data_type
                given.dims.append(sample[tensor.name].shape[1])
                given.input_data_file = f"{row}.{place}"


def warmup_files(inputs: Sequence[str], samples: Sequence[Sample]) -> dict[str, bytes]:
    """Path inside a model -> what Triton reads there to warm it up.

    Args:
        inputs: the model's, in the order of its configuration.
        samples: as for `put_warmup`.
    """
    return {
        f"warmup/{row}.{place}": _raw(sample[name])
        for row, sample in enumerate(samples)
        for place, name in enumerate(inputs)
    }


def _raw(array: npt.NDArray[Any]) -> bytes:
    """A tensor as Triton reads it from a file."""
    import numpy as np
    from tritonclient.utils import serialize_byte_tensor

    return serialize_byte_tensor(array).item() if array.dtype == np.object_ else np.ascontiguousarray(array).tobytes()


def _group(group: InstanceGroup) -> Any:
    from tritonclient.grpc import model_config_pb2 as proto

    kinds = {"cpu": proto.ModelInstanceGroup.KIND_CPU, "gpu": proto.ModelInstanceGroup.KIND_GPU}
    made = proto.ModelInstanceGroup(kind=kinds[group.kind], count=group.count, gpus=group.gpus)
    if group.rate_limiter:
        made.rate_limiter.priority = group.rate_limiter.priority
        for resource in group.rate_limiter.resources:
            made.rate_limiter.resources.add(name=resource.name, count=resource.count)
    return made


def _batching(batching: DynamicBatching) -> Any:
    from tritonclient.grpc import model_config_pb2 as proto

    policies = {level: _policy(policy) for level, policy in batching.priority_queue_policy.items()}
    return proto.ModelDynamicBatching(
        preferred_batch_size=batching.preferred_batch_size,
        max_queue_delay_microseconds=batching.max_queue_delay_microseconds,
        preserve_ordering=batching.preserve_ordering,
        priority_levels=batching.priority_levels,
        default_priority_level=batching.default_priority_level,
        default_queue_policy=_policy(batching.default_queue_policy) if batching.default_queue_policy else None,
        priority_queue_policy=policies,
    )


def _sequences(batching: SequenceBatching) -> Any:
    from tritonclient.grpc import model_config_pb2 as proto

    made = proto.ModelSequenceBatching(max_sequence_idle_microseconds=batching.max_sequence_idle_microseconds)
    if batching.oldest:
        oldest = batching.oldest
        made.oldest.max_candidate_sequences = oldest.max_candidate_sequences
        made.oldest.preferred_batch_size.extend(oldest.preferred_batch_size)
        made.oldest.max_queue_delay_microseconds = oldest.max_queue_delay_microseconds
        made.oldest.preserve_ordering = oldest.preserve_ordering
        return made
    direct = batching.direct or Direct()
    made.direct.max_queue_delay_microseconds = direct.max_queue_delay_microseconds
    made.direct.minimum_slot_utilization = direct.minimum_slot_utilization
    return made


def _policy(policy: QueuePolicy) -> Any:
    from tritonclient.grpc import model_config_pb2 as proto

    return proto.ModelQueuePolicy(
        timeout_action=proto.ModelQueuePolicy.TimeoutAction.Value(policy.timeout_action.upper()),
        default_timeout_microseconds=policy.default_timeout_microseconds,
        allow_timeout_override=policy.allow_timeout_override,
        max_queue_size=policy.max_queue_size,
    )
