"""`target: full` on a Triton that has the ONNX Runtime backend: all that `auto` does, with the same answers."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from components.adapters.triton_server import TritonServer
from components.bundle import bundle_of
from components.errors import GateError
from components.export import export
from components.golden import features_of
from components.ledger import running_as
from components.model_inputs import frame_to_tensors, to_tensors
from components.project import Serve
from components.qualify import qualify
from components.reconcile import uphold
from components.records import Bundle, digest
from components.release import release
from components.rollout import promote
from components.rollout_settings import RolloutRules
from components.serve_settings import Triton
from components.serving import bring_up, serve, take_down
from components.standalone import TOLERANCE, standalone
from components.workspace import Workspace
from tests.components import test_python_part as parts
from tests.components import test_standalone as files
from tests.components.gateway.conftest import PROJECT, ROW, Running, running, until
from tests.components.gateway.load import Load
from tests.components.test_frameworks import candidate_from, needs, pre_of, prepared_for, trial_on
from tests.components.test_release import evidence, is_served
from tests.conftest import place_small
from tests.triton import FEATURES, Fitted, candidate_in, fit, release_of
from tests.triton import Triton as Server

pytestmark = pytest.mark.long

module = parts.module
FULL = Serve(target="full", golden=24, p99_ms=5000)


def made(workspace: Workspace, fitted: Fitted, wanted: Serve) -> Bundle:
    with running_as(digest(wanted)):
        return export("flights", "test", *candidate_in(workspace, fitted), wanted)


def with_settings(**settings: Any) -> Serve:
    return FULL.model_copy(update={"triton": Triton(**settings)})


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A model that answers differently."""
    return fit(tmp_path_factory.mktemp("second"), seed=5, scale=2.0)


@pytest.mark.parametrize(
    "make",
    [
        files.vocabulary,
        files.embedding,
        files.lookup,
        files.lightgbm_file,
        files.sklearn_file,
        pytest.param(files.xgboost_file, marks=needs("xgboost")),
        pytest.param(files.keras_pictures, marks=needs("keras")),
        pytest.param(files.saved_model, marks=needs("tensorflow")),
        pytest.param(files.torch_file, marks=needs("torch")),
        files.onnx_file,
    ],
)
def test_from_a_file(served: Workspace, triton: Server, tmp_path: Path, make: Callable[[Path], files.Made]) -> None:
    """What a file holds answers as its framework does, and to the last bit as in the Python backend."""
    path, asked, expected = make(tmp_path)
    found = {}
    for target in ("auto", "full"):
        name = f"{target}-{make.__name__.replace('_', '-')}"
        standalone(path, name, triton.repository, target)
        served.server.load(name)
        (found[target],) = served.server.infer(name, asked).values()
        served.server.unload(name)
    np.testing.assert_allclose(found["full"], expected, atol=TOLERANCE)
    np.testing.assert_array_equal(found["full"], found["auto"])


@pytest.mark.parametrize("join", ["ensemble", "fused"])
def test_a_bundle_answers_as_for_auto(served: Workspace, fitted: Fitted, triton: Server, join: str) -> None:
    """The same on texts, numbers and missing values of many rows; no process beside the server has to live for it."""
    auto, full = (
        made(served, fitted, FULL.model_copy(update={"join": join, "target": target})) for target in ("auto", "full")
    )
    inputs = to_tensors(pq.read_table(fitted.test), FEATURES)
    found = []
    for bundle in (auto, full):
        assert qualify("test", bundle, FULL).difference <= 1e-6
        found.append(served.server.infer(bundle.model, inputs))
    np.testing.assert_array_equal(found[0]["probability"], found[1]["probability"])
    np.testing.assert_array_equal(found[0]["label"], found[1]["label"])
    commands = [" ".join(process.cmdline()) for process in psutil.Process(triton.process.pid).children()]
    assert any(auto.model in command for command in commands)
    assert not any(full.model in command for command in commands)


def test_texts_that_are_none(served: Workspace, fitted: Fitted) -> None:
    """Bytes that are no UTF-8 are a value that nobody has learned of: this backend does not look into texts."""
    bundle = made(served, fitted, FULL)
    bring_up(served, bundle)
    asked = to_tensors(pq.read_table(fitted.test).slice(0, 1), FEATURES)
    unknown, none = (
        served.server.infer(bundle.model, asked | {"carrier": np.array([[text]], dtype=object)})["probability"]
        for text in ("never heard of", b"\xff\xfe")
    )
    np.testing.assert_array_equal(unknown, none)


def test_a_part_that_is_no_graph(served: Workspace, tmp_path: Path, module: Any) -> None:
    """A class of the project's own stays in the Python backend, between graphs that do not."""
    run = parts.allowed(trial_on(served, prepared_for(served, "multiclass"), tmp_path / "out"), module)
    pre = pre_of(run)
    model = parts.nearest(module, run, pre)
    run.save(pre=pre, model=model)
    with running_as("e" * 64):
        bundle = export("small", served.name, candidate_from(served, run), run.spec.prepared, FULL)
    qualify(served.name, bundle, FULL)
    answers = served.server.infer(bundle.model, frame_to_tensors(run.test, run.features))
    take_down(served.server, bundle.model)
    np.testing.assert_allclose(answers["probabilities"], run.answers(pre, model, run.test).numbers(), atol=1e-6)


@pytest.mark.parametrize("join", ["ensemble", "fused"])
def test_instances_and_warm_up(served: Workspace, fitted: Fitted, triton: Server, join: str) -> None:
    """Each of two instances answers what it is warmed up with, and both are there before anybody asks."""
    wanted = with_settings(
        instance_group=[{"count": 2}],
        model_warmup={"rows": 2, "batch_size": [1, 4]},
        dynamic_batching={"priority_levels": 2, "default_priority_level": 2},
    ).model_copy(update={"join": join})
    bundle = made(served, fitted, wanted)
    bring_up(served, bundle)
    with InferenceServerClient(triton.address) as client:
        for part in ("fused",) if join == "fused" else ("pre", "model", "post"):
            (stats,) = client.get_inference_statistics(f"{bundle.model}-{part}").model_stats
            assert {one.batch_size: one.compute_infer.count for one in stats.batch_stats} == {1: 4, 4: 4}
            assert f"{bundle.model}-{part}_0_1 (CPU" in triton.log.read_text()
    assert qualify("test", bundle, wanted).difference <= 1e-6


def test_requests_go_together(served: Workspace, fitted: Fitted, triton: Server) -> None:
    """Dynamic batching runs the graph once for requests that wait, and each gets its own answer."""
    bundle = made(
        served, fitted, with_settings(dynamic_batching={"max_queue_delay_microseconds": 50_000}).model_copy(
            update={"join": "fused"}
        ),
    )  # fmt: skip
    bring_up(served, bundle)
    inputs = to_tensors(pq.read_table(fitted.test), FEATURES)
    expected = served.server.infer(bundle.model, inputs)["probability"]
    came: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    with InferenceServerClient(triton.address) as client:
        (before,) = client.get_inference_statistics(f"{bundle.model}-fused").model_stats
        for row in range(60):
            asked = []
            for name, array in inputs.items():
                asked.append(InferInput(name, [1, *array.shape[1:]], np_to_triton_dtype(array.dtype)))
                asked[-1].set_data_from_numpy(array[row : row + 1])
            client.async_infer(
                bundle.model, asked, lambda result, error, row=row: came.put((row, result, error)), client_timeout=30
            )
        for _ in range(60):
            row, result, error = came.get(timeout=30)
            assert error is None
            assert result.as_numpy("probability")[0] == pytest.approx(expected[row], abs=1e-6)
        (after,) = client.get_inference_statistics(f"{bundle.model}-fused").model_stats
    assert after.inference_count - before.inference_count == 60
    assert after.execution_count - before.execution_count < 30


def test_remembered_answers(served: Workspace, fitted: Fitted) -> None:
    """The server's cache stands before the ensemble, whatever runs its parts."""
    wanted = with_settings(response_cache={"enable": True})
    bundle = made(served, fitted, wanted)
    qualify("test", bundle, wanted)
    server = served.server
    assert isinstance(server, TritonServer)
    golden = pq.read_table(served.artifacts.local(bundle.golden)).slice(0, 1)
    before = server.hits(bundle.model)
    server.infer(bundle.model, to_tensors(golden, features_of(golden, bundle.task)))
    assert server.hits(bundle.model) == before + 1


def test_what_the_machine_lacks(served: Workspace, fitted: Fitted) -> None:
    """A rate limiter is there; a GPU that is not is refused by name, and the bundle is not left behind."""
    group = {"rate_limiter": {"resources": [{"name": "one", "count": 1}]}}
    qualify("test", made(served, fitted, with_settings(instance_group=[group])), FULL)
    wanted = with_settings(instance_group=[{"kind": "gpu", "gpus": [7]}])
    bundle = made(served, fitted, wanted)
    with pytest.raises(GateError, match=r"serve\.triton\.instance_group: .* without such GPUs"):
        qualify("test", bundle, wanted)
    assert bundle.model not in served.server.loaded()


def test_several_versions(served: Workspace, fitted: Fitted) -> None:
    """`latest` keeps as many releases as it says, and each answers by its own name."""
    made = []
    for instances in (1, 2, 3, 4):
        wanted = with_settings(
            instance_group=[{"count": instances}], version_policy={"latest": {"num_versions": 3}}
        ).model_copy(update={"join": "fused"})
        made.append(release_of(served, fitted, "versions", f"{instances}", serve=wanted))
        uphold(served, made[-1])
    held = {model for model in served.server.loaded() if bundle_of("versions", model) == model}
    assert held == {one.bundle.model for one in made[1:]}
    inputs = to_tensors(pq.read_table(fitted.test), FEATURES)
    answers = [served.server.infer(model, inputs)["probability"] for model in sorted(held)]
    for model in {*held, "versions"}:
        take_down(served.server, model)
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_from_auto_to_full_and_on(registry: Workspace, fitted: Fitted, second: Fitted) -> None:
    """A release for `auto`, then one for `full` as a candidate beside it, promoted: one roll-out over two backends."""
    with running_as(digest("one")):
        one = release("flights", "test", **evidence(registry, fitted, "one"))
    is_served(registry, one, fitted)
    with running_as(digest("two")):
        two = release("flights", "test", **evidence(registry, second, "two", target="full"), rollout=RolloutRules())
    is_served(registry, one, fitted)
    assert two.bundle.model in registry.server.loaded()
    promote(registry, "flights", "a test")
    is_served(registry, two, second)


@pytest.fixture
def gateway(served: Workspace, repository: Path, fitted: Fitted) -> Iterator[Running]:
    """One before a release for `full`."""
    place_small(repository)
    serve(served, release_of(served, fitted, PROJECT, serve=FULL).bundle, PROJECT)
    with running(repository, {}) as found:
        yield found


def test_switches_under_load(gateway: Running, fitted: Fitted, second: Fitted) -> None:
    """While clients ask, releases follow each other: no request fails, and each answer is that of the release it names."""
    workspace = gateway.workspace
    with Load(gateway.client.base_url) as load:
        load.more()
        for number, model in ((2, second), (3, fitted), (4, second)):
            serve(workspace, release_of(workspace, model, PROJECT, f"{number}", serve=FULL).bundle, PROJECT)
            until(lambda number=number: gateway.predict(ROW).json()["release"] == number)
            load.more()
    assert set(load.check()) == {1, 2, 3, 4}
    said: dict[int, set[float]] = {}
    for told in load.answers:
        said.setdefault(told.answer["release"], set()).add(told.answer["answers"][0]["probability"])
    assert all(len(values) == 1 for values in said.values())
    assert said[1] == said[3] != said[2] == said[4]


def test_a_model_that_was_unloaded(gateway: Running, served: Workspace) -> None:
    """The first request that finds out has it loaded again, and is answered late."""
    (model,) = {bundle_of(PROJECT, part) for part in served.server.parts(PROJECT)}
    assert model is not None
    take_down(served.server, model)
    assert gateway.predict(ROW).status_code == 200
