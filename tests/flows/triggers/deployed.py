"""A project that is deployed to a real Prefect server, and what the server says about its runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.prefect_api import api

ROOT = Path(__file__).parents[3]


class Deployed:
    """The deployment `DAG/PROJECT`, made anew in a work pool of its own; a lifecycle runs as far as `publish`."""

    def __init__(self, url: str, project: str, pool: str, *, dag: str = "lifecycle", limit: int = 1) -> None:
        self.project, self.pool, self._url = project, pool, url
        self._client = api(url)
        self._client.post("/work_pools/", json={"name": pool, "type": "process"})
        flow = self._post("/flows/", name=dag)["id"]
        before = self._client.get(f"/deployments/name/{dag}/{project}")  # a server of many tests: not another's runs
        if before.status_code != 404:
            self._client.delete(f"/deployments/{before.raise_for_status().json()['id']}").raise_for_status()
        parameters = {"project": project, "profile": "other"}
        self.id = self._post(
            "/deployments/",
            name=project,
            flow_id=flow,
            entrypoint=f"flows/deployments.py:{dag}",
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
            parameters=parameters | ({"until": "publish"} if dag == "lifecycle" else {}),
            work_pool_name=pool,
            concurrency_limit=limit,
            concurrency_options={"collision_strategy": "ENQUEUE"},
        )["id"]

    def runs(self) -> list[dict[str, Any]]:
        """Its flow runs, oldest first."""
        wanted = {"deployments": {"id": {"any_": [self.id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: list[dict[str, Any]] = self._post("/flow_runs/filter", **wanted)
        return found

    def commits(self) -> list[str]:
        return [run["parameters"]["commit"] for run in self.runs()]

    def work_once(self, home: Path) -> None:
        """Let a worker take what is scheduled, and end when that has ended."""
        environment = os.environ | {
            "PREFECT_API_URL": f"{self._url}/api",
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_WORKER_PREFETCH_SECONDS": "60",
            "PYTHONPATH": str(ROOT),
            "DO_NOT_TRACK": "1",
        }
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool, "--run-once"]
        done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _post(self, path: str, **body: Any) -> Any:
        answer = self._client.post(path, json=body)
        answer.raise_for_status()
        return answer.json()


def eventually(ask: Callable[[], Any], seconds: float = 30) -> Any:
    """What `ask` answers, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found
    return found
