from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from components.adapters.tensorboard_log import TensorBoardLog


def png() -> bytes:
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    Figure(figsize=(1, 0.5), dpi=100).savefig(buffer, format="png")
    return buffer.getvalue()


def write_run(folder: Path, rate: float, auc: float) -> None:
    log = TensorBoardLog(str(folder))
    for step in range(3):
        log.scalar("log_loss", 1.0 / (step + 1), step)
    log.figure("roc", png())
    log.hparams({"rate": rate, "family": "trees", "balanced": True, "depth": None}, {"auc": auc, "log_loss": 0.3})
    log.close()


def test_what_is_written_is_read_by_tensorboards_own_reader(tmp_path: Path) -> None:
    """Scalars keep values and steps, pictures their size, and the final metrics stay apart from curves."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_run(tmp_path, 0.1, 0.7)

    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("log_loss")] == [
        (0, 1.0),
        (1, 0.5),
        (2, pytest.approx(1 / 3)),
    ]
    assert events.Scalars("final/auc")[0].value == pytest.approx(0.7)
    assert (events.Images("roc")[0].width, events.Images("roc")[0].height) == (100, 50)
    assert events.Images("roc")[0].encoded_image_string == png()


def test_writing_imports_no_framework(tmp_path: Path) -> None:
    """Neither TensorFlow nor torch is imported, and the stub that stands for them is TensorBoard's own."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from components.adapters.tensorboard_log import TensorBoardLog\n"
        "log = TensorBoardLog(sys.argv[1]); log.scalar('a', 1.0, 0); log.hparams({'b': 1}, {}); log.close()\n"
        "assert not {'tensorflow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), *sys.path], check=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real TensorBoard on the log directory `tmp_path`."""
    command = ["-m", "tensorboard.main", "--logdir", str(tmp_path), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        yield next(word for line in process.stderr for word in line.split() if word.startswith("http://"))
    finally:
        process.kill()
        process.wait()


def ask(url: str, body: dict[str, object] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_real_tensorboard_shows_curves_and_compares_parameters(tmp_path: Path, server: str) -> None:
    """The server lists each run's scalars and pictures, and its HPARAMS tab has parameters and metrics of every run."""
    write_run(tmp_path / "flights" / "first", 0.1, 0.7)
    write_run(tmp_path / "flights" / "second", 0.2, 0.8)

    deadline = time.monotonic() + 60
    tags: Any = {}
    while time.monotonic() < deadline and len(tags) < 2:
        with suppress(URLError):  # it reads the folder in its own time
            tags = ask(f"{server}data/plugin/scalars/tags")
        time.sleep(0.2)

    assert set(tags["flights/first"]) == {"log_loss", "final/auc", "final/log_loss"}
    assert "roc" in ask(f"{server}data/plugin/images/tags")["flights/second"]
    experiment = ask(f"{server}data/plugin/hparams/experiment", {"hparamsLimit": 100})
    assert {info["name"] for info in experiment["hparamInfos"]} == {"rate", "family", "balanced", "depth"}
    groups = ask(
        f"{server}data/plugin/hparams/session_groups",
        {
            "startIndex": 0,
            "sliceSize": 10,
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
            "colParams": [],
        },
    )
    found = {
        group["hparams"]["rate"]: {value["name"]["tag"]: value.get("value") for value in group["metricValues"]}
        for group in groups["sessionGroups"]
    }
    assert found[0.1]["final/auc"] == pytest.approx(0.7)
    assert found[0.2]["final/auc"] == pytest.approx(0.8)
