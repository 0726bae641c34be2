"""State on a real S3 server: two machines that share it and the data share the work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components import config
from components.runs import RunLog
from components.workspace import open_workspace
from flows.execute import execute, lifecycle_of
from flows.services import down, ensure

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def statuses() -> dict[str, str]:
    """Run the lifecycle here; returns what became of each node."""
    execute(lifecycle_of("small", "test"), project="small", profile="test", engine="local")
    log = RunLog(open_workspace("test"))
    return {name: state.status for name, state in log.nodes(log.header("last").id).items()}


def test_another_machine_finds_what_the_first_one_did(
    small: Path, bucket: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger, artifacts, runs and scalars are in the bucket: a second machine, with an empty home, does nothing again."""
    profile = small / "config" / "profiles" / "test.yaml"
    profile.write_text(f"state: {bucket}/state\nstore: {{kind: git, path: '{small}/data.git'}}\nengine: local\n")
    workspace = open_workspace("test")
    try:
        ensure(workspace, ["mlflow", "triton"])
        services = {name: workspace.endpoint(name) for name in ("mlflow", "triton")}
        assert set(statuses().values()) == {"done"}
        assert not [
            path for path in workspace.home.rglob("*") if path.suffix == ".parquet" and "copies" not in path.parts
        ]

        second = tmp_path_factory.mktemp("second") / "repository"
        shutil.copytree(small, second, ignore=shutil.ignore_patterns(".trilha", "data.git"))
        repository = workspace.home / "triton" / "models"
        urls = f"mlflow: {{url: '{services['mlflow']}'}}, triton: {{url: '{services['triton']}', repository: '{repository}'}}"
        there = second / "config" / "profiles" / "test.yaml"
        there.write_text(f"{there.read_text()}services: {{{urls}}}\n")
        monkeypatch.setenv("TRILHA_ROOT", str(second))
        monkeypatch.chdir(second)
        for cached in (config.root, open_workspace):
            cached.cache_clear()
        found = statuses()
        assert {name for name, status in found.items() if status == "done"} == {"observe", "champion"}
        assert set(found.values()) == {"done", "found"}
    finally:
        down(workspace)
