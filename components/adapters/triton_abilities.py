"""What a server is without, found by asking it: Triton says nothing of settings that it passes over.

Each look puts a small model into the repository, has it loaded, and takes it out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from components.bundle import CONFIG, VERSION
from components.errors import GateError
from components.serve_settings import InstanceGroup, RateLimiter, Resource, ResponseCache, Triton

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

_PYTHON: Final = """
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        make = getattr(triton, "tensor_from_numpy", triton.Tensor)
        given = [triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [triton.InferenceResponse([make("y", array)]) for array in given]
"""


class Server(Protocol):
    """What a look takes."""

    def publish(self, models: Mapping[str, Mapping[str, Path | str | bytes]]) -> None: ...

    def load(self, model: str) -> None: ...

    def unload(self, model: str) -> None: ...

    def infer(self, model: str, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]: ...

    def hits(self, model: str) -> int: ...


def lacking(server: Server, settings: Triton, target: str) -> dict[str, str]:
    """As `ModelServer.lacks`."""
    looks = {"instance_group": _gpus, "rate_limiter": _rate_limit, "response_cache": _cache}
    try:
        found = {name: look(server, settings, target) for name, look in looks.items()}
    except GateError as error:
        if "unable to find backend" in error.details:
            return {}  # it lacks the target itself, which `targets` tells
        raise
    return {name: words for name, words in found.items() if words}


def _gpus(server: Server, settings: Triton, target: str) -> str:
    groups = tuple(group for group in settings.instance_group if group.kind == "gpu")
    if not groups:
        return ""
    try:
        _probe(server, "gpu", target, Triton(instance_group=groups))
    except GateError as error:
        if "gpu" in error.details.lower():
            return f"such GPUs ({error.details.strip().rsplit('Invalid argument: ', 1)[-1].rstrip('; ')})"
        raise
    finally:
        server.unload("trilha-probe-gpu")
    return ""


def _rate_limit(server: Server, settings: Triton, target: str) -> str:
    """A server with a rate limiter refuses a resource that is global and of a device; one without passes it over.

    One instance has both: where the second of two fails while they are loaded side by side, as the ONNX Runtime backend
    does it, Triton 2.51 dies.
    """
    if not any(group.rate_limiter for group in settings.instance_group):
        return ""
    name = "trilha-probe-rate"
    limited = InstanceGroup(rate_limiter=RateLimiter(resources=(Resource(name=name),)))
    try:
        _probe(server, "rate", target, Triton(instance_group=(limited,)), contradict=True)
    except GateError as error:
        if name in error.details:
            return ""
        raise
    finally:
        server.unload(name)
    return "a rate limiter"


def _cache(server: Server, settings: Triton, target: str) -> str:
    import numpy as np

    if not settings.response_cache or not settings.response_cache.enable:
        return ""
    name = "trilha-probe-cache"
    try:
        _probe(server, "cache", target, Triton(response_cache=ResponseCache()))
        for _ in range(2):
            server.infer(name, {"x": np.zeros((1, 1), np.float32)})
        found = server.hits(name)
    finally:
        server.unload(name)
    return "" if found else "a response cache"


def _probe(server: Server, what: str, target: str, settings: Triton, *, contradict: bool = False) -> None:
    """Load a model that answers what it is asked.

    Args:
        server: where.
        what: ends its name.
        target: of the bundle, whose backend runs it.
        settings: its own.
        contradict: its resource is a global one too.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as proto

    from components.adapters.triton_config import Graph, Tensor, part_config
    from components.adapters.triton_settings import put_whole

    x, y = Tensor("x", "TYPE_FP32", 1), Tensor("y", "TYPE_FP32", 1)
    name = f"trilha-probe-{what}"
    config = text_format.Parse(part_config(name, Graph((x,), (y,)), [y.name], target, settings), proto.ModelConfig())
    put_whole(config, settings)
    if contradict:
        (resource,) = config.instance_group[0].rate_limiter.resources
        config.instance_group[0].rate_limiter.resources.add(
            name=resource.name, **{"global": True}
        )  # a word of Python's
    graph: dict[str, str | bytes] = (
        {f"{VERSION}/model.py": _PYTHON} if target == "auto" else {f"{VERSION}/model.onnx": _identity()}
    )
    server.publish({name: {CONFIG: text_format.MessageToString(config), **graph}})
    server.load(name)


def _identity() -> bytes:
    """`y = x`, `[rows, 1]`."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    made: bytes = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 15)]
    ).SerializeToString()
    return made
