"""What compose.yaml promises of every service, and that its secrets and the profile `compose` fit it."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components import config
from components.adapters.triton_service import PORTS
from components.profile import LakeFSStore
from tests.databases import ROOT
from tests.deploy.servers import COMPOSE

FOLDER = ROOT / "deploy" / "compose"
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS = sorted(SERVICES.keys() - {"volumes"})  # which only changes owners, and ends


@pytest.mark.parametrize("name", SERVERS)
def test_confined(name: str) -> None:
    """A service is nobody in particular, writes nowhere but into mounts, and cannot take more than its share."""
    service = SERVICES[name]
    assert service["user"].split(":")[0] != "0"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service.keys() & {"cap_add", "privileged", "network_mode", "pid", "devices"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["pids_limit"] <= 1024
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))


@pytest.mark.parametrize("name", SERVERS)
def test_watched(name: str) -> None:
    """A service says whether it is well, comes back when it ends, and starts once what it needs is well."""
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["restart"] == "unless-stopped"
    for other, how in service["depends_on"].items() if "depends_on" in service else []:
        ends = other == "volumes"
        assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_pinned_and_on_loopback(name: str) -> None:
    """An image has a full version, and what a service publishes is for this machine alone."""
    service = SERVICES[name]
    assert service["image"] == "${TRILHA_IMAGE:-trilha:dev}" or re.search(
        r":v?\d+\.\d+(\.\d+)?(-\w+)?$", service["image"]
    )
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", []))


def test_who_makes_owners() -> None:
    """The one service that is root has no network and one capability, and ends."""
    service = SERVICES["volumes"]
    assert (service["cap_drop"], service["cap_add"]) == (["ALL"], ["CHOWN"])
    assert (service["network_mode"], service["restart"], service["read_only"]) == ("none", "no", True)


def test_databases_are_apart() -> None:
    """Postgres and Redis answer in a network that leads nowhere else; workers are not in it."""
    assert COMPOSE["networks"]["databases"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["databases"]
    assert all("databases" not in SERVICES[name]["networks"] for name in ("worker", "triggers", "gateway", "triton"))


def test_mounts() -> None:
    """What is mounted from the repository is there, and is read only; every volume has an owner."""
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, mode = volume.partition(":")
            if source.startswith("."):
                assert (FOLDER / source).exists(), source
                assert mode.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]
    owners = " ".join(SERVICES["volumes"]["command"])
    assert all(f"/volumes/{volume}" in owners for volume in COMPOSE["volumes"])


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """The folder of secrets that secrets.sh makes."""
    shutil.copy(FOLDER / "secrets.sh", tmp_path)
    subprocess.run([tmp_path / "secrets.sh"], check=True, capture_output=True)
    return tmp_path / "secrets"


def test_secrets(drawn: Path) -> None:
    """Every secret that a service gets is made, is explained, and is used; services get no others."""
    used = {secret["source"] for service in SERVICES.values() for secret in service.get("secrets", [])}
    made = {path.name for path in drawn.iterdir()}
    explained = set(re.findall(r"^([a-z][a-z-]+)\b", (FOLDER / "secrets.example").read_text(), re.MULTILINE))
    assert used == made == explained == COMPOSE["secrets"].keys()
    assert {name: entry["file"] for name, entry in COMPOSE["secrets"].items()} == {n: f"./secrets/{n}" for n in made}
    targets = [secret["target"] for service in SERVICES.values() for secret in service.get("secrets", [])]
    assert all(re.fullmatch(r"[A-Z0-9_]+", target) for target in targets)


def test_secrets_are_kept(drawn: Path) -> None:
    """They are long, at random, for their owner alone, and drawn once; one that was brought along stays."""
    before = {path.name: path.read_text() for path in drawn.iterdir()}
    assert stat.S_IMODE(drawn.stat().st_mode) == 0o700
    assert all(len(text) >= 20 and "\n" not in text for text in before.values())
    independent = [
        text for name, text in before.items() if name not in {"lakefs-connection", "redis-url", "prefect-auth"}
    ]
    assert len(set(independent)) == len(independent)
    (drawn / "grafana").write_text("my own")
    subprocess.run([drawn.parent / "secrets.sh"], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in drawn.iterdir()} == before | {"grafana": "my own"}


def test_no_secret_in_the_file() -> None:
    """No variable that a secret would be in is set in the file; passwords come by mounts only."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert not re.search(r"PASSWORD$|SECRET|TOKEN|AUTH_STRING|ACCESS_KEY", variable), (name, variable)
            assert not re.search(r"://[^/]*:[^/@]*@", str(value)), (name, variable)


def test_profile() -> None:
    """The profile names the services of the file, on the ports that they listen on, and secrets that workers get."""
    profile = config.load_profile("compose")
    settings = profile.services
    urls = {name: getattr(settings, name).url for name in ("prefect", "mlflow", "tensorboard", "triggers", "gateway")}
    for name, url in urls.items():
        assert url == f"http://{name}:{_port(name)}"
    assert settings.triton.url == f"triton:{_port('triton')}"
    assert isinstance(profile.store, LakeFSStore)
    assert profile.store.url == f"http://lakefs:{_port('lakefs')}"
    for name in ("worker", "triggers"):
        given = {secret["target"] for secret in SERVICES[name]["secrets"]}
        assert {profile.store.access_key_env, profile.store.secret_key_env, "PREFECT_API_AUTH_STRING"} <= given
        assert any(volume.endswith(":/data") for volume in SERVICES[name]["volumes"])
    assert profile.state.startswith("/data/")
    assert str(settings.triton.repository).startswith("/data/")
    assert settings.workers.pool in SERVICES["worker"]["command"]
    assert settings.triggers.token_env in {secret["target"] for secret in SERVICES["triggers"]["secrets"]}


def test_the_gateway() -> None:
    """It asks who they are, finds Triton's own door, and reads the keys that a worker writes."""
    settings = config.load_profile("compose").services
    assert settings.gateway.authentication
    assert settings.triton.http == f"triton:{PORTS['http']}"
    assert not any(port.endswith(f":{PORTS['http']}") for port in SERVICES["triton"]["ports"])
    given = {name: SERVICES[name] for name in ("gateway", "worker")}
    assert all("data:/data" in one["volumes"] for one in given.values())
    assert "PREFECT_API_AUTH_STRING" not in {secret["target"] for secret in given["gateway"]["secrets"]}


def _port(name: str) -> str:
    return str(SERVICES[name]["ports"][0].split(":")[2])
