"""The model file of a bundle's part that is no graph: a class of the project's own, run in Triton's Python backend.

Triton imports a copy of this file from the folder of a model's version. Beside it lie `triton_model.py`, which knows
how to take requests and give answers, and what the part was kept as: `part.json`, `part.py` and `state.npz`.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

ABOUT, SOURCE, STATE = "part.json", "part.py", "state.npz"
"""What a part is kept as: its class, and what it takes and yields; the source; the arrays, never pickled."""


class Opened:
    """A part that was kept, ready to answer; it is asked as a session of ONNX Runtime is.

    Args:
        files: what it was kept as, by name.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        import numpy as np

        self.about = json.loads(files[ABOUT])
        module = ModuleType("part")
        exec(compile(files[SOURCE], SOURCE, "exec"), module.__dict__)  # noqa: S102  # the project's own code, as its notebook
        with np.load(io.BytesIO(files[STATE]), allow_pickle=False) as arrays:
            self._part = getattr(module, self.about["class"])(**dict(arrays))

    def run(self, _outputs: list[str], batch: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Its one output for a batch of rows; of a part that yields it in steps, the last one."""
        *_, last = self.steps(batch)
        return [last]

    def steps(self, batch: dict[str, np.ndarray[Any, Any]]) -> Iterator[np.ndarray[Any, Any]]:
        """All that it yields for a batch of rows: one output, or several of a generator."""
        import numpy as np

        rows, given = len(next(iter(batch.values()))), self._part(batch)
        for one in given if inspect.isgenerator(given) else (given,):
            found = np.asarray(one, dtype=np.float32)
            if found.shape != (rows, self.about["width"]):
                shape = [rows, self.about["width"]]
                raise ValueError(f"{self.about['class']} yields {list(found.shape)}, not {shape}")
            yield found


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TritonPythonModel(_beside("triton_model").TritonPythonModel):  # type: ignore[misc]  # found beside, wherever that is
    """What Triton's Python backend asks a model file for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the part.

        Args:
            args: as for a graph.
        """
        import triton_python_backend_utils as triton

        if args["model_instance_kind"] == "GPU":
            raise RuntimeError("instance_group of kind gpu: a part that is a Python class runs on the CPU")
        folder = Path(args["model_repository"], args["model_version"])
        config = json.loads(args["model_config"])
        self._session = Opened({name: (folder / name).read_bytes() for name in (ABOUT, SOURCE, STATE)})
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._sequences = "sequence_batching" in config
        self._decoupled = config.get("model_transaction_policy", {}).get("decoupled", False)
        self._triton = triton
        self._tensor = getattr(triton, "tensor_from_numpy", triton.Tensor)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer a batch of requests; where a request may have several answers, each as it comes."""
        if not self._decoupled:
            answers: list[Any] = super().execute(requests)
            return answers
        for request in requests:
            self._answer_in_steps(request)
        return None

    def _answer_in_steps(self, request: Any) -> None:
        sender = request.get_response_sender()
        try:
            for found in self._session.steps(self._feed(request)):
                sender.send(self._response((found,)))
        except Exception as error:  # noqa: BLE001  # whatever the project's code raises is the answer of this request
            sender.send(self._failure(str(error)))
        sender.send(flags=self._triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _feed(self, request: Any) -> dict[str, np.ndarray[Any, Any]]:
        """What a request brings; in a sequence also which one, and whether it is its first and its last."""
        import numpy as np

        feed: dict[str, np.ndarray[Any, Any]] = super()._feed(request)
        if self._sequences:
            flags = request.flags()
            feed["START"] = np.array([[bool(flags & self._triton.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START)]])
            feed["END"] = np.array([[bool(flags & self._triton.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)]])
            feed["CORRID"] = np.array([[request.correlation_id()]])
        return feed
