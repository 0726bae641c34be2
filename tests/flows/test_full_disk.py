"""A disk that is really full: the run says so in one line, and goes on once there is room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.workspace import open_workspace
from flows.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SIZE = 50 << 20
STEP = 200 << 10
"""Bytes that become free from one run to the next; more than the record of a failed run takes."""


@pytest.fixture
def disk(small: Path) -> Iterator[Path]:
    """The state of profile `test`, on a small disk of its own; skipped where nobody may mount one."""
    folder = small / ".trilha"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "trilha-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk may be mounted here: not root, or a container without CAP_SYS_ADMIN")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str, str]]:
    """`trilha run` to `prepare` in a profile: its exit code, standard output and standard error."""

    def call(profile: str) -> tuple[int, str, str]:
        arguments = ["run", "small", "--until", "prepare", "--profile", profile, "--json"]
        monkeypatch.setattr(sys, "argv", ["trilha", *arguments])
        open_workspace.cache_clear()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_it_is_said_and_the_next_run_goes_on(
    disk: Path, small: Path, run: Callable[[str], tuple[int, str, str]]
) -> None:
    """From no room at all to enough: each run fails plainly, and the last ends like one that never lacked room."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free))
    failures = 0
    while True:
        code, out, err = run("test")
        if code == 0:
            break
        error = json.loads(out)
        assert code == error["exit_code"] == 6, out + err
        assert "no space left on the disk" in error["problem"]
        assert error["problem"].endswith(f"mounted at {disk}")
        assert "make room" in error["next"]
        assert "Traceback" not in out + err
        failures += 1
        os.truncate(ballast, ballast.stat().st_size - STEP)
    assert failures > 2

    calmly = "state: calm\nstore: {kind: git, path: calm/data.git}\nengine: local\n"
    (small / "config" / "profiles" / "calm.yaml").write_text(calmly)
    code, calm, _ = run("calm")
    assert code == 0
    here, there = json.loads(out)["result"], json.loads(calm)["result"]
    for part in ("train", "valid", "test"):
        assert here[part]["file"]["sha256"] == there[part]["file"]["sha256"]
    assert here["tree"] == there["tree"]
    stores = [open_workspace(name).store for name in ("test", "calm")]
    assert len({len(list(store.log("main"))) for store in stores}) == 1  # no commit twice
