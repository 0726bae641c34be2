"""A deployed project that watches a branch."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

import pytest

from components.workspace import Workspace
from tests.flows.triggers.deployed import Deployed

NUMBER = count()


@pytest.fixture
def watched(on_prefect: Workspace, small: Path, prefect_url: str) -> Deployed:
    """The project `small` under a name that no other test deploys, watching the branch `incoming`."""
    name = f"watched-{next(NUMBER)}"
    folder = small / "config" / "projects" / name
    shutil.move(small / "config" / "projects" / "small", folder)
    (folder / "project.yaml").write_text((folder / "project.yaml").read_text() + "watch: incoming\n")
    return Deployed(prefect_url, name, "watched")
