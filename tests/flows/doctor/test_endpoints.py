"""What doctor says of everything that a profile names elsewhere: real parts, and ports where nobody is."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.place import Place
from components.workspace import Workspace, open_workspace
from flows.doctor import Check, endpoints, examine
from flows.services import down, ensure
from tests.azure import connection
from tests.containers import Containers
from tests.kubeflow import TOKEN, Server
from tests.lakefs_server import started
from tests.object_stores import BUCKETS
from tests.s3 import SECRET
from tests.triton import Triton

ROOT = Path(__file__).parents[3]
TRIGGERS = "seed-1f6b-of-a-token-nobody-may-see"
LAKE = {
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "seed-3d80-of-a-name-nobody-may-see",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "seed-9a42-of-a-key-nobody-may-see",
}


def name(repository: Path, **settings: Any) -> Workspace:
    """The parts of profile `test` with these settings."""
    store = {"kind": "git", "path": ".trilha/test/data.git"}
    profile = {"state": ".trilha/test", "store": store, "engine": "local", **settings}
    (repository / "config" / "profiles" / "test.yaml").write_text(json.dumps(profile))
    open_workspace.cache_clear()
    return open_workspace("test")


def found(look: str) -> Check:
    """The last that one look says; the others are left out."""
    return list(getattr(endpoints, look)(open_workspace("test")))[-1]


def everywhere(address: str) -> dict[str, Any]:
    """Every endpoint at one address."""
    url = f"http://{address}"
    services: dict[str, Any] = {one: {"url": url} for one in ("prefect", "mlflow", "tensorboard", "gateway")}
    services["triton"] = {"url": address, "repository": "s3://bucket/models"}
    services["triggers"] = {"url": url, "token_env": "TRILHA_TRIGGERS_TOKEN"}
    return {
        "state": "s3://bucket/state",
        "store": {"kind": "lakefs", "url": url, "repository": "lake", "namespace": "local://lake"},
        "sql": f"postgres://ana:seed-77aa-of-a-database@{address}/lake",
        "services": services,
        "kubeflow": {"host": url, "image": "trilha:1", "token_env": "KUBEFLOW_TOKEN", "namespace": "team"},
    }


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that a profile can ask for is set."""
    given = {"KUBEFLOW_TOKEN": TOKEN, "TRILHA_TRIGGERS_TOKEN": TRIGGERS, **LAKE}
    given |= {"AWS_ACCESS_KEY_ID": "seed-of-a-name", "AWS_SECRET_ACCESS_KEY": SECRET}
    given |= {"PREFECT_API_AUTH_STRING": "trilha:seed-0c1d", "MLFLOW_TRACKING_TOKEN": "seed-6e50-of-a-token"}
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    return [*given.values(), "seed-77aa-of-a-database"]


def babble(server: socket.socket) -> None:
    """Answer whoever comes with what is no protocol at all."""
    while True:
        try:
            with server.accept()[0] as caller:
                caller.recv(65536)
                caller.sendall(b"what?\r\n\r\n")
        except OSError:
            return


@pytest.mark.parametrize("there", ["closed", pytest.param("mute", marks=pytest.mark.long), "babbling"])
def test_nobody_anywhere(repository: Path, secrets: list[str], there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every endpoint is named with what to do, in seconds all together; no secret is in a word of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        if there == "babbling":
            threading.Thread(target=babble, args=(server,), daemon=True).start()
        address = f"127.0.0.1:{9 if there == 'closed' else server.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        name(repository, **everywhere(address))
        command = [sys.executable, "-c", "from flows.cli import main; main()", "doctor", "--profile", "test", "--json"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(repository)}
        begun = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        taken = time.monotonic() - begun
    assert done.returncode == 1, done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in secrets)
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    looked_at = [
        "state",
        "store",
        "sql",
        "prefect",
        "mlflow",
        "tensorboard",
        "triton",
        "models",
        "triggers",
        "gateway",
        "kubeflow",
    ]
    for look in looked_at:
        check = checks[look]
        assert check["verdict"] == ("note" if look in {"prefect", "triggers", "gateway", "kubeflow"} else "bad"), check
        assert address in check["found"] or "s3://bucket" in check["found"], check
        assert check["remedy"], check
        assert "\n" not in check["found"]
    assert taken < (
        50 if there == "mute" else 30
    )  # a busy machine takes long to import what asks; limits are 3 s and 10 s


# --- state -----------------------------------------------------------------------------------------------------------


def test_state_in_a_bucket(repository: Path, any_bucket: str) -> None:
    """It is listed and written for real, and nothing is left of that."""
    name(repository, state=f"{any_bucket}/state")
    assert (found("state").verdict, found("state").found) == ("good", f"{any_bucket}/state can be listed and written")
    assert Place(any_bucket).files() == {}


def test_state_in_a_bucket_that_is_not_there(repository: Path, any_bucket: str) -> None:
    """It is to be made."""
    name(repository, state=f"{any_bucket}-gone/state")
    assert (found("state").verdict, found("state").remedy) == ("bad", "make the bucket, or correct the profile")


@pytest.mark.parametrize("store", ["s3", "azure"])  # the emulator of Google's takes every key
def test_state_that_is_refused(
    repository: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """Another key is not taken, and nobody says what the key is."""
    name(repository, state=f"{request.getfixturevalue(BUCKETS[store])}/state")
    if store == "s3":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "seed-of-another-key")
    else:
        other = connection(request.getfixturevalue("azure_server"), key="c2VlZC1vZi1hbm90aGVyLWtleQ==")
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", other)
    monkeypatch.setattr("fsspec.spec.AbstractFileSystem.cachable", False)  # as in a new process
    check = found("state")
    assert (check.verdict, check.remedy) == ("bad", "correct the credentials, and what their user may do")
    assert "seed" not in check.found
    assert "c2VlZ" not in check.found


def test_a_home_that_cannot_be_made(repository: Path) -> None:
    """The folder is named; what needs it is left out."""
    (repository / "file").touch()
    name(repository, state="file/state")
    checks = examine("test")
    assert [check.name for check in checks if check.verdict == "bad"] == ["disk"]
    assert checks[-1].found.endswith("file/state cannot be made: Not a directory")
    assert "config/profiles/test.yaml" in checks[-1].remedy


# --- store and SQL ---------------------------------------------------------------------------------------------------


def test_a_git_store(repository: Path) -> None:
    """One that is not there yet is made by a run, not by a look."""
    workspace = name(repository)
    assert found("store").found.endswith("data.git: the first run makes it")
    assert not (repository / ".trilha" / "test" / "data.git").exists()
    _ = workspace.store
    assert found("store").found.endswith("data.git")


@pytest.mark.lakefs
@pytest.mark.skipif(shutil.which("lakefs") is None, reason="no lakefs on PATH")
def test_a_lakefs_store(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, to be made, without a key, with another one, and something else that is no lakeFS at all."""
    (tmp_path / "lakefs").mkdir()
    with started(tmp_path / "lakefs") as server:
        store = {"kind": "lakefs", "url": server.url, "repository": "lake", "namespace": f"{server.namespace}lake"}
        workspace = name(repository, store=store)
        check = found("store")
        assert check.found == "the environment variable LAKECTL_CREDENTIALS_ACCESS_KEY_ID is not set"
        assert (check.verdict, check.remedy) == ("bad", "export LAKECTL_CREDENTIALS_ACCESS_KEY_ID=...")
        for variable, value in server.credentials.items():
            monkeypatch.setenv(variable, value)
        assert found("store").found == f"lakeFS at {server.url}; a run makes repository 'lake' in local://lake"
        _ = workspace.store
        assert found("store").found == f"repository 'lake' of lakeFS at {server.url}, in local://lake"
        for variable, value in LAKE.items():
            monkeypatch.setenv(variable, value)
        check = found("store")
        assert (check.verdict, check.found) == ("bad", f"lakeFS at {server.url} refuses: error authenticating request")
        assert check.remedy == f"export {'=... '.join(LAKE)}=..."


@pytest.mark.lakefs
def test_a_store_that_is_no_lakefs(repository: Path, kubeflow: Server, secrets: list[str]) -> None:
    """Another server at its address is told apart from a lakeFS without the repository."""
    name(repository, store={"kind": "lakefs", "url": kubeflow.url, "repository": "lake", "namespace": "local://lake"})
    check = found("store")
    assert check.verdict == "bad"
    assert kubeflow.url in check.found


def test_an_sql_engine(repository: Path) -> None:
    """It answers a query, or says why not; an engine whose package is missing is named with the command for it."""
    name(repository, sql=f"duckdb://{repository}/lake.db")
    assert found("sql").found == f"duckdb at duckdb://{repository}/lake.db"
    name(repository, sql="nosuch://ana:seed@")
    check = found("sql")
    assert (check.verdict, "seed" in check.found + check.remedy) == ("bad", False)
    assert check.remedy.endswith("`sql` in the profile, or what its user may do")


# --- services --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """MLflow, TensorBoard and the trigger service of another repository, which `trilha up` started."""
    root = tmp_path_factory.mktemp("there")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRILHA_ROOT", str(root))
        patch.setenv("TRILHA_TRIGGERS_TOKEN", TRIGGERS)
        forget()
        (root / "config" / "projects").mkdir(parents=True)
        (root / "config" / "profiles").mkdir()
        workspace = name(root, services={"triggers": {"token_env": "TRILHA_TRIGGERS_TOKEN"}})
        ensure(workspace, ["mlflow", "tensorboard", "triggers", "gateway"])
    try:
        forget()
        yield workspace
    finally:
        down(workspace)


def forget() -> None:
    from components import config

    config.root.cache_clear()
    open_workspace.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("service", ["mlflow", "tensorboard", "triggers"])
def test_a_service_is_well(
    repository: Path, there: Workspace, secrets: list[str], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for something that only it answers; another server at its address is none."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    token = {"token_env": "TRILHA_TRIGGERS_TOKEN"} if service == "triggers" else {}
    name(repository, services={service: {"url": there.endpoint(service), **token}})
    assert (found(service).verdict, there.endpoint(service) in found(service).found) == ("good", True)
    other = there.endpoint("tensorboard" if service == "mlflow" else "mlflow")
    name(repository, services={service: {"url": f"{other}/nowhere", **token}})
    assert found(service).verdict != "good"
    assert other in found(service).found


@pytest.mark.slow
def test_the_gateway(repository: Path, there: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is up and has no release to answer with is told apart from one that is well, and from another server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = there.endpoint("gateway")
    name(repository, services={"gateway": {"url": url}})
    assert (found("gateway").verdict, found("gateway").remedy.split(",")[0]) == ("note", "trilha releases PROJECT")
    assert f"the gateway at {url} is up, and not every release answers there" in found("gateway").found
    name(repository, services={"gateway": {"url": there.endpoint("tensorboard")}})
    assert "is no gateway" in found("gateway").found


@pytest.mark.parametrize(
    ("token", "says", "remedy"),
    [
        ("seed-of-an-old-token", "does not know us (401)", "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASS"),
        (TOKEN, "is no MLflow", "look at its log, or correct services.mlflow.url"),
    ],
)
def test_a_token_for_mlflow(
    repository: Path, kubeflow: Server, monkeypatch: pytest.MonkeyPatch, token: str, says: str, remedy: str
) -> None:
    """What MLflow's client would send is sent; who is not known, and what is no MLflow, is told apart."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    name(repository, services={"mlflow": {"url": kubeflow.url}})
    check = found("mlflow")
    assert (check.verdict, says in check.found, check.remedy.startswith(remedy)) == ("bad", True, True), check
    assert kubeflow.tokens == {token}


@pytest.mark.slow
def test_another_token_for_triggers(repository: Path, there: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, too short or another one: only noted, for a person can start runs; no run is started by the look."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    name(repository, services={"triggers": {"url": there.endpoint("triggers"), "token_env": "TRILHA_TRIGGERS_TOKEN"}})
    for token, says in (
        (None, "the environment variable TRILHA_TRIGGERS_TOKEN holds no token"),
        ("seed-of-another-token", "does not take the token in TRILHA_TRIGGERS_TOKEN"),
    ):
        monkeypatch.delenv("TRILHA_TRIGGERS_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("TRILHA_TRIGGERS_TOKEN", token)
        check = found("triggers")
        assert (check.verdict, says in check.found) == ("note", True), check
        assert check.remedy.startswith("export TRILHA_TRIGGERS_TOKEN=...")
        assert "seed" not in check.found + check.remedy


def test_triton(repository: Path, triton: Triton) -> None:
    """A server that answers, and the repository that it reads: another one than ours is told by what it serves."""
    settings = {"url": triton.address, "repository": str(triton.repository)}
    workspace = name(repository, services={"triton": settings})
    checks = list(endpoints.triton(workspace))
    assert [(check.name, check.verdict) for check in checks] == [("triton", "good"), ("models", "good")]
    model = "doctor"
    config = (
        'name: "doctor"\nbackend: "python"\ninput: [{name: "x", data_type: TYPE_FP32, dims: [1]}]\n'
        'output: [{name: "y", data_type: TYPE_FP32, dims: [1]}]\n'
    )
    code = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
    workspace.server.publish({model: {"config.pbtxt": config, "1/model.py": code}})
    workspace.server.load(model)
    try:
        name(repository, services={"triton": {**settings, "repository": str(repository / "elsewhere")}})
        check = found("triton")
        assert (check.name, check.verdict) == ("models", "bad")
        assert "has no model" in check.found
        assert "services.triton.repository" in check.remedy
    finally:
        workspace.server.unload(model)


# --- Kubeflow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "refusal", "says", "remedy"),
    [
        (TOKEN, None, "knows us in namespace 'team'", ""),
        ("", None, "no token in KUBEFLOW_TOKEN", "export KUBEFLOW_TOKEN=$(kubectl create token ACCOUNT)"),
        ("seed-of-an-old-token", None, "KUBEFLOW_TOKEN: it may have expired", "get a new one (`kubectl create token"),
        (
            TOKEN,
            (403, f"ana ({TOKEN}) may not list runs"),
            "forbids this in namespace 'team'",
            "correct kubeflow.names",
        ),
        (TOKEN, (302, "Found"), "KUBEFLOW_TOKEN: it may have expired", "get a new one (`kubectl create token"),
        (TOKEN, (429, "too many"), "quota exceeded", "kubectl describe resourcequota"),
    ],
)
@pytest.mark.parametrize("engine", ["kubeflow", "local"])
def test_kubeflow(
    repository: Path,
    kubeflow: Server,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    refusal: tuple[int, str] | None,
    says: str,
    remedy: str,
    engine: str,
) -> None:
    """Token, namespace and quota are asked of the server itself; bad where the profile's runs go there."""
    monkeypatch.setenv("KUBEFLOW_TOKEN", token)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(repository / "none.json"))
    settings = {"host": kubeflow.url, "token_env": "KUBEFLOW_TOKEN", "namespace": "team", "image": "trilha:1"}
    name(repository, engine=engine, kubeflow=settings)
    kubeflow.refusal = refusal
    check = found("kubeflow")
    assert says in check.found
    assert check.remedy.startswith(remedy)
    assert check.verdict == ("good" if not remedy else "bad" if engine == "kubeflow" else "note")
    assert "seed" not in check.found


@pytest.mark.slow
def test_what_is_no_kubeflow(repository: Path, there: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page for people, with status 200, is no list of runs."""
    monkeypatch.setenv("KUBEFLOW_TOKEN", TOKEN)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(repository / "none.json"))
    settings = {"host": f"{there.endpoint('mlflow')}/#", "token_env": "KUBEFLOW_TOKEN", "image": "trilha:1"}
    name(repository, engine="kubeflow", kubeflow=settings)
    check = found("kubeflow")
    assert (check.verdict, "is no Kubeflow" in check.found) == ("bad", True), check
    assert check.remedy == "correct kubeflow.host in config/profiles/test.yaml"


def test_an_image_on_this_machine(repository: Path, podman: Containers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a host the nodes run here: the image is looked for where they would be started."""
    monkeypatch.setenv("DOCKER_HOST", podman.host)
    name(repository, engine="kubeflow", kubeflow={"image": podman.image})
    assert (found("kubeflow").verdict, podman.image in found("kubeflow").found) == ("good", True)
    name(repository, engine="kubeflow", kubeflow={"image": "trilha:none"})
    check = found("kubeflow")
    assert (check.verdict, check.found) == ("bad", "no image 'trilha:none' on this machine")
    assert check.remedy == "make image"
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert "unix:///nowhere/docker.sock" in found("kubeflow").found
    assert "podman system service" in found("kubeflow").remedy


def test_the_redis_of_features(
    repository: Path, redis: tuple[subprocess.Popen[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good where it answers; where it does not, or the variable holds none, that is told without its password."""
    secret = "seed-51ce-of-a-redis"
    name(repository, features={"redis_env": "FEATURES_URL"})
    assert found("features").found == "the environment variable FEATURES_URL holds no URL of a Redis"
    monkeypatch.setenv("FEATURES_URL", redis[1])
    name(repository, features={"redis_env": "FEATURES_URL"})
    assert (found("features").verdict, found("features").found) == ("good", "the Redis of FEATURES_URL answers")
    monkeypatch.setenv("FEATURES_URL", redis[1].replace("redis://", f"redis://ana:{secret}@"))
    name(repository, features={"redis_env": "FEATURES_URL"})
    refused = found("features")
    assert refused.verdict == "bad"
    assert secret not in refused.found + refused.remedy
    redis[0].kill()
    redis[0].wait()
    assert found("features").found.startswith("Redis: ")
