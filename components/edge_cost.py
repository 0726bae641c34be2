"""What a prediction costs on a small device: measured on one core, in a process that has nothing but ONNX Runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from components.errors import GateError
from components.model_inputs import to_tensors
from components.records import Record

if TYPE_CHECKING:
    import pyarrow as pa

PROBE: Final = Path(__file__).parent / "adapters" / "edge_probe.py"
SECONDS: Final = 120
"""For a model to be loaded and asked: one that takes longer is nothing for a device."""


class Cost(Record):
    """Of one row at a time."""

    cpu_ms: float
    """CPU time of a prediction."""
    load_ms: float
    """CPU time until the model can be asked."""
    memory: int
    """Bytes at most, beyond what ONNX Runtime takes by itself."""
    process_memory: int
    """Bytes at most, Python and ONNX Runtime included."""
    cores: int
    runtime: str
    machine: str


def cost_of(graph: bytes, rows: pa.Table, features: Mapping[str, str]) -> Cost:
    """Measure a graph on some rows.

    Raises:
        GateError: it cannot be run there, or takes too long.
    """
    tensors = {name: array.tolist() for name, array in to_tensors(rows, features).items()}
    asked = [{name: values[row] for name, values in tensors.items()} for row in range(rows.num_rows)]
    with TemporaryDirectory() as folder:
        model, questions = Path(folder) / "model.onnx", Path(folder) / "rows.json"
        model.write_bytes(graph)
        questions.write_text(json.dumps(asked))
        command = [sys.executable, "-I", str(PROBE), str(model), str(questions)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        except subprocess.TimeoutExpired as error:
            raise GateError(f"the model is not through with {rows.num_rows} rows after {SECONDS} s") from error
        except subprocess.CalledProcessError as error:
            raise GateError("the model does not run with ONNX Runtime alone", details=error.stderr) from error
    found = json.loads(done.stdout)
    return Cost(**{name: found[name] for name in Cost.model_fields})
