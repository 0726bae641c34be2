"""What every test can ask for."""

from __future__ import annotations

import math
import os
import random
import shutil
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from absl import logging as absl_logging

from components import config
from components.ledger import running_as
from components.workspace import Workspace, open_workspace

pytest_plugins = [
    "tests.chromium",
    "tests.triton",
    "tests.services",
    "tests.object_stores",
    "tests.s3",
    "tests.gcs",
    "tests.azure",
    "tests.kubeflow",
    "tests.containers",
    "tests.yard",
    "tests.redis_server",
    "tests.kafka",
    "tests.spark",
    "tests.lakefs_server",
]

# Keras and TensorFlow log with absl, whose handler keeps the standard error it was imported under and closes it when
# Prefect sets up logging under another: that closed pytest's capture, and every later test of the process failed.
absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)

PROFILE = """
state: .trilha/test
store: {kind: git, path: .trilha/test/data.git}
engine: local
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty Trilha repository with one profile, `test`; the working directory for the test."""
    (tmp_path / "config" / "projects").mkdir(parents=True)
    (tmp_path / "config" / "profiles").mkdir()
    (tmp_path / "config" / "profiles" / "test.yaml").write_text(PROFILE)
    monkeypatch.setenv("TRILHA_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for cached in (config.root, open_workspace):
        cached.cache_clear()
    yield tmp_path
    for cached in (config.root, open_workspace):
        cached.cache_clear()


@pytest.fixture
def workspace(repository: Path) -> Workspace:
    """The parts of profile `test` in an empty repository."""
    return open_workspace("test")


@pytest.fixture
def as_step() -> Iterator[str]:
    """Run the test as a step would be run, under a ledger key."""
    key = "0" * 64
    with running_as(key):
        yield key


@pytest.fixture
def small(repository: Path) -> Path:
    """The repository with the project `small` in it: 2,000 made-up parcels, and a whole lifecycle in seconds."""
    place_small(repository)
    return repository


def place_small(repository: Path) -> None:
    """Put the project `small` into a repository."""
    source = Path(__file__).parent / "small"
    folder = repository / "config" / "projects" / "small"
    folder.mkdir(parents=True)
    for name in ("project.yaml", "expectations.yaml", "features.sql"):
        shutil.copy(source / name, folder / name)
    shutil.copytree(source / "notebooks", repository / "notebooks")
    (repository / "data").mkdir()
    write_parcels(repository / "data" / "parcels.csv")


def write_parcels(path: Path, rows: int = 2_000, seed: int = 7) -> None:
    """Made-up parcels in 2024; far ones in the north are late more often, and one weight in twenty is missing."""
    draw = random.Random(seed)
    lines = ["id,sent,city,distance,weight,late"]
    for number in range(rows):
        sent = date(2024, 1, 1) + timedelta(days=number * 366 // rows)
        city, distance = draw.choice(["north", "south", "west"]), draw.uniform(1, 900)
        odds = -2 + distance / 300 + (1.2 if city == "north" else 0)
        late = draw.random() < 1 / (1 + math.exp(-odds))
        weight = "" if draw.random() < 0.05 else f"{draw.uniform(0.1, 30):.2f}"
        lines.append(f"{number},{sent},{city},{distance:.1f},{weight},{int(late)}")
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, (rows, rows))  # a file's time is part of what is observed: the same rows, the same file
