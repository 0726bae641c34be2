from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.serve_settings import UNSET, Triton, of_ensemble, of_part

EVERYTHING: dict[str, Any] = {
    "instance_group": [
        {"count": 2, "kind": "gpu", "gpus": [0, 1], "rate_limiter": {"resources": [{"name": "R", "count": 2}]}},
        {"count": 1, "kind": "cpu"},
    ],
    "dynamic_batching": {
        "preferred_batch_size": [4, 8],
        "max_queue_delay_microseconds": 500,
        "priority_levels": 2,
        "default_priority_level": 2,
        "default_queue_policy": {"timeout_action": "reject", "default_timeout_microseconds": 10_000},
    },
    "model_warmup": {"rows": 3, "batch_size": [1, 8]},
    "response_cache": {"enable": True},
    "version_policy": {"latest": {"num_versions": 3}},
}


def test_the_part_that_learned_gets_all_that_is_for_parts() -> None:
    """GPUs, rate limits, preferred sizes and the delay are for the part with the model, also where it is fused."""
    settings = Triton(**EVERYTHING)
    for part in ("model", "fused"):
        mine = of_part(settings, part)
        assert mine.instance_group == settings.instance_group
        assert mine.dynamic_batching == settings.dynamic_batching
        assert mine.model_warmup == settings.model_warmup
        assert mine.response_cache is None


@pytest.mark.parametrize("part", ["pre", "post"])
def test_the_other_parts_keep_pace(part: str) -> None:
    """They have as many instances, on the CPU, the same priorities, and no delay of their own that would add up."""
    mine = of_part(Triton(**EVERYTHING), part)
    assert [(group.count, group.kind, group.rate_limiter) for group in mine.instance_group] == [(3, "cpu", None)]
    batching = mine.dynamic_batching
    assert batching
    assert (batching.preferred_batch_size, batching.max_queue_delay_microseconds) == ((), 0)
    assert (batching.priority_levels, batching.default_priority_level) == (2, 2)
    assert batching.default_queue_policy
    assert mine.model_warmup


def test_the_ensemble_remembers() -> None:
    """The cache is the ensemble's, so that one look answers the whole request."""
    settings = Triton(**EVERYTHING)
    assert of_ensemble(settings) == Triton(response_cache=settings.response_cache)


def test_nothing_set_changes_nothing() -> None:
    """A project without settings has what every part had before there were any."""
    for part in ("pre", "model", "post", "fused"):
        assert of_part(UNSET, part) == UNSET
    assert of_ensemble(UNSET) == UNSET


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"instance_group": [{"kind": "cpu", "gpus": [0]}]}, "no `gpus` with kind cpu"),
        ({"instance_group": [{"count": 0}]}, "greater than 0"),
        ({"dynamic_batching": {"preferred_batch_size": [8, 4]}}, "ascending"),
        ({"dynamic_batching": {"priority_levels": 2, "default_priority_level": 3}}, "from 1 to 2"),
        ({"dynamic_batching": {"priority_levels": 2}}, "from 1 to 2"),
        ({"dynamic_batching": {"default_priority_level": 1}}, "`priority_levels` where"),
        (
            {
                "dynamic_batching": {
                    "priority_levels": 1,
                    "default_priority_level": 1,
                    "priority_queue_policy": {2: {}},
                }
            },
            "from 1 to 1",
        ),
        ({"dynamic_batching": {"default_queue_policy": {"timeout_action": "drop"}}}, "'reject' or 'delay'"),
        ({"dynamic_batching": True}, "dynamic_batching"),
        ({"version_policy": {}}, "one of `latest`"),
        ({"version_policy": {"all": {}, "specific": {"versions": [1]}}}, "one of `latest`"),
        ({"instances": 2}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], words: str) -> None:
    """A setting that contradicts itself, or that nobody reads, is refused when it is read, not when it serves."""
    with pytest.raises(ValidationError, match=words):
        Triton(**settings)


def test_no_memory_where_answers_differ() -> None:
    """The same tensors may have other answers in a sequence, so a cache of answers goes with neither."""
    for other in ({"sequence_batching": {}}, {"model_transaction_policy": {"decoupled": True}}):
        with pytest.raises(ValidationError, match="no `response_cache`"):
            Triton(response_cache={"enable": True}, **other)
    with pytest.raises(ValidationError, match="one of `direct` and `oldest`"):
        Triton(sequence_batching={"direct": {}, "oldest": {}})


def test_sequences_are_of_the_part_that_learned() -> None:
    """The parts around it stay as they are, and the ensemble is told of several answers."""
    settings = Triton(sequence_batching={"oldest": {}}, model_transaction_policy={"decoupled": True})
    assert of_part(settings, "model") == settings
    for part in ("pre", "post"):
        assert of_part(settings, part) == UNSET
    assert of_ensemble(settings).decoupled
