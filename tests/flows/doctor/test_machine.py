"""What `trilha doctor` sees on a machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows.doctor import Check, examine

ROOT = Path(__file__).parents[3]


def found(name: str) -> Check:
    return next(check for check in examine("test") if check.name == name)


def test_this_machine(repository: Path) -> None:
    """Where the tests run, nothing that a run needs is missing; the environment is the one of the lock."""
    shutil.copy(ROOT / "requirements.lock", repository)
    bad = [check for check in examine("test") if check.verdict == "bad"]
    assert bad == []
    assert found("packages").found.startswith("as in requirements.lock")


def test_packages_out_of_step(repository: Path) -> None:
    """A package in another version than the lock's, or not there, is named, and so is the remedy."""
    lock = repository / "requirements.lock"
    lock.write_text(
        "pydantic==0.1 \\\n    --hash=sha256:00\n"
        "no-such-package-here==1 \\\n    --hash=sha256:00\n"
        "never==1 ; python_full_version < '3' \\\n    --hash=sha256:00\n"
    )
    check = found("packages")
    assert check.verdict == "bad"
    assert "in place of ==0.1" in check.found
    assert "no-such-package-here is missing" in check.found
    assert "never" not in check.found
    assert check.remedy == "make setup"


def test_no_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a run can do without are noted, with how to get them."""
    monkeypatch.setenv("PATH", str(repository))
    assert (found("git").verdict, found("git-lfs").verdict) == ("note", "note")
    assert "git-lfs" in found("git-lfs").remedy


def test_no_triton(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Triton that is not there is missing, and the remedy says where one comes from."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(repository))
    check = found("tritonserver")
    assert check.verdict == "bad"
    assert "nvidia-pytriton" in check.remedy or "install" in check.remedy


def test_port_of_a_stranger(repository: Path) -> None:
    """A port that somebody else listens on is noted before `up` finds it."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        profile = repository / "config" / "profiles" / "test.yaml"
        profile.write_text(profile.read_text() + f"services: {{mlflow: {{port: {port}}}}}\n")
        check = found("mlflow")
    assert check.verdict == "note"
    assert f"port {port} is in use" in check.found


def test_exit_code(repository: Path) -> None:
    """The command ends with 1 when something is missing, for machines and for people."""
    (repository / "requirements.lock").write_text("no-such-package-here==1 \\\n")
    command = [sys.executable, "-c", "from flows.cli import main; main()", "doctor", "--profile", "test"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert {check["name"]: check["verdict"] for check in json.loads(done.stdout)}["packages"] == "bad"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MISSING  packages" in done.stdout
    assert "make setup" in done.stdout


def test_quick_where_nothing_is_elsewhere(repository: Path) -> None:
    """On a profile of one machine none of the clients is imported that take a second each."""
    code = "import sys; from flows.doctor import examine; examine('test'); print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert {"prefect", "mlflow", "kfp", "lakefs", "ibis", "httpx", "docker"}.isdisjoint(done.stdout.split())
