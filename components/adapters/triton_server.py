"""The model server: any Triton over gRPC, under explicit control, with a model repository that both sides see."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from components.adapters.triton_abilities import lacking
from components.adapters.triton_config import BACKENDS, Graph, Tensor, marked, part_config
from components.bundle import CONFIG
from components.errors import GateError, NotFoundError, TrilhaError, UnavailableError
from components.object_stores import AZURE
from components.place import Place, Stat
from components.records import digest

if TYPE_CHECKING:
    import numpy.typing as npt

    from components.serve_settings import Triton
    from components.workspace import Workspace

LOAD_SECONDS: Final = 120.0
"""A model that is not up after this is given up: Triton waits for ever for a Python backend that dies as it starts."""
CALL_SECONDS: Final = 30.0
BUSY: Final = ("Request timeout expired", "maximum queue size")
"""Words of a refusal by a project's own queue policy: the server is well."""
MAX_MESSAGE: Final = 2**31 - 1

_PROBES: Final = {"auto": {"1/model.py": "import numpy, onnxruntime\n"}, "full": {"1/model.onnx": ""}}
"""Bundle target -> the files of a model that no server loads; how it is refused tells what the server lacks."""


def open_server(workspace: Workspace) -> TritonServer:
    """The Triton that the profile names: the one that `trilha up` starts, or one that runs elsewhere."""
    repository = workspace.profile.services.triton.repository
    return TritonServer(
        lambda: workspace.endpoint("triton"), repository or str(workspace.home / "triton" / "models"), workspace.name
    )


class TritonServer:
    """`ModelServer` over `tritonclient`.

    Args:
        locate: yields `host:port` of the gRPC endpoint, or raises `UnavailableError`.
        repository: the server's model repository, a folder or any fsspec URL.
        profile: the profile's name, for what to do next.
    """

    def __init__(self, locate: Callable[[], str], repository: str, profile: str) -> None:
        self._locate = locate
        self._repository = Place(repository)
        self._in_azure = repository.partition("://")[0] in AZURE
        self._profile = profile
        self._reached = ""

    @property
    def address(self) -> str:
        return self._locate()

    @cached_property
    def _client(self) -> Any:
        """A channel to where the server is now; it is dropped when it fails, for a restart may move the server."""
        return self._opened()

    def _opened(self) -> Any:
        from tritonclient.grpc import InferenceServerClient

        self._reached = address = self._locate()
        here = address.rsplit(":", 1)[0] in {"127.0.0.1", "localhost", "[::1]"}
        options: list[tuple[str, int]] = [
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
        ]
        if here:  # the proxy for the web is not one for this machine
            options.append(("grpc.enable_http_proxy", 0))
        return InferenceServerClient(address, channel_args=options)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Triton's errors as ours.

        Raises:
            UnavailableError: the server, or the process that runs a model, does not answer.
            NotFoundError: the model is not loaded.
            GateError: the server refuses; its own words are in the details.
        """
        from tritonclient.utils import InferenceServerException

        try:
            yield
        except InferenceServerException as error:
            raise self._ours(what, error.status() or "", str(error.message())) from error

    def _ours(self, what: str, status: str, words: str) -> TrilhaError:
        first = words.strip().split("\n", 1)[0]
        if "unknown model" in words:
            return NotFoundError(f"{what}: {first}", next_step="trilha reconcile PROJECT loads what a release serves")
        if "is not healthy" in words:
            return UnavailableError(f"{what}: {first}", next_step="trilha reconcile PROJECT starts it again")
        if any(text in words for text in BUSY):
            return UnavailableError(f"{what}: {first}", next_step="ask again; serve.triton has the queue's policy")
        if status in {"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"}:
            self.__dict__.pop("_client", None)
            return UnavailableError(
                f"Triton at {self._reached}: {what}: {first}",
                next_step=f"trilha status --profile {self._profile}; trilha logs triton",
            )
        return GateError(f"{what}: {first}", details=words)

    def targets(self) -> frozenset[str]:
        return frozenset(target for target in BACKENDS if self._serves(target))

    def _serves(self, target: str) -> bool:
        name, tensor = f"trilha-probe-{target}", Tensor("x", "TYPE_FP32", 1)
        config = part_config(name, Graph((tensor,), (tensor,)), [tensor.name], target)
        self.publish({name: {CONFIG: config, **_PROBES[target]}})
        try:
            self.load(name)
        except GateError as error:
            return not any(words in error.details for words in ("unable to find backend", "ModuleNotFoundError"))
        finally:
            self.unload(name)
        return True

    def lacks(self, settings: Triton, target: str) -> dict[str, str]:
        return lacking(self, settings, target)

    def hits(self, model: str) -> int:
        """Answers that the server gave from its memory."""
        with self._translated(f"statistics of {model}"):
            found = self._client.get_inference_statistics(model, client_timeout=CALL_SECONDS).model_stats
        return sum(one.inference_stats.cache_hit.count for one in found)

    def publish(self, models: Mapping[str, Mapping[str, Path | str | bytes]]) -> None:
        for model, files in models.items():
            for inside, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                data = data if isinstance(data, bytes) else data.read_bytes()
                # One with the same bytes stays, for Triton goes by the time of change.
                if self._repository.read(f"{model}/{inside}") != data:
                    self._repository.write(f"{model}/{inside}", data)

    def load(self, model: str) -> None:
        with self._translated(f"load {model}"):
            self._client.load_model(model, config=self._told(model), client_timeout=LOAD_SECONDS)

    def _told(self, model: str) -> str | None:
        """What a model in Azure is told of itself, so that Triton loads it anew where its files changed.

        Triton asks when its folder was changed, which Azure does not know, and would keep what it loaded first.
        """
        config = self._repository.read(f"{model}/{CONFIG}") if self._in_azure else None
        if config is None:
            return None
        files = {name: [stat.size, stat.changed] for name, stat in self._repository.files(model).items()}
        return marked(config.decode(), digest(files))

    def unload(self, model: str) -> None:
        with self._translated(f"unload {model}"):
            self._client.unload_model(model, client_timeout=LOAD_SECONDS)
        self._repository.remove(model)

    def loaded(self) -> frozenset[str]:
        with self._translated("list models"):
            index = self._client.get_model_repository_index(client_timeout=CALL_SECONDS)
        return frozenset(model.name for model in index.models if model.state == "READY")

    def stored(self) -> dict[str, Stat]:
        found: dict[str, Stat] = {}
        for name, stat in self._repository.files().items():
            model, inside, _ = name.partition("/")
            if inside:
                found[model] = found.get(model, Stat(0, 0.0)) + stat
        return found

    def parts(self, model: str) -> tuple[str, ...]:
        with self._translated(f"configuration of {model}"):
            config = self._client.get_model_config(model, client_timeout=CALL_SECONDS).config
        return tuple(step.model_name for step in config.ensemble_scheduling.step)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        *,
        timeout: float = CALL_SECONDS,
        settings: Triton | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        if settings and settings.sequence_batching:
            return self._one_by_one(model, inputs, timeout, settings)
        return self._infer(model, inputs, timeout, decoupled=bool(settings and settings.decoupled))

    def _one_by_one(
        self, model: str, inputs: Mapping[str, npt.NDArray[Any]], timeout: float, settings: Triton
    ) -> dict[str, npt.NDArray[Any]]:
        """Each row as a sequence of its own: such requests have one row."""
        import numpy as np

        rows = len(next(iter(inputs.values())))
        answers = []
        for row in range(rows):
            one = {name: array[row : row + 1] for name, array in inputs.items()}
            whole = {"sequence_id": secrets.randbits(62) + 1, "sequence_start": True, "sequence_end": True}
            answers.append(self._infer(model, one, timeout, decoupled=settings.decoupled, **whole))
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _infer(
        self, model: str, inputs: Mapping[str, npt.NDArray[Any]], timeout: float, *, decoupled: bool, **said: Any
    ) -> dict[str, npt.NDArray[Any]]:
        from tritonclient.grpc import InferInput
        from tritonclient.utils import np_to_triton_dtype

        tensors = []
        for name, array in inputs.items():
            tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        with self._translated(model):
            if decoupled:
                answer = self._last(model, tensors, timeout, said)
            else:
                answer = self._client.infer(model, tensors, client_timeout=timeout, **said)
        return {output.name: _decoded(answer.as_numpy(output.name)) for output in answer.get_response().outputs}

    def _last(self, model: str, tensors: list[Any], timeout: float, said: Mapping[str, Any]) -> Any:
        """The last of a request's answers, which come over a stream."""
        import queue

        from tritonclient.utils import InferenceServerException

        came: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client, last = self._opened(), None
        client.start_stream(lambda result, error: came.put((result, error)), stream_timeout=timeout)
        try:
            client.async_stream_infer(model, tensors, enable_empty_final_response=True, **said)
            while True:
                result, error = came.get(timeout=timeout)
                if error is not None:
                    raise error
                response = result.get_response()
                last = result if response.outputs else last
                if response.parameters["triton_final_response"].bool_param:
                    break
        except queue.Empty:
            raise InferenceServerException("no answer", status="StatusCode.DEADLINE_EXCEEDED") from None
        finally:
            client.stop_stream(cancel_requests=True)
            client.close()
        if last is None:
            raise InferenceServerException(f"{model} ended without an answer", status="StatusCode.INTERNAL")
        return last


def _decoded(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Texts as `str`; numbers as they are."""
    import numpy as np

    if array.dtype != np.object_:
        return array
    return np.array([text.decode() for text in array.ravel()], dtype=np.object_).reshape(array.shape)
