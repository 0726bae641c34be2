"""The process in which Kubeflow's local runner runs one pipeline: `python -m flows.engines.kubeflow_runner FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import docker
from kfp import local
from kfp.components import load_component_from_text


def main(folder: Path) -> None:
    """Run `FOLDER/pipeline.yaml` as the first line of standard input says; end when that is closed."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, args=(job["run"],), daemon=True).start()
    mounts = [docker.types.Mount(**mount) for mount in job["mounts"]]
    runner = local.DockerRunner(**job["container"], mounts=mounts)
    (folder / "workspace").mkdir()
    local.init(runner, pipeline_root=str(folder / "outputs"), workspace_root=str(folder / "workspace"))
    load_component_from_text((folder / "pipeline.yaml").read_text())(run=job["run"])


def _stop_with_parent(run: str) -> None:
    sys.stdin.read()
    client = docker.from_env()
    for container in client.containers.list(filters={"label": f"trilha.run={run}"}):
        with suppress(docker.errors.APIError):  # it ended by itself
            container.kill()
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
