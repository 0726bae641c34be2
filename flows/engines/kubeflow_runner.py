"""The process in which Kubeflow's local runner runs pipelines: `python -m flows.engines.kubeflow_runner FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
from kfp import local
from kfp.components import load_component_from_text
from kfp.local import docker_task_handler


def main(folder: Path) -> None:
    """Run pipelines of `FOLDER` in turn, as the first line of standard input says; end when that is closed.

    After one that failed the others run all the same.
    """
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, args=(job["run"],), daemon=True).start()
    docker_task_handler.run_docker_container = _run
    mounts = [docker.types.Mount(**mount) for mount in job["mounts"]]
    runner = local.DockerRunner(**job["container"], mounts=mounts)
    failed: list[str] = []
    for name in job["pipelines"]:
        workspace = folder / f"{name}-workspace"
        workspace.mkdir()
        local.init(runner, pipeline_root=str(folder / "outputs"), workspace_root=str(workspace))
        try:
            load_component_from_text((folder / f"{name}.yaml").read_text())(run=job["run"])
        except RuntimeError as error:  # as the runner says that a task failed
            failed.append(f"{error}")
    if failed:
        sys.exit("\n".join(failed))


def _run(client: Any, image: str, command: list[str], volumes: dict[str, Any], **how: Any) -> int:
    """Run a container and return its exit code.

    Kubeflow's own function has containers removed when they end, and takes one that is gone before it could ask for one
    that succeeded.
    """
    container = client.containers.run(image=image, command=command, volumes=volumes, detach=True, **how)
    try:
        for line in container.logs(stream=True):
            sys.stdout.write(line.decode(errors="replace"))
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def _stop_with_parent(run: str) -> None:
    sys.stdin.read()
    client = docker.from_env()
    for container in client.containers.list(filters={"label": f"trilha.run={run}"}):
        with suppress(docker.errors.APIError):  # it ended by itself
            container.kill()
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
