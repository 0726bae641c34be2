from __future__ import annotations

import threading
import time
from contextlib import suppress

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from components.errors import UnavailableError
from components.export import export
from components.ledger import running_as
from components.model_inputs import to_tensors
from components.project import Serve
from components.records import Bundle
from components.serving import serve
from components.workspace import Workspace
from tests.triton import FEATURES, Fitted, Triton, candidate_in, fit

PROJECT = "flights"


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> list[Fitted]:
    """Three models that answer differently."""
    return [fit(tmp_path_factory.mktemp("fit"), seed=seed) for seed in (1, 2, 3)]


@pytest.fixture
def bundles(served: Workspace, fits: list[Fitted]) -> list[Bundle]:
    """Their bundles."""
    return [bundle_in(served, PROJECT, fitted, str(number)) for number, fitted in enumerate(fits)]


def bundle_in(workspace: Workspace, project: str, fitted: Fitted, key: str) -> Bundle:
    with running_as(key * 64):
        return export(project, "test", *candidate_in(workspace, fitted, f"made-{key}"), Serve(golden=16))


@pytest.fixture
def rows(fits: list[Fitted]) -> dict[str, np.ndarray]:
    return to_tensors(pq.read_table(fits[0].test).slice(0, 8), FEATURES)


def parts(bundle: Bundle) -> set[str]:
    return {bundle.model, *(f"{bundle.model}-{part}" for part in ("pre", "model", "post"))}


def processes(triton: Triton, *bundles: Bundle) -> set[int]:
    """The processes that run the models of these bundles; those of models that were taken down may still be ending."""
    found = set()
    for process in psutil.Process(triton.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if any(bundle.model in word for bundle in bundles for word in process.cmdline()):
                found.add(process.pid)
    return found


def test_stable_name_answers_as_the_bundle(
    served: Workspace, bundles: list[Bundle], rows: dict[str, np.ndarray]
) -> None:
    """The project's own name answers as the bundle that it was moved to, and after a rollback as the one before."""
    for bundle in (bundles[0], bundles[1], bundles[0]):
        serve(served, bundle, PROJECT)
        stable, named = (served.server.infer(model, rows) for model in (PROJECT, bundle.model))
        assert np.array_equal(stable["probability"], named["probability"])


def test_serving_again_changes_nothing(served: Workspace, bundles: list[Bundle], triton: Triton) -> None:
    """Done again, it touches no model: the processes that answer are the same."""
    serve(served, bundles[0], PROJECT)
    before = processes(triton, bundles[0])
    serve(served, bundles[0], PROJECT)
    assert before
    assert processes(triton, bundles[0]) == before


def test_moving_the_name_reloads_no_part(served: Workspace, bundles: list[Bundle], triton: Triton) -> None:
    """The parts that qualified are those that serve: moving the stable name starts and ends no process."""
    for bundle in bundles[:2]:  # whatever served before is dropped by now
        serve(served, bundle, PROJECT)
    before = processes(triton, *bundles[:2])
    for bundle in bundles[:2]:
        serve(served, bundle, PROJECT)
    assert before
    assert processes(triton, *bundles[:2]) == before


def test_readers_see_one_bundle_or_the_other(
    served: Workspace, bundles: list[Bundle], rows: dict[str, np.ndarray]
) -> None:
    """While the name moves to and fro every request is answered, wholly by one bundle or wholly by the other."""
    known = []
    for bundle in bundles[:2]:
        serve(served, bundle, PROJECT)
        known.append(served.server.infer(PROJECT, rows)["probability"].tobytes())
    seen: list[bytes] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(served.server.infer(PROJECT, rows)["probability"].tobytes())

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(5):
        for bundle in bundles[:2]:
            serve(served, bundle, PROJECT)
            before = len(seen)
            while len(seen) < before + 3 and all(reader.is_alive() for reader in readers):
                time.sleep(0.001)
    stop.set()
    for reader in readers:
        reader.join()
    assert len(seen) > 30, "a reader got an error"
    assert set(seen) == set(known)


def test_model_whose_process_died(
    served: Workspace, bundles: list[Bundle], rows: dict[str, np.ndarray], triton: Triton
) -> None:
    """Triton goes on listing a model whose process was killed; serving it again starts it again."""
    serve(served, bundles[0], PROJECT)
    psutil.Process(min(processes(triton, bundles[0]))).kill()
    with pytest.raises(UnavailableError, match="reconcile"):
        served.server.infer(PROJECT, rows)
    serve(served, bundles[0], PROJECT)
    assert served.server.infer(PROJECT, rows)


def test_server_that_lost_everything(served: Workspace, bundles: list[Bundle]) -> None:
    """A server that was started anew gets its models back."""
    serve(served, bundles[0], PROJECT)
    for model in served.server.loaded():
        served.server.unload(model)
    serve(served, bundles[0], PROJECT)
    assert served.server.loaded() == {PROJECT, *parts(bundles[0])}


def test_the_bundle_before_stays(served: Workspace, bundles: list[Bundle], fitted: Fitted, triton: Triton) -> None:
    """The bundle that serves and the one before are loaded; older ones are gone with their files, others' are not."""
    other = bundle_in(served, f"{PROJECT}-eu", fitted, "e")
    serve(served, other, f"{PROJECT}-eu")
    for bundle in bundles:
        serve(served, bundle, PROJECT)
    loaded = served.server.loaded()
    assert {PROJECT, *parts(bundles[1]), *parts(bundles[2]), f"{PROJECT}-eu", *parts(other)} <= loaded
    assert not parts(bundles[0]) & loaded
    assert not list(triton.repository.glob(f"{bundles[0].model}*"))
