"""Settings as Triton's own classes read them back from the `config.pbtxt` that was written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as proto

from components.adapters.triton_config import Graph, Tensor, ensemble_config, part_config, renamed
from components.adapters.triton_settings import warmup_files
from components.serve_settings import Triton

GRAPH = Graph((Tensor("city", "TYPE_STRING", 1), Tensor("features", "TYPE_FP32", -1)), (Tensor("y", "TYPE_FP32", 1),))
SAMPLE = {"city": np.array([["São"]], dtype=object), "features": np.array([[1.5, np.nan]], dtype=np.float32)}


def written(settings: dict[str, Any], samples: Any = ()) -> Any:
    text = part_config("m-model", GRAPH, ["y"], "auto", Triton(**settings), samples)
    return text_format.Parse(text, proto.ModelConfig())


def test_nothing_set() -> None:
    """Without settings a part is what it always was: one instance on the CPU that batches what waits."""
    config = written({})
    assert [(group.kind, group.count) for group in config.instance_group] == [(proto.ModelInstanceGroup.KIND_CPU, 1)]
    assert config.dynamic_batching == proto.ModelDynamicBatching()
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert not config.model_warmup
    assert not config.HasField("response_cache")


def test_instances() -> None:
    """Groups say how many, where, and what they hold while they run."""
    limited = {"priority": 3, "resources": [{"name": "disk", "count": 2}]}
    config = written(
        {
            "instance_group": [
                {"count": 2, "kind": "gpu", "gpus": [0, 1]},
                {"count": 3, "rate_limiter": limited},
            ]
        }
    )
    first, second = config.instance_group
    assert (first.kind, first.count, list(first.gpus)) == (proto.ModelInstanceGroup.KIND_GPU, 2, [0, 1])
    assert not first.HasField("rate_limiter")
    assert (second.kind, second.count) == (proto.ModelInstanceGroup.KIND_CPU, 3)
    assert second.rate_limiter.priority == 3
    assert [(one.name, one.count) for one in second.rate_limiter.resources] == [("disk", 2)]


def test_dynamic_batching() -> None:
    """Sizes, delay, order, levels and queue policies come out as they went in."""
    batching = written(
        {
            "dynamic_batching": {
                "preferred_batch_size": [4, 8],
                "max_queue_delay_microseconds": 300,
                "preserve_ordering": True,
                "priority_levels": 2,
                "default_priority_level": 2,
                "default_queue_policy": {
                    "timeout_action": "delay",
                    "default_timeout_microseconds": 5,
                    "max_queue_size": 9,
                },
                "priority_queue_policy": {1: {"allow_timeout_override": True}},
            }
        }
    ).dynamic_batching
    assert list(batching.preferred_batch_size) == [4, 8]
    assert batching.max_queue_delay_microseconds == 300
    assert batching.preserve_ordering
    assert (batching.priority_levels, batching.default_priority_level) == (2, 2)
    policy = batching.default_queue_policy
    assert policy.timeout_action == proto.ModelQueuePolicy.DELAY
    assert (policy.default_timeout_microseconds, policy.max_queue_size) == (5, 9)
    assert batching.priority_queue_policy[1].allow_timeout_override
    assert batching.priority_queue_policy[1].timeout_action == proto.ModelQueuePolicy.REJECT


def test_without_dynamic_batching() -> None:
    """Off is off: no scheduler is named."""
    assert written({"dynamic_batching": False}).WhichOneof("scheduling_choice") is None


def test_warm_up() -> None:
    """Each row and size is an entry of its own, whose files hold the row's bytes as Triton reads them."""
    warmup = {"model_warmup": {"rows": 2, "batch_size": [1, 8], "count": 3}}
    entries = written(warmup, [SAMPLE, SAMPLE]).model_warmup
    assert [(entry.batch_size, entry.count) for entry in entries] == [(1, 3), (8, 3)] * 2
    given = entries[3].inputs["features"]
    assert (given.data_type, list(given.dims), given.input_data_file) == (proto.TYPE_FP32, [2], "1.1")
    assert entries[0].inputs["city"].input_data_file == "0.0"
    files = warmup_files(["city", "features"], [SAMPLE, SAMPLE])
    assert files.keys() == {"warmup/0.0", "warmup/0.1", "warmup/1.0", "warmup/1.1"}
    assert files["warmup/0.0"] == b"\x04\x00\x00\x00S\xc3\xa3o"
    assert np.array_equal(np.frombuffer(files["warmup/1.1"], np.float32), SAMPLE["features"][0], equal_nan=True)


def test_the_cache_is_the_ensemble_s() -> None:
    """The ensemble remembers; what stands beside it to be measured does not."""
    parts = {"fused": "m-fused"}
    graphs = {"fused": Graph(GRAPH.inputs, (Tensor("probability", "TYPE_FP32", 1),))}
    text = ensemble_config("m", parts, graphs, Triton(response_cache={"enable": True}))
    assert text_format.Parse(text, proto.ModelConfig()).response_cache.enable
    assert text_format.Parse(renamed(text, "stable"), proto.ModelConfig()).response_cache.enable
    bare = text_format.Parse(renamed(text, "m-uncached", cached=False), proto.ModelConfig())
    assert not bare.HasField("response_cache")
    assert len(bare.ensemble_scheduling.step) == 1


@pytest.mark.parametrize("target", ["auto", "full"])
def test_the_same_for_every_target(target: str) -> None:
    """Settings are Triton's, not a backend's."""
    text = part_config("m", GRAPH, ["y"], target, Triton(instance_group=[{"count": 2}]))
    assert text_format.Parse(text, proto.ModelConfig()).instance_group[0].count == 2


def test_sequences() -> None:
    """Direct or oldest, with their own fields, in place of dynamic batching; direct where nothing is said."""
    oldest = {"max_candidate_sequences": 8, "preferred_batch_size": [4], "max_queue_delay_microseconds": 100}
    config = written({"sequence_batching": {"oldest": oldest, "max_sequence_idle_microseconds": 9}})
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert config.sequence_batching.max_sequence_idle_microseconds == 9
    assert config.sequence_batching.oldest.max_candidate_sequences == 8
    assert list(config.sequence_batching.oldest.preferred_batch_size) == [4]
    direct = written({"sequence_batching": {"direct": {"minimum_slot_utilization": 0.5}}}).sequence_batching
    assert direct.WhichOneof("strategy_choice") == "direct"
    assert direct.direct.minimum_slot_utilization == 0.5
    assert written({"sequence_batching": {}}).sequence_batching.WhichOneof("strategy_choice") == "direct"


def test_decoupled() -> None:
    """Said of the part and of the ensemble, and only where it is set."""
    settings = Triton(model_transaction_policy={"decoupled": True})
    graphs = {"fused": Graph(GRAPH.inputs, (Tensor("probability", "TYPE_FP32", 1),))}
    whole = text_format.Parse(ensemble_config("m", {"fused": "m-fused"}, graphs, settings), proto.ModelConfig())
    assert whole.model_transaction_policy.decoupled
    assert written({"model_transaction_policy": {"decoupled": True}}).model_transaction_policy.decoupled
    assert not written({}).HasField("model_transaction_policy")
