"""Real services, started, killed, hung, crowded out and stopped. TensorBoard and Triton stand for all: they start fast."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from components import endpoints
from components.endpoints import TOKEN, Endpoint
from components.errors import UnavailableError
from components.export import export
from components.ledger import running_as
from components.place import Place
from components.project import Serve
from components.qualify import qualify
from components.serve_settings import Triton
from components.workspace import Workspace, open_workspace
from flows.services import SERVICES, down, ensure, processes, status, supervisor
from flows.services.logs import log_path
from flows.services.registry import Launch, clean
from tests.object_stores import BUCKETS
from tests.triton import Fitted, candidate_in

pytestmark = pytest.mark.slow


@pytest.fixture
def home(workspace: Workspace) -> Iterator[Workspace]:
    """The workspace; whatever was started for it is stopped at the end."""
    yield workspace
    down(workspace)
    assert belonging(workspace) == []


def belonging(workspace: Workspace) -> list[psutil.Process]:
    return [process for _, process in processes.find(workspace.home, SERVICES)]


def written(workspace: Workspace, service: str) -> Endpoint:
    found = endpoints.read(workspace.home, service)
    assert found is not None
    return found


def with_services(workspace: Workspace, text: str) -> Workspace:
    """The workspace again, with `services:` in its profile."""
    path = Path("config/profiles/test.yaml")
    path.write_text(path.read_text() + f"services: {text}\n")
    open_workspace.cache_clear()
    return open_workspace("test")


@pytest.mark.long
def test_all_of_them(home: Workspace) -> None:
    """`ensure` returns when all of them are well, a second time at once and without a word, and `down` leaves nothing."""
    said: list[str] = []
    ensure(home, say=said.append)
    assert {one.service: one.state for one in status(home)} == dict.fromkeys(SERVICES, "running")
    assert [line for line in said if "is up at" in line] != []
    for name in ("prefect", "mlflow", "tensorboard"):
        with urllib.request.urlopen(home.endpoint(name), timeout=10) as page:
            assert "text/html" in page.headers["Content-Type"]
    assert home.endpoint("triton").startswith("127.0.0.1:")
    before, said[:] = [written(home, name) for name in SERVICES], []
    ensure(home, say=said.append)
    assert said == []
    assert before == [written(home, name) for name in SERVICES]
    assert down(home) == sorted(SERVICES)
    assert belonging(home) == []
    assert {one.state for one in status(home)} == {"stopped"}


def test_loopback_only(home: Workspace) -> None:
    """Nothing listens beyond this machine."""
    ensure(home, ["tensorboard", "triton"])
    listening = [
        ip_address(address.laddr.ip)
        for process in belonging(home)
        for address in process.net_connections("tcp")
        if address.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert all((getattr(one, "ipv4_mapped", None) or one).is_loopback for one in listening)


def test_killed(home: Workspace) -> None:
    """A service that was killed is seen to be gone and is started again, where it was before."""
    ensure(home, ["triton"])
    first = written(home, "triton")
    os.kill(first.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(first.pid)] if psutil.pid_exists(first.pid) else [], timeout=5)
    with pytest.raises(UnavailableError, match="triton is not running.*trilha up"):
        home.endpoint("triton")
    assert next(one.state for one in status(home) if one.service == "triton") == "stopped"
    ensure(home, ["triton"])
    assert written(home, "triton").pid != first.pid
    assert written(home, "triton").url == first.url


@pytest.mark.long
def test_hung(home: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that runs and does not answer is told apart from one that is well, and is replaced."""
    monkeypatch.setattr(supervisor, "ANSWER", 0.5)
    monkeypatch.setattr(processes, "PATIENCE", 1.0)
    ensure(home, ["tensorboard"])
    first = written(home, "tensorboard")
    os.kill(first.pid, signal.SIGSTOP)
    assert next(one.state for one in status(home) if one.service == "tensorboard") == "not answering"
    ensure(home, ["tensorboard"])
    assert not psutil.pid_exists(first.pid) or psutil.Process(first.pid).status() == psutil.STATUS_ZOMBIE
    assert next(one.state for one in status(home) if one.service == "tensorboard") == "running"


def test_stale_pid(home: Workspace) -> None:
    """A PID that belongs to somebody else by now is not taken for the service, and is left alone."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        path = endpoints.path(home.home, "triton")
        path.parent.mkdir(parents=True)
        path.write_text(
            Endpoint(
                service="triton",
                url="127.0.0.1:1",
                ports={"grpc": 1},
                pid=stranger.pid,
                token="old",
                started="2026-01-01",
            ).model_dump_json()
        )
        with pytest.raises(UnavailableError):
            home.endpoint("triton")
        ensure(home, ["triton"])
        assert written(home, "triton").pid != stranger.pid
        down(home)
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("text", ["", "{", '{"service": "triton"}'])
def test_torn_state_file(home: Workspace, text: str) -> None:
    """A state file that is not whole counts as none."""
    path = endpoints.path(home.home, "triton")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    ensure(home, ["triton"])
    assert home.endpoint("triton") == written(home, "triton").url


def test_port_in_use(home: Workspace) -> None:
    """The profile's port is taken if it is free; if not, that is said, and another one is taken."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        again = with_services(home, f"{{tensorboard: {{port: {port}}}}}")
        said: list[str] = []
        ensure(again, ["tensorboard"], said.append)
        other = written(again, "tensorboard").ports["http"]
        assert f"port {port} is in use by another program; tensorboard takes {other}" in said
    down(again)
    ensure(again, ["tensorboard"])
    assert again.endpoint("tensorboard") == f"http://127.0.0.1:{port}"


UP = """
from components.workspace import open_workspace
from flows.services import ensure
said = []
ensure(open_workspace("test"), ["triton"], said.append)
print(len(said))
"""


def test_two_at_once(home: Workspace) -> None:
    """Two commands that ask at the same time get one set between them."""
    root = str(Path(__file__).parents[3])
    with ThreadPoolExecutor(2) as pool:
        ran = [
            pool.submit(
                subprocess.run,
                [sys.executable, "-c", UP],
                env=os.environ | {"PYTHONPATH": root},
                capture_output=True,
                text=True,
                check=True,
            )
            for _ in range(2)
        ]
    said = sorted(int(future.result().stdout) for future in ran)
    assert said == [0, 2]
    assert len([one for one in belonging(home) if "tritonserver" in one.name()]) == 1
    assert home.endpoint("triton")


def test_left_half_started(home: Workspace) -> None:
    """What a command left that was killed before it wrote anything down is found by what it carries, and replaced."""
    token = processes.new_token(home.home, "triton")
    with subprocess.Popen(["sleep", "60"], env=os.environ | {TOKEN: token}) as orphan:
        ensure(home, ["triton"])
        assert orphan.wait(5) is not None


def test_does_not_start(home: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that ends at once is reported with its last words; the others start all the same."""
    launch = Launch([sys.executable, "-c", "import sys; sys.exit('no such luck')"], dict(os.environ))
    broken = replace(SERVICES["tensorboard"], launch=lambda _home, _ports: launch)
    monkeypatch.setitem(SERVICES, "tensorboard", broken)
    with pytest.raises(UnavailableError, match="tensorboard did not start: it ended with code 1") as caught:
        ensure(home, ["tensorboard", "triton"])
    assert "no such luck" in caught.value.details
    assert home.endpoint("triton")


def test_elsewhere(home: Workspace) -> None:
    """A service with a URL is asked whether it answers, and never started or stopped."""
    ensure(home, ["tensorboard"])
    url = home.endpoint("tensorboard")
    there = with_services(home, f"{{mlflow: {{url: 'http://127.0.0.1:1'}}, tensorboard: {{url: '{url}/'}}}}")
    ensure(there, ["tensorboard"])
    assert there.endpoint("tensorboard") == url
    assert {one.service: one.state for one in status(there)}["mlflow"] == "unreachable"
    with pytest.raises(UnavailableError, match="mlflow at http://127.0.0.1:1 does not answer"):
        ensure(there, ["mlflow"])


def test_full_disk(home: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk without room nothing is started, and the error names the place and how much is missing."""
    monkeypatch.setattr(supervisor, "ROOM", 2**62)
    with pytest.raises(UnavailableError, match=r"MiB left on the disk.*make room"):
        ensure(home, ["triton"])
    assert belonging(home) == []


def test_log_is_put_aside(home: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that has grown long is put aside at the next start; one old log is kept."""
    path = log_path(home.home, "triton")
    path.parent.mkdir(parents=True)
    path.write_text("x" * 100)
    monkeypatch.setattr(processes, "LOG_SIZE", 99)
    ensure(home, ["triton"])
    assert path.with_name("triton.log.1").read_text() == "x" * 100
    assert "xxx" not in path.read_text()


def test_clean_environment() -> None:
    """Settings for the user's own programs do not reach a service; what a program needs does."""
    given = {
        "PATH": "/bin",
        "PREFECT_API_URL": "https://elsewhere",
        "MLFLOW_TRACKING_URI": "x",
        "_MLFLOW_SERVER_FILE_STORE": "x",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert clean(given) == {"PATH": "/bin", "DO_NOT_TRACK": "1"}


def test_command_line(home: Workspace) -> None:
    """`trilha up | status | logs | down` say the same to people and to machines."""

    def trilha(*arguments: str) -> str:
        command = [sys.executable, "-c", "from flows.cli import main; main()", *arguments, "--profile", "test"]
        root = str(Path(__file__).parents[3])
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "running" in trilha("up", "triton")
    states = {one["service"]: one["state"] for one in json.loads(trilha("status", "--json"))}
    assert states == dict.fromkeys(SERVICES, "stopped") | {"triton": "running"}
    logs = json.loads(trilha("logs", "triton", "-n", "3", "--json"))
    assert len(logs["lines"]) == 3
    assert trilha("logs", "triton", "-n", "3").splitlines() == logs["lines"]
    assert trilha("down") == "stopped triton\n"
    assert json.loads(trilha("down", "--json")) == {"stopped": []}


@pytest.mark.parametrize("store", ["s3", pytest.param("gcs", marks=pytest.mark.long)])
def test_models_in_a_bucket(home: Workspace, request: pytest.FixtureRequest, store: str, fitted: Fitted) -> None:
    """With a repository in an object store and no server elsewhere, ours reads its models from there, settings and all."""
    bucket = request.getfixturevalue(BUCKETS[store])
    elsewhere = with_services(home, f"{{triton: {{repository: '{bucket}/models'}}}}")
    ensure(elsewhere, ["triton"])
    wanted = Serve(golden=16, triton=Triton(instance_group=[{"count": 2}], model_warmup={"rows": 1}))
    with running_as("d" * 64):
        bundle = export("flights", "test", *candidate_in(elsewhere, fitted), wanted)
    assert qualify("test", bundle, wanted).difference <= 1e-6
    assert not (elsewhere.home / "triton" / "models").exists()
    assert f"{bundle.model}-model" in Place(f"{bucket}/models").folders()


def test_models_in_a_folder_of_one_s_own(home: Workspace, tmp_path: Path) -> None:
    """A folder that the profile names is made, and the server reads it."""
    elsewhere = with_services(home, f"{{triton: {{repository: '{tmp_path / 'models'}'}}}}")
    ensure(elsewhere, ["triton"])
    assert (tmp_path / "models").is_dir()
    assert not (elsewhere.home / "triton" / "models").exists()
