"""Run by itself, in a process of its own: what a model costs on one core, where there is nothing but ONNX Runtime.

    python -I edge_probe.py MODEL ROWS

ROWS is JSON: for each row, the values of each input; a missing number is NaN. Prints JSON, all sizes in bytes.
"""

import json
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path

ROUNDS, SECONDS = 5, 0.1
"""The median of so many rounds counts, each of so much CPU time."""


def status(name: str) -> int:
    """Memory of this process as Linux counts it: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(model: str, rows: str) -> None:
    """Load, predict row by row, print what it took."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before ONNX Runtime counts the cores

    import numpy as np
    import onnxruntime

    asked = json.loads(Path(rows).read_text())
    with suppress(OSError):  # where the peak cannot begin anew, what importing took counts as well
        Path("/proc/self/clear_refs").write_text("5")
    before, begun = status("VmRSS"), time.process_time()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    loading = time.process_time() - begun
    kinds = {node.name: object if node.type == "tensor(string)" else np.float32 for node in session.get_inputs()}
    feeds = [{name: np.array([row[name]], dtype=kind) for name, kind in kinds.items()} for row in asked]
    for feed in feeds:
        session.run(None, feed)
    times = []
    for _ in range(ROUNDS):
        count, begun = 0, time.process_time()
        while time.process_time() - begun < SECONDS:
            for feed in feeds:
                session.run(None, feed)
            count += len(feeds)
        times.append((time.process_time() - begun) / count)
    cost = {
        "cpu_ms": sorted(times)[ROUNDS // 2] * 1e3,
        "load_ms": loading * 1e3,
        "memory": status("VmHWM") - before,
        "process_memory": status("VmHWM"),
        "cores": len(os.sched_getaffinity(0)),
        "runtime": f"ONNX Runtime {onnxruntime.__version__}",
        "machine": platform.machine(),
        "packages": sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names),
    }
    print(json.dumps(cost))  # noqa: T201  # what it is for


if __name__ == "__main__":
    main(*sys.argv[1:])
