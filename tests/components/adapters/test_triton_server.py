from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from components.adapters.onnx_graphs import run_graphs
from components.adapters.triton_server import TritonServer
from components.errors import GateError, NotFoundError, UnavailableError
from components.export import export
from components.model_inputs import to_tensors
from components.project import Serve
from components.records import Bundle
from components.serving import bring_up
from components.workspace import Workspace
from tests.triton import FEATURES, Fitted, Triton, candidate_in, free_ports

pytestmark = pytest.mark.usefixtures("as_step")


@pytest.fixture
def bundle(served: Workspace, fitted: Fitted) -> Bundle:
    """A bundle that the server has loaded."""
    made = export("flights", "test", *candidate_in(served, fitted), Serve())
    bring_up(served, made)
    return made


def test_every_row_comes_through(served: Workspace, bundle: Bundle, fitted: Fitted) -> None:
    """Text, numbers and missing values of many rows are answered as by ONNX Runtime in this process, each by itself."""
    inputs = to_tensors(pq.read_table(fitted.test), FEATURES)
    expected = run_graphs([fitted.graphs / f"{part}.onnx" for part in ("pre", "model", "post")], inputs)
    answers = served.server.infer(bundle.model, inputs)
    assert np.array_equal(answers["probability"], expected["probability"])
    assert np.array_equal(answers["label"], expected["label"])
    assert len(np.unique(answers["probability"])) > 300


def test_targets_are_those_of_the_server(served: Workspace) -> None:
    """The wheel's server runs Python models with ONNX Runtime inside, and has no ONNX Runtime backend; a full one has."""
    assert served.server.targets() == ({"auto", "full"} if shutil.which("tritonserver") else {"auto"})


def test_loaded_and_parts(served: Workspace, bundle: Bundle) -> None:
    """An ensemble is listed with its parts, and tells them in order."""
    parts = tuple(f"{bundle.model}-{part}" for part in ("pre", "model", "post"))
    assert {bundle.model, *parts} <= served.server.loaded()
    assert served.server.parts(bundle.model) == parts
    assert served.server.parts(parts[0]) == ()


def test_unload_takes_out_and_can_be_done_again(served: Workspace, bundle: Bundle, triton: Triton) -> None:
    """An unloaded model is neither served nor in the repository, and unloading it again is no error."""
    for _ in range(2):
        served.server.unload(bundle.model)
    assert bundle.model not in served.server.loaded()
    assert not (triton.repository / bundle.model).exists()
    with pytest.raises(NotFoundError, match="trilha reconcile"):
        served.server.infer(bundle.model, {"x": np.zeros((1, 1), np.float32)})


def test_publish_leaves_equal_files_alone(served: Workspace, triton: Triton, tmp_path: Path) -> None:
    """A file with the same bytes keeps its time of change, another is replaced whole."""
    source = tmp_path / "source"
    source.write_text("one")
    served.server.publish({"m": {"a": source, "1/b": "text"}})
    before = (triton.repository / "m" / "1" / "b").stat()
    source.write_text("two")
    served.server.publish({"m": {"a": source, "1/b": "text"}})
    after = (triton.repository / "m" / "1" / "b").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert (triton.repository / "m" / "a").read_text() == "two"
    assert not list(triton.repository.rglob("*.part"))
    served.server.unload("m")


def test_publish_to_an_object_store() -> None:
    """A repository may be any fsspec URL, as for a server that reads its models from S3."""
    server = TritonServer(lambda: "", "memory://models", "test")
    for text in ("one", "two"):
        server.publish({"m": {"config.pbtxt": text, "1/.keep": ""}})
        assert fsspec.filesystem("memory").cat("/models/m/config.pbtxt") == text.encode()


def test_load_refused_in_triton_s_words(served: Workspace) -> None:
    """A model that Triton cannot load is a gate, with its own words in the details."""
    served.server.publish({"broken": {"config.pbtxt": 'name: "broken" backend: "nonsense"', "1/x": ""}})
    with pytest.raises(GateError, match="load broken") as caught:
        served.server.load("broken")
    assert "broken" in caught.value.details
    served.server.unload("broken")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hour": np.zeros((1, 1), np.float64)}, "data-type"),
        ({"hour": np.zeros((1, 2), np.float32)}, "shape"),
        ({"hour": np.zeros((2, 1), np.float32)}, "batch size"),
        ({"nobody": np.zeros((1, 1), np.float32)}, "nobody"),
    ],
)
def test_requests_that_do_not_fit(
    served: Workspace, bundle: Bundle, fitted: Fitted, change: dict[str, np.ndarray], words: str
) -> None:
    """A wrong type, shape, number of rows or name is refused, and the model goes on answering."""
    inputs = to_tensors(pq.read_table(fitted.test).slice(0, 1), FEATURES)
    with pytest.raises(GateError) as caught:
        served.server.infer(bundle.model, {**inputs, **change})
    assert words in caught.value.details
    assert served.server.infer(bundle.model, inputs)


def test_text_that_is_not_utf8(served: Workspace, bundle: Bundle, fitted: Fitted) -> None:
    """Bytes that are no text are refused by the model, which goes on answering."""
    inputs = to_tensors(pq.read_table(fitted.test).slice(0, 1), FEATURES)
    with pytest.raises(GateError, match="not UTF-8"):
        served.server.infer(bundle.model, {**inputs, "carrier": np.array([[b"\xff\xfe"]], dtype=object)})
    assert served.server.infer(bundle.model, inputs)


def test_server_that_is_down(tmp_path: Path) -> None:
    """A server that nobody started is unavailable, which is worth another try; the address is named."""
    (port,) = free_ports(1)
    server = TritonServer(lambda: f"127.0.0.1:{port}", str(tmp_path), "test")
    with pytest.raises(UnavailableError, match=rf"127\.0\.0\.1:{port}.*trilha status --profile test"):
        server.loaded()


def test_server_that_moved(triton: Triton, tmp_path: Path) -> None:
    """After a restart on another port the same object finds the server again."""
    addresses = [f"127.0.0.1:{free_ports(1)[0]}"]
    server = TritonServer(lambda: addresses[-1], str(tmp_path), "test")
    with pytest.raises(UnavailableError):
        server.loaded()
    addresses.append(triton.address)
    assert isinstance(server.loaded(), frozenset)
