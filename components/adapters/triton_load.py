"""Load on Triton's own HTTP door: so many clients, each asking its next question when the last one is answered.

`wrk`, where it is on PATH (Debian has it), is compiled, and leaves the machine to the server. Without it this process
asks by the gateway's own connections, which costs about as much CPU a request as a small model does; what it costs is
measured and told, so that nobody takes the generator's limit for the server's.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from components.adapters.triton_http import TritonHttp
from components.errors import TrilhaError, UnavailableError

if TYPE_CHECKING:
    import numpy.typing as npt

OVERTIME: Final = 30.0
"""Seconds that the last answers may take."""

_WRK: Final = """
local asked, place, of = {{}}, 0, {count}
init = function(arguments)
  for number = 1, of do
    local file = io.open("{folder}/" .. number, "rb")
    local length = io.open("{folder}/" .. number .. ".header", "r")
    local headers = {{["Inference-Header-Content-Length"] = length:read("*a")}}
    asked[number] = wrk.format("POST", "{path}", headers, file:read("*a"))
    file:close()
    length:close()
  end
end
request = function() place = place % of + 1 return asked[place] end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\n{{"requests": %d, "us": %d, "p50": %f, "p99": %f, "failed": %d}}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of it: answers and refusals, over how many seconds, and the generator's own CPU in seconds."""

    answers: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu: float


Question = tuple[int, bytes]
"""The length of the JSON header, and the body: the V2 protocol with binary tensors."""


def question(inputs: Mapping[str, npt.NDArray[Any]]) -> Question:
    """A request for these tensors, whose answer comes in binary as well."""
    import numpy as np
    from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

    described, data = [], []
    for name, array in inputs.items():
        text = array.dtype == np.object_
        data.append(serialize_byte_tensor(array).item() if text else np.ascontiguousarray(array).tobytes())
        described.append({
            "name": name, "shape": list(array.shape), "datatype": np_to_triton_dtype(array.dtype),
            "parameters": {"binary_data_size": len(data[-1])},
        })  # fmt: skip
    header = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    return len(header), header + b"".join(data)


def generator() -> str:
    """What makes the load on this machine."""
    return "wrk" if shutil.which("wrk") else "Trilha's own (Python; wrk is not on PATH)"


def load(address: str, model: str, questions: Sequence[Question], clients: int, seconds: float) -> Loaded:
    """Ask a model for so many seconds.

    Args:
        address: `host:port` of Triton's HTTP.
        model: its name.
        questions: asked in turn.
        clients: at the same time.
        seconds: how long; `wrk` takes whole ones.

    Raises:
        UnavailableError: nobody answers there.
    """
    path = f"/v2/models/{model}/infer"
    found: Callable[..., Loaded] = by_wrk if shutil.which("wrk") else by_ourselves
    loaded = found(address, path, questions, clients, seconds)
    if not loaded.answers:
        raise UnavailableError(f"Triton at {address} answers no request for {model}", next_step="trilha logs triton")
    return loaded


def by_wrk(address: str, path: str, questions: Sequence[Question], clients: int, seconds: float) -> Loaded:
    """Load by `wrk`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (length, body) in enumerate(questions, start=1):
            (folder / str(number)).write_bytes(body)
            (folder / f"{number}.header").write_text(str(length))
        script = folder / "ask.lua"
        script.write_text(_WRK.format(count=len(questions), folder=folder, path=path))
        whole = max(1, round(seconds))
        wanted = ["-t1", f"-c{clients}", f"-d{whole}s", "--timeout", "10s"]
        command = ["wrk", *wanted, "-s", str(script), f"http://{address}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, timeout=whole + OVERTIME, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise UnavailableError(f"wrk: {done.stderr.strip() or done.stdout.strip()}", next_step="trilha status")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return Loaded(
        answers=told["requests"] - told["failed"],
        failed=told["failed"],
        seconds=told["us"] / 1e6,
        p50_ms=told["p50"] / 1e3,
        p99_ms=told["p99"] / 1e3,
        cpu=after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
    )


def by_ourselves(address: str, path: str, questions: Sequence[Question], clients: int, seconds: float) -> Loaded:
    """Load by this process."""
    import numpy as np
    import uvloop

    times: list[float] = []
    failed = 0

    async def client(triton: TritonHttp, place: int, until: float) -> None:
        nonlocal failed
        while (begun := time.perf_counter()) < until:
            length, body = questions[place % len(questions)]
            place += clients
            try:
                reply = await triton.post(path, length, body, OVERTIME)
            except TrilhaError:
                failed += 1
                return
            if reply.status == 200:
                times.append(time.perf_counter() - begun)
            else:
                failed += 1

    async def all_of_them() -> None:
        triton = TritonHttp(lambda: address, connections=clients)
        until = time.perf_counter() + seconds
        await asyncio.gather(*(client(triton, number, until) for number in range(clients)))
        triton.close()

    begun, cpu = time.perf_counter(), time.process_time()
    uvloop.run(all_of_them())
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    p50, p99 = np.percentile(times or [0.0], (50, 99)) * 1e3
    return Loaded(len(times), failed, took, float(p50), float(p99), cpu)
