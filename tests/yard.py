"""A repository with a server and a worker of its own, as a person has them after `trilha up --workers 1`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from components import config
from components.runs import NodeState, RunLog
from components.workspace import Workspace, open_workspace
from flows.services import processes
from tests.conftest import place_small, write_parcels
from tests.prefect_api import api

ROOT = Path(__file__).parents[1]
T = TypeVar("T")

PROFILE = """
state: .trilha/test
store: {kind: git, path: .trilha/test/data.git}
engine: prefect
"""

TRILHA = "from flows.cli import main; main()"

GATE = """
import pathlib, time
pathlib.Path({here!r}).touch()
while not pathlib.Path({go!r}).exists():
    time.sleep(0.05)
"""


def eventually(ask: Callable[[], T], until: Callable[[T], object] = bool, seconds: float = 60) -> T:
    """What `ask` returns once `until` is content with it."""
    deadline = time.monotonic() + seconds
    while not until(found := ask()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def is_kernel(process: psutil.Process) -> bool:
    """Whether trials run in it, or are forked from it."""
    return any(part.endswith("papermill_kernel.zygote") for part in process.cmdline())


class Yard:
    """The repository at `root`: its commands in processes of their own, its server by its API."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "config" / "profiles").mkdir(parents=True)
        (root / "config" / "profiles" / "test.yaml").write_text(PROFILE)
        place_small(root)
        self._here, self._go = root / "here", root / "go"
        self._hold_training()

    def _hold_training(self) -> None:
        """Have each trial wait half-way until `let_go`, where training has begun."""
        path = self.root / "notebooks" / "small.ipynb"
        notebook = json.loads(path.read_text())
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        cells[1]["source"] = [*cells[1]["source"], GATE.format(here=str(self._here), go=str(self._go))]
        path.write_text(json.dumps(notebook))

    def add_parcels(self) -> None:
        """Other data than before, so that all of the lifecycle is to do."""
        write_parcels(self.root / "data" / "parcels.csv", rows=2_100)

    def schedule(self, cron: str | None) -> None:
        """Give the project a schedule, or take it away."""
        path = self.root / "config" / "projects" / "small" / "project.yaml"
        lines = [line for line in path.read_text().splitlines() if not line.startswith("schedule:")]
        if cron:
            lines.append(f'schedule: {{cron: "{cron}", timezone: Europe/Lisbon}}')
        path.write_text("\n".join(lines) + "\n")

    def hold(self) -> None:
        self._here.unlink(missing_ok=True)
        self._go.unlink(missing_ok=True)

    def let_go(self) -> None:
        self._go.touch()

    def wait_for_training(self) -> None:
        eventually(self._here.exists, seconds=120)

    def begin(self, *program: str, **variables: str) -> subprocess.Popen[str]:
        """A Python program in a process of its own."""
        environment = os.environ | {
            "DO_NOT_TRACK": "1",
            "PREFECT_HOME": str(self.root / "prefect"),
            "PYTHONPATH": str(ROOT),
            "TRILHA_PROFILE": "test",
        }
        return subprocess.Popen(
            [sys.executable, *program],
            env=environment | variables,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def trilha(self, *arguments: str) -> str:
        """`trilha ...` to its good end; returns what it said."""
        return self._finish(self.begin("-c", TRILHA, *arguments))

    def prefect(self, *arguments: str) -> str:
        """`prefect ...` to its good end; returns what it said."""
        return self._finish(self.begin("-m", "prefect", "--no-prompt", *arguments, PREFECT_API_URL=f"{self.url}/api"))

    @staticmethod
    def _finish(process: subprocess.Popen[str]) -> str:
        output = process.communicate(timeout=240)[0]
        assert process.returncode == 0, output
        return output

    @property
    def url(self) -> str:
        return self.workspace.endpoint("prefect")

    @property
    def workspace(self) -> Workspace:
        return open_workspace("test")

    def ask(self, path: str, **body: Any) -> Any:
        answer = api(self.url).post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    def read(self, path: str) -> Any:
        answer = api(self.url).get(path)
        answer.raise_for_status()
        return answer.json()

    def deploy(self) -> None:
        self.trilha("prefect", "compile")
        self.prefect("deploy", "--all")

    def start(self, until: str) -> str:
        """A run as Prefect's page starts it; returns its id there."""
        deployment = self.read("/deployments/name/lifecycle/small")["id"]
        made = self.ask(f"/deployments/{deployment}/create_flow_run", parameters={"until": until})
        return str(made["id"])

    def state(self, flow_run: str) -> str:
        return str(self.read(f"/flow_runs/{flow_run}")["state_type"])

    def nodes(self, flow_run: str) -> dict[str, NodeState]:
        """What is on record of the nodes of a run, by its id on the server."""
        return RunLog(self.workspace).nodes(self.read(f"/flow_runs/{flow_run}")["name"])

    def crew(self) -> list[psutil.Process]:
        """The process that looks after the workers, the workers, and all that they started."""
        return [process for _, process in processes.find(self.workspace.home, ["workers"])]

    def workers(self) -> list[psutil.Process]:
        return [process for process in self.crew() if "worker" in process.cmdline()]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A yard with `small` deployed on it; this process' own repository while the module's tests run."""
    root = tmp_path_factory.mktemp("yard")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRILHA_ROOT", str(root))
        forget()
        made = Yard(root)
        try:
            made.trilha("up", "prefect", "mlflow", "tensorboard", "--workers", "1")
            made.deploy()
            yield made
        finally:
            made.let_go()
            made.trilha("down")
    forget()


def forget() -> None:
    for cached in (config.root, open_workspace):
        cached.cache_clear()
