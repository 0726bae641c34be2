"""Bundles with Triton's own settings, on the real server: what holds, and what is refused by name."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from components.adapters.triton_server import TritonServer
from components.bundle import CONFIG
from components.errors import GateError
from components.export import export
from components.golden import features_of
from components.ledger import running_as
from components.model_inputs import to_tensors
from components.project import Serve
from components.qualify import qualify
from components.records import Bundle, digest
from components.serve_settings import Triton
from components.serving import bring_up, take_down
from components.workspace import Workspace, open_workspace
from tests.triton import Fitted, candidate_in, slow, start
from tests.triton import Triton as Server

BATCHING = {
    "preferred_batch_size": [4, 8],
    "max_queue_delay_microseconds": 200,
    "priority_levels": 2,
    "default_priority_level": 2,
    "default_queue_policy": {"timeout_action": "reject", "default_timeout_microseconds": 5_000_000},
}


def serve(**settings: Any) -> Serve:
    return Serve(golden=24, p99_ms=5000, triton=Triton(**settings))


def made(workspace: Workspace, fitted: Fitted, wanted: Serve) -> Bundle:
    with running_as(digest(wanted)):
        return export("flights", "test", *candidate_in(workspace, fitted), wanted)


def golden_row(workspace: Workspace, bundle: Bundle) -> dict[str, Any]:
    golden = pq.read_table(workspace.artifacts.local(bundle.golden)).slice(0, 1)
    return to_tensors(golden, features_of(golden, bundle.task))


@pytest.mark.parametrize("join", ["ensemble", "fused"])
def test_instances_batching_warm_up_and_priorities(
    served: Workspace, fitted: Fitted, triton: Server, join: str
) -> None:
    """A bundle with all of these loads, each instance is warm before it is asked, and it answers as the notebook did."""
    wanted = serve(
        instance_group=[{"count": 2}], dynamic_batching=BATCHING, model_warmup={"rows": 2, "batch_size": [1, 4]}
    ).model_copy(update={"join": join})
    bundle = made(served, fitted, wanted)
    assert bundle.triton == wanted.triton
    bring_up(served, bundle)
    parts = ("fused",) if join == "fused" else ("pre", "model", "post")
    with InferenceServerClient(triton.address) as client:
        for part in parts:
            stats = client.get_inference_statistics(f"{bundle.model}-{part}").model_stats[0]
            assert {one.batch_size: one.compute_infer.count for one in stats.batch_stats} == {1: 4, 4: 4}
            assert not stats.inference_stats.fail.count
        config = client.get_model_config(f"{bundle.model}-{'fused' if join == 'fused' else 'model'}").config
    assert [group.count for group in config.instance_group] == [2]
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.priority_levels == 2
    assert qualify("test", bundle, wanted).difference <= 1e-6


def test_settings_change_the_bundle_s_name(served: Workspace, fitted: Fitted) -> None:
    """Settings are part of what a bundle is; no settings are the bundle of before."""
    plain, two = made(served, fitted, serve()), made(served, fitted, serve(instance_group=[{"count": 2}]))
    assert plain.model != two.model
    changed = {
        path.removeprefix(two.model)
        for path, file in two.files.items()
        if file.sha256 != plain.files[plain.model + path.removeprefix(two.model)].sha256
    }
    assert {f"-{part}/{CONFIG}" for part in ("pre", "model", "post")} <= changed
    assert not any("onnx" in path for path in changed)


def test_remembered_answers_are_not_what_is_measured(served: Workspace, fitted: Fitted) -> None:
    """With a cache the answers are right too, they come from memory, and the p99 is that of a model that really runs."""
    wanted = serve(response_cache={"enable": True})
    bundle = made(served, fitted, wanted)
    qualify("test", bundle, wanted)
    server = served.server
    assert isinstance(server, TritonServer)
    before = server.hits(bundle.model)
    server.infer(bundle.model, golden_row(served, bundle))
    assert server.hits(bundle.model) == before + 1
    assert before <= 24  # of 300 and more requests that were timed, none
    assert f"{bundle.model}-uncached" not in server.loaded()


@pytest.fixture
def bare(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace whose server, elsewhere, was started without what its operator did not think of."""
    server = start(tmp_path_factory.mktemp("bare"), without=("--cache-config", "--rate-limit"))
    path = repository / "config" / "profiles" / "test.yaml"
    settings = f"url: '{server.address}', http: '{server.http}', repository: '{server.repository}'"
    path.write_text(f"{path.read_text()}services: {{triton: {{{settings}}}}}\n")
    open_workspace.cache_clear()
    yield open_workspace("test")
    server.process.terminate()
    server.process.wait(20)


LIMITED = {"instance_group": [{"rate_limiter": {"resources": [{"name": "core"}]}}]}


def test_what_a_server_elsewhere_was_started_without(bare: Workspace, fitted: Fitted) -> None:
    """Triton says nothing of a cache and a rate limiter that it does not have; qualify does, and loads nothing."""
    for settings, words in (
        (
            {"response_cache": {"enable": True}},
            r"serve\.triton\.response_cache: the Triton at .* without a response cache; accepted: .*--cache-config",
        ),
        (LIMITED, r"serve\.triton\.instance_group\.rate_limiter: .* without a rate limiter; accepted: .*--rate-limit"),
    ):
        wanted = serve(**settings)
        with pytest.raises(GateError, match=words):
            qualify("test", made(bare, fitted, wanted), wanted)
        assert not bare.server.loaded()


def test_what_the_embedded_server_has(served: Workspace, fitted: Fitted) -> None:
    """The server that `trilha up` starts is lacking neither: both are qualified there, and answered with."""
    wanted = serve(**LIMITED, response_cache={"enable": True})
    assert qualify("test", made(served, fitted, wanted), wanted).difference <= 1e-6


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="this machine has a GPU")
@pytest.mark.parametrize("gpus", [[], [0]])
def test_gpus_that_are_not_there(served: Workspace, fitted: Fitted, gpus: list[int]) -> None:
    """Instances on a GPU are refused by name on a server that sees none, with what is accepted."""
    wanted = serve(instance_group=[{"kind": "gpu", "gpus": gpus}])
    with pytest.raises(GateError, match=r"serve\.triton\.instance_group: .* without such GPUs .*accepted: .*kind: cpu"):
        qualify("test", made(served, fitted, wanted), wanted)


def ask_all(client: InferenceServerClient, bundle: Bundle, row: dict[str, Any], priorities: list[int]) -> list[str]:
    """Ask at the same time, in this order; the answers' priorities or errors, as they came in."""
    tensors = []
    for name, array in row.items():
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    came: queue.Queue[str] = queue.Queue()
    for priority in priorities:

        def answered(result: Any, error: Any, priority: int = priority) -> None:
            came.put(error.message() if error else str(priority))

        client.async_infer(bundle.model, tensors, answered, priority=priority)
    return [came.get(timeout=30) for _ in priorities]


def test_priorities_hold_through_the_ensemble(served: Workspace, fitted: Fitted, triton: Server) -> None:
    """Of requests that wait, one of a higher level goes first, though it came last and asked the ensemble."""
    batching = {"preferred_batch_size": [1], "priority_levels": 2, "default_priority_level": 2}
    bundle = made(served, fitted, serve(dynamic_batching=batching))
    slow(served, bundle)
    with InferenceServerClient(triton.address) as client:
        came = ask_all(client, bundle, golden_row(served, bundle), [0] * 8 + [1])
    assert came.index("1") < 4
    take_down(served.server, bundle.model)


def test_a_full_queue_refuses(served: Workspace, fitted: Fitted, triton: Server) -> None:
    """Beyond the queue's size requests are refused in the server's words, and those in it are answered."""
    policy = {"max_queue_size": 2}
    bundle = made(served, fitted, serve(dynamic_batching={"preferred_batch_size": [1], "default_queue_policy": policy}))
    slow(served, bundle)
    row = golden_row(served, bundle)
    with InferenceServerClient(triton.address) as client:
        came = ask_all(client, bundle, row, [0] * 12)
    refused = [words for words in came if words != "0"]
    assert len(refused) >= 4
    assert "0" in came
    assert all("queue size" in words for words in refused)
    take_down(served.server, bundle.model)
