"""The image that `make image` builds: who runs in it, what is in it, and that a project comes out of it as from here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from components.workspace import Workspace, open_workspace
from flows.engines.prefect import prepare
from flows.engines.prefect_yaml import compiled
from tests.containers import Containers
from tests.prefect_api import api

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:mode=1777")


def inside(built: Containers, *command: str) -> str:
    """What a command in a container says; the container may do as little as deploy/ lets it."""
    done = subprocess.run(
        [*built.command, "run", "--rm", "--network", "none", *HARDENED, built.image, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nobody_in_particular(built: Containers) -> None:
    """A user without a name or rights, who finds nothing of the image that it could write to."""
    assert inside(built, "id", "-u").strip() == "10001"
    closed = ("-not", "-readable", "-prune", "-o")
    writable = ("-writable", "-not", "-type", "l", "-not", "-perm", "-1000", "-print")
    assert inside(built, "find", "/opt", "/usr", "/etc", "-xdev", *closed, *writable) == ""


def test_commands(built: Containers) -> None:
    """`trilha`, a step and Prefect's command are there, on a read-only disk and without a network."""
    assert "From raw data to a served" in inside(built, "trilha", "--help")
    assert "usage: python -m components" in inside(built, "python", "-m", "components", "--help")
    assert inside(built, "prefect", "--version").startswith(version("prefect"))


def test_what_the_lock_says(built: Containers) -> None:
    """The packages in the image are those of its lock, in their versions, and no others."""
    python = {"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux"}
    lines = (ROOT / "deploy" / "images" / "requirements.lock").read_text().splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if line[:1].isalnum()]
    locked = {
        re.sub(r"[-_.]+", "-", pin.name).lower(): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(python)
    }
    listed = json.loads(
        inside(
            built,
            "python",
            "-c",
            "import json, re; from importlib.metadata import distributions as all; "
            "print(json.dumps({re.sub('[-_.]+', '-', one.name).lower(): one.version for one in all()}))",
        )
    )
    assert {name: pin for name, pin in listed.items() if locked.get(name, pin) != pin} == {}
    assert sorted(listed.keys() - locked.keys() - {"pip", "setuptools", "wheel"}) == []


def test_no_secret_and_no_trace(built: Containers) -> None:
    """Neither settings nor files tell who built it: no proxy, no certificate, no address that packages came from."""
    found = subprocess.run([*built.command, "inspect", built.image], capture_output=True, text=True, check=True).stdout
    [settings] = json.loads(found)
    text = json.dumps([settings["Config"], settings.get("History")])
    assert not re.search(r"(?i)proxy|index[-_]url|password|secret_|token|\.pem|certificates=/", text)
    assert "direct_url.json" not in inside(built, "find", "/opt/venv", "-name", "direct_url.json")
    assert (
        inside(built, "sh", "-c", "ls -A /root /home /var/cache /var/log 2>/dev/null | grep -v : || true").split() == []
    )
    assert settings["Config"]["Labels"]["org.opencontainers.image.revision"]


def test_flights(built: Containers) -> None:
    """The whole lifecycle of `flights`, each node a container, differs in nothing from the one on this machine."""
    done = subprocess.run(
        [Path(sys.executable).with_name("trilha"), "parity", "flights", "--engines", "local,kubeflow", "--json"],
        env=built.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["differences"] == []
    assert {one["engine"]: one["outcome"] for one in found["observed"]} == {"local": "done", "kubeflow": "done"}
    assert len(found["observed"][1]["nodes"]) == len(found["observed"][0]["nodes"]) > 10


@pytest.mark.xdist_group("prefect")
def test_a_run_from_prefects_pool(built: Containers, on_prefect: Workspace, small: Path, prefect_url: str) -> None:
    """A worker of the pool `docker` takes a run: a container of the image, confined as the template says, does it."""
    image = "localhost/trilha-small:test"
    recipe = small / "Dockerfile"
    recipe.write_text(f"FROM {built.image}\nCOPY config config\nCOPY data data\nCOPY notebooks notebooks\n")
    subprocess.run([*built.command, "build", "--quiet", "--tag", image, "--file", recipe, small], check=True)
    profile = small / "config" / "profiles" / "test.yaml"
    services = f"services: {{prefect: {{url: '{prefect_url}'}}, workers: {{pool: docker}}}}"
    profile.write_text(
        re.sub(r"(?m)^services: .*$", services, profile.read_text()) + f"kubeflow: {{image: '{image}'}}\n"
    )
    shutil.copytree(ROOT / "deploy" / "workpools", small / "deploy" / "workpools")
    open_workspace.cache_clear()
    (small / "prefect.yaml").write_text(compiled("test"))
    prepare(open_workspace("test"))
    environment = built.environment | {
        "PREFECT_API_URL": f"{prefect_url}/api",
        "PREFECT_HOME": str(small / "prefect"),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
    }

    def prefect(*arguments: str) -> str:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(command, cwd=small, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    prefect("deploy", "--all")
    host = "--job-variable=network_mode=host"  # the server is on this machine's loopback
    prefect("deployment", "run", "lifecycle/small", "-p", "until=ingest", host)
    said = prefect("worker", "start", "--pool", "docker", "--run-once")

    def ask(path: str, **body: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api(prefect_url).post(path, json=body).json()
        return found

    [run] = ask("/flow_runs/filter", work_pools={"name": {"any_": ["docker"]}})
    assert run["state_name"] == "Completed", f"{run['state']['message']}\n{said}"
    assert ":" in run["infrastructure_pid"]  # the container's, not a process'
    tasks = ask("/task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
    assert {task["name"]: task["state_name"] for task in tasks} == {"observe": "Completed", "ingest": "Completed"}
