"""A Triton with its own ONNX Runtime backend, for `target: full`.

`TRILHA_BACKENDS` names a folder with one that fits the locked server; a full Triton on PATH has its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.triton import Triton, running


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """In place of the one of the other tests."""
    backends = os.environ.get("TRILHA_BACKENDS")
    if backends is None and not shutil.which("tritonserver"):
        pytest.skip("needs Triton's ONNX Runtime backend: TRILHA_BACKENDS, or a full Triton on PATH")
    yield from running(tmp_path_factory.mktemp("full"), backends)
