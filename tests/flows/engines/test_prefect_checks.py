"""What doctor says of a Prefect server: on a real one, and on a real one that asks who we are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.workspace import Workspace, open_workspace
from flows.doctor import Check, examine
from flows.engines import prefect_checks
from flows.engines.prefect import prepare
from flows.services.processes import free_port
from tests.databases import running
from tests.deploy.servers import answering
from tests.prefect_api import api

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect")]

NUMBER = count()
ROOT = Path(__file__).parents[3]
PASSWORD = "trilha:seed-52c8-of-a-password-nobody-may-see"


@pytest.fixture
def pool(small: Path, on_prefect: Workspace) -> str:
    """A pool that nobody else uses, named by the profile for its deployments; the project `small`."""
    name = f"doctor-{next(NUMBER)}"
    path = small / "config" / "profiles" / "test.yaml"
    path.write_text(path.read_text().replace("services: {", f"services: {{workers: {{pool: {name}}}, "))
    path.write_text(path.read_text().replace("engine: local", "engine: prefect"))
    open_workspace.cache_clear()
    return name


def found(name: str) -> Check:
    return next(check for check in examine("test") if check.name == name)


def post(url: str, path: str, **body: Any) -> Any:
    answer = api(url).post(path, json=body)
    answer.raise_for_status()
    return answer.json()


def deploy(url: str, pool: str, **parameters: str) -> None:
    """The deployment `lifecycle/small`."""
    flow = post(url, "/flows/", name="lifecycle")["id"]
    post(url, "/deployments/", name="small", flow_id=flow, work_pool_name=pool, parameters=parameters)


def test_a_server_without_pools_and_deployments(pool: str, prefect_url: str) -> None:
    """The server is well; what it lacks is named, each with the command that brings it there."""
    checks = {check.name: check for check in examine("test")}
    assert checks["prefect"].found.startswith("Prefect 3.")
    assert prefect_url in checks["prefect"].found
    lacking = checks[f"pool {pool}"]
    assert (lacking.verdict, lacking.found) == ("bad", f"no work pool '{pool}' on Prefect")
    assert lacking.remedy == "trilha prefect pools --profile test"


def test_a_deployment_that_is_gone(pool: str, prefect_url: str, small: Path) -> None:
    """It is named, and so are the two commands that deploy to this very server; a step's is needed for each pool."""
    (small / "config" / "projects" / "small").rename(small / "config" / "projects" / "gone")
    path = small / "config" / "profiles" / "test.yaml"
    path.write_text(path.read_text() + f"pools: [{pool}-gpu]\n")
    open_workspace.cache_clear()
    for name in ("lifecycle/gone", f"step/{pool}-gpu"):
        check = found(name)
        assert (check.verdict, check.found) == ("bad", f"no deployment {name} on Prefect")
        assert check.remedy == (
            f"trilha prefect compile --profile test; PREFECT_API_URL={prefect_url}/api prefect deploy --all"
        )


def test_a_deployment_of_somebody_else(pool: str, prefect_url: str) -> None:
    """One that runs another profile, or on another pool, is not ours; one as the profile says is well."""
    prepare(open_workspace("test"))
    deploy(prefect_url, pool, profile="other")
    assert found("lifecycle/small").found == "deployment lifecycle/small runs profile 'other'"
    post(prefect_url, "/work_pools/", name=f"{pool}-other", type="process")
    deploy(prefect_url, f"{pool}-other", profile="test")
    assert found("lifecycle/small").found == f"deployment lifecycle/small is on work pool '{pool}-other'"
    deploy(prefect_url, pool, profile="test")
    assert (found("deployments").verdict, found("deployments").found) == ("good", "lifecycle/small")


def test_a_pool_from_worker_to_worker(pool: str, prefect_url: str) -> None:
    """Without a worker the command that starts one is named; with one it is well; a paused one is resumed."""
    prepare(open_workspace("test"))
    check = found(f"pool {pool}")
    assert (check.verdict, check.found) == ("bad", f"work pool '{pool}' has no worker")
    assert check.remedy == f"PREFECT_API_URL={prefect_url}/api prefect worker start --pool {pool}"
    worker = [sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", "--pool", pool, "--type", "process"]
    variables = {"PREFECT_API_URL": f"{prefect_url}/api", "DO_NOT_TRACK": "1"}
    with running([*worker, "--install-policy", "never"], variables, Path("worker.log")):
        while not post(prefect_url, f"/work_pools/{pool}/workers/filter"):
            pass
        assert (found(f"pool {pool}").verdict, found(f"pool {pool}").found) == (
            "good",
            "of type 'process', with a worker online",
        )
    httpx.patch(f"{prefect_url}/api/work_pools/{pool}", json={"is_paused": True}, trust_env=False).raise_for_status()
    assert found(f"pool {pool}").remedy.endswith(f"prefect work-pool resume {pool}")


def test_a_pool_of_another_type(pool: str, prefect_url: str) -> None:
    """A run would get another environment than the profile means; the pool has to be made anew."""
    post(prefect_url, "/work_pools/", name=pool, type="docker")
    check = found(f"pool {pool}")
    assert (check.verdict, check.found) == ("bad", f"work pool '{pool}' is of type 'docker', not 'process'")
    assert check.remedy == f"prefect work-pool delete {pool}; trilha prefect pools --profile test"


def test_without_need(pool: str, small: Path) -> None:
    """Where another engine runs the profile, what Prefect lacks is only noted."""
    path = small / "config" / "profiles" / "test.yaml"
    path.write_text(path.read_text().replace("engine: prefect", "engine: local"))
    open_workspace.cache_clear()
    assert found(f"pool {pool}").verdict == "note"


@pytest.mark.parametrize(("ours", "verdict"), [("3.99.0", "note"), ("4.0.0", "bad")])
@pytest.mark.usefixtures("pool")
def test_an_older_server(ours: str, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions are named; another major one is none that a run can do with."""
    monkeypatch.setattr(prefect_checks.prefect, "__version__", ours)
    check = found("prefect")
    assert check.verdict == verdict
    assert f"here is {ours}" in check.found
    assert check.remedy.startswith(f"bring the server to {ours}")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server behind a password."""
    folder, port = tmp_path_factory.mktemp("guarded"), free_port([])
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    variables = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_API_AUTH_STRING": PASSWORD, "DO_NOT_TRACK": "1"}
    url = f"http://127.0.0.1:{port}"
    with answering(command, variables, folder / "log", f"{url}/api/ready"):
        yield url


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "wants credentials"),
        ("trilha:seed-wrong", "does not take what is in PREFECT_API_AUTH_STRING: it may have expired"),
        (PASSWORD, "Prefect 3."),
    ],
)
def test_credentials(small: Path, guarded: str, given: str | None, says: str) -> None:
    """None, wrong ones and right ones, each in one line with the variable to set and without what is in it."""
    path = small / "config" / "profiles" / "test.yaml"
    path.write_text(f"{path.read_text()}services: {{prefect: {{url: '{guarded}'}}}}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "doctor", "--profile", "test", "--json"],
        env=environment | {"PYTHONPATH": str(ROOT)} | ({"PREFECT_API_AUTH_STRING": given} if given else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    check = next(check for check in json.loads(done.stdout) if check["name"] == "prefect")
    assert says in check["found"]
    assert check["remedy"] == ("" if given == PASSWORD else "export PREFECT_API_AUTH_STRING=...")
    assert given is None or given not in done.stdout + done.stderr
