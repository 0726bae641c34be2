"""`prefect.yaml` as it is compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components import config
from components.errors import NotFoundError
from flows.engines.prefect_yaml import compiled

ROOT = Path(__file__).parents[3]


def deployments(profile: str = "test") -> dict[str, dict[str, Any]]:
    return {f"{one['entrypoint']}/{one['name']}": one for one in yaml.safe_load(compiled(profile))["deployments"]}


def test_is_not_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the repository is what the projects compile to now."""
    monkeypatch.setenv("TRILHA_ROOT", str(ROOT))
    config.root.cache_clear()
    try:
        assert compiled("local") == (ROOT / "prefect.yaml").read_text(), "stale: trilha prefect compile"
    finally:
        config.root.cache_clear()


def test_one_lifecycle_a_project(small: Path) -> None:
    """It has the project's words, one slot, and the profile's pool; without a schedule it has none."""
    assert deployments() == {
        "flows.deployments.lifecycle/small": {
            "name": "small",
            "description": "**Late parcels.** Made-up parcels, small enough to run a whole lifecycle in a test.",
            "entrypoint": "flows.deployments.lifecycle",
            "parameters": {"project": "small", "profile": "test"},
            "tags": ["small", "test"],
            "schedules": [],
            "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
            "work_pool": {"name": "onprem"},
        }
    }


def test_schedule_and_pools(small: Path) -> None:
    """A project's schedule keeps its time zone; each pool for placement gets a deployment that runs single steps."""
    project, profile = small / "config/projects/small/project.yaml", small / "config/profiles/test.yaml"
    project.write_text(
        project.read_text() + '\nschedule: {cron: "0 3 * * *", timezone: Europe/Lisbon, active: false}\n'
    )
    profile.write_text(profile.read_text() + "pools: [gpu-pool]\nservices: {workers: {pool: yard}}\n")
    found = deployments()
    lifecycle = found["flows.deployments.lifecycle/small"]
    assert lifecycle["schedules"] == [{"cron": "0 3 * * *", "timezone": "Europe/Lisbon", "active": False}]
    assert lifecycle["work_pool"] == {"name": "yard"}
    assert found["flows.deployments.step/gpu-pool"]["work_pool"] == {"name": "gpu-pool"}


@pytest.mark.parametrize(("engine", "active"), [("local", True), ("prefect", True), ("kubeflow", False)])
def test_one_engine_has_the_schedule(small: Path, engine: str, *, active: bool) -> None:
    """Where the profile's engine is Kubeflow, the schedule is Kubeflow's, and Prefect's only shows it."""
    project, profile = small / "config/projects/small/project.yaml", small / "config/profiles/test.yaml"
    project.write_text(f'{project.read_text()}\nschedule: {{cron: "0 3 * * *"}}\n')
    profile.write_text(profile.read_text().replace("engine: local", f"engine: {engine}"))
    [schedule] = deployments()["flows.deployments.lifecycle/small"]["schedules"]
    assert schedule["active"] is active


def test_says_how_it_was_made(small: Path) -> None:
    """The file's heading has the very commands that make and use it."""
    assert "`trilha prefect compile --profile test --output other.yaml`" in compiled("test", "other.yaml")
    assert "`prefect deploy --all --prefect-file other.yaml`" in compiled("test", "other.yaml")


def test_no_such_profile(small: Path) -> None:
    """The profile is named, with those that there are."""
    with pytest.raises(NotFoundError, match="no profile 'moon'; accepted: test"):
        compiled("moon")
