"""The model file of every Python-backend model in a bundle: one ONNX graph, run by ONNX Runtime inside Triton.

Triton imports a copy of this file from the folder of a model's version, where `model.onnx` lies beside it; nothing else
of Trilha is there. Inputs and outputs are those that the model's configuration names.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

PATIENCE = 10
"""The niceness of loading: it takes a tenth of a core that those who are served meanwhile would keep busy."""


def _patiently(load: Callable[[], None]) -> None:
    """Run `load` in a thread of little priority. A process may not take its own back, but a thread's ends with it."""
    failed: list[BaseException] = []

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PATIENCE)
        try:
            load()
        except BaseException as error:  # noqa: BLE001  # raised again where Triton hears of it
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _provider(args: dict[str, str]) -> str | tuple[str, dict[str, str]]:
    """Where ONNX Runtime runs the graph: an instance for a GPU does not fall back to the CPU."""
    import onnxruntime

    if args["model_instance_kind"] != "GPU":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise RuntimeError("instance_group of kind gpu: this ONNX Runtime has no CUDA; install onnxruntime-gpu")
    return "CUDAExecutionProvider", {"device_id": args["model_instance_device_id"]}


class TritonPythonModel:
    """What Triton's Python backend asks a model file for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph.

        Args:
            args: `model_config` (JSON), `model_repository` (the model's folder), `model_version`, and the device that
                this instance is for: `model_instance_kind`, `model_instance_device_id`.
        """
        _patiently(lambda: self._load(args))

    def _load(self, args: dict[str, str]) -> None:
        import onnxruntime
        import triton_python_backend_utils as triton

        config = json.loads(args["model_config"])
        threads = int(config["parameters"]["intra_op_threads"]["string_value"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=[_provider(args)])
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._triton = triton
        # The wheel's server brings its own way to take arrays: see components/adapters/triton_numpy.py.
        self._tensor = getattr(triton, "tensor_from_numpy", triton.Tensor)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests with one run of the graph; a request that cannot be read fails alone."""
        responses: list[Any] = [None] * len(requests)
        feeds: dict[int, dict[str, np.ndarray[Any, Any]]] = {}
        for index, request in enumerate(requests):
            try:
                feeds[index] = self._feed(request)
            except UnicodeDecodeError as error:
                responses[index] = self._failure(f"text is not UTF-8: {error}")
        for index, answer in self._answers(feeds).items():
            responses[index] = answer
        return responses

    def _feed(self, request: Any) -> dict[str, np.ndarray[Any, Any]]:
        """What a request brings."""
        return {name: self._read(request, name) for name in self._inputs}

    def _read(self, request: Any, name: str) -> np.ndarray[Any, Any]:
        import numpy as np

        array: np.ndarray[Any, Any] = self._triton.get_input_tensor_by_name(request, name).as_numpy()
        if array.dtype == np.object_:
            return np.array([text.decode() for text in array.ravel()], dtype=np.object_).reshape(array.shape)
        return array

    def _answers(self, feeds: dict[int, dict[str, np.ndarray[Any, Any]]]) -> dict[int, Any]:
        """Run the graph on all rows at once and give each request its own rows back."""
        import numpy as np

        if not feeds:
            return {}
        rows = [len(feed[self._inputs[0]]) for feed in feeds.values()]
        names = next(iter(feeds.values()))
        batch = {name: np.concatenate([feed[name] for feed in feeds.values()]) for name in names}
        try:
            outputs = self._session.run(self._outputs, batch)
        except Exception as error:  # noqa: BLE001  # ONNX Runtime's errors have no common class; the client gets its words
            return dict.fromkeys(feeds, self._failure(str(error)))
        edges = np.cumsum(rows)[:-1]
        parts = zip(*(np.split(output, edges) for output in outputs), strict=True)
        return {index: self._response(part) for index, part in zip(feeds, parts, strict=True)}

    def _response(self, arrays: tuple[np.ndarray[Any, Any], ...]) -> Any:
        tensors = [self._tensor(name, array) for name, array in zip(self._outputs, arrays, strict=True)]
        return self._triton.InferenceResponse(output_tensors=tensors)

    def _failure(self, problem: str) -> Any:
        return self._triton.InferenceResponse(output_tensors=[], error=self._triton.TritonError(problem))
