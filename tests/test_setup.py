"""What `make` and the locks promise to a fresh machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-setup.lock")


def pins(lock: str) -> dict[str, list[Requirement]]:
    """Package -> its pins; one with several has one a Python version."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line and line[0] not in " #":
            requirement = Requirement(line.rstrip(" \\"))
            found.setdefault(requirement.name, []).append(requirement)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_pinned_with_hashes(lock: str) -> None:
    """Every package is pinned to one version and has hashes; no line names where packages come from."""
    text = (ROOT / lock).read_text()
    for requirement in (one for several in pins(lock).values() for one in several):
        assert [one.operator for one in requirement.specifier] == ["=="]
    blocks = re.split(r"\n(?=\S)", text)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)
    assert not re.search(r"://|--index|--find-links|--extra-index", text)


def test_locks_agree() -> None:
    """Tests run on the very versions that runs do."""

    def versions(lock: str) -> dict[str, set[str]]:
        return {name: {str(pin.specifier) for pin in several} for name, several in pins(lock).items()}

    base, dev = versions("requirements.lock"), versions("requirements-dev.lock")
    assert base == {name: dev[name] for name in base}


def test_lock_covers_the_project() -> None:
    """What pyproject.toml asks for is in the lock, in a version that it accepts."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = pins("requirements.lock")
    for wanted in map(Requirement, project["dependencies"]):
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        assert name in base, f"{wanted}: make lock"
        for pin in base[name]:
            assert wanted.specifier.contains(next(iter(pin.specifier)).version), f"{wanted}: make lock"


def make(folder: Path, python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` in `folder`, with the shell script `python` for its Python."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments, f"PYTHON={program}"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in (*LOCKS, "Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="the tests run one after the other")
@pytest.mark.xdist_group("environment")
def test_groups_stay_together(request: pytest.FixtureRequest) -> None:
    """Tests that share a server are run by the process that started it; pytest-xdist marks them by their names."""
    assert request.node.nodeid.endswith("@environment")


def test_wrong_python(clone: Path) -> None:
    """A Python that is too old is refused before anything is made, with what is accepted and what to do."""
    done = make(clone, 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac', "setup")
    assert done.returncode != 0
    assert "error: Python 3.9.2" in done.stderr
    assert "accepted: Python 3.11 to 3.13" in done.stderr
    assert not (clone / ".venv").exists()


def test_no_venv(clone: Path) -> None:
    """Debian's Python without `ensurepip` is refused with the package to install."""
    done = make(clone, 'case "$2" in *ensurepip*) exit 1;; esac', "setup")
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stderr
    assert not (clone / ".venv").exists()


def test_nothing_to_do(clone: Path) -> None:
    """Once set up, `make setup` runs nothing; a lock that changed is installed again."""
    (clone / ".venv").mkdir()
    for stamp in ("uv", "installed", "project"):
        (clone / ".venv" / stamp).touch()
    assert "Nothing to be done" in make(clone, "exit 1", "setup").stdout
    later = (clone / ".venv" / "installed").stat().st_mtime + 10
    os.utime(clone / "requirements.lock", (later, later))
    assert "-r requirements.lock" in make(clone, "exit 1", "--dry-run", "setup").stdout
