"""The work pools' base job templates, against what Prefect knows of each type, and on real servers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import prefect
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.workers.base import BaseJobConfiguration
from prefect.workers.process import ProcessJobConfiguration
from prefect_aws.workers.ecs_worker import ECSJobConfiguration
from prefect_docker.worker import DockerWorkerJobConfiguration
from prefect_gcp.workers.cloud_run_v2 import CloudRunWorkerJobV2Configuration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from components import config
from components.errors import ConfigError, NotFoundError
from components.workspace import Workspace, open_workspace
from flows.engines.prefect import prepare
from flows.engines.prefect_pools import POOLS
from tests.databases import ROOT

FOLDER = ROOT / "deploy" / "workpools"
WORKERS: dict[str, type[BaseJobConfiguration]] = {
    "onprem": ProcessJobConfiguration,
    "docker": DockerWorkerJobConfiguration,
    "kubernetes": KubernetesWorkerJobConfiguration,
    "ecs": ECSJobConfiguration,
    "cloud-run": CloudRunWorkerJobV2Configuration,
}
"""What a worker makes of a template; the one for Azure needs an environment of its own."""
BESIDE = {"env_from_secrets", "secrets"}
"""Variables of ours for what the workers take and their own templates do not offer."""
VERSION = "1.32"
"""Of Kubernetes, whose schemas a Job is checked against."""

pools = pytest.mark.parametrize("pool", sorted(POOLS))


def template(pool: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{pool}.json").read_text())
    return found


def prefects_own(pool: str) -> dict[str, Any]:
    """The template that Prefect itself has for pools of this type."""
    path = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
    kind = POOLS[pool].removesuffix(":push")
    [found] = [types[kind] for types in json.loads(path.read_text()).values() if kind in types]
    own: dict[str, Any] = found["default_base_job_configuration"]
    return own


def filled_in(value: object) -> set[str]:
    """The variables that a part of a template stands for."""
    return set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(value)))


@pools
def test_prefect_knows_it(pool: str) -> None:
    """Every setting is one of that type's own, and every variable has the type that it has in Prefect's own template."""
    ours, theirs = template(pool), prefects_own(pool)
    taken = WORKERS[pool].model_fields if pool in WORKERS else theirs["job_configuration"]
    assert ours["job_configuration"].keys() <= taken.keys()
    known = theirs["variables"]["properties"]
    for name, schema in ours["variables"]["properties"].items():
        if name not in BESIDE:
            assert schema.get("type") == known[name].get("type"), name
            assert schema.get("allOf") == known[name].get("allOf"), name


@pools
def test_variables(pool: str) -> None:
    """What is filled in is a variable, what is a variable is filled in somewhere, and what is required has no default."""
    ours = template(pool)
    properties = ours["variables"]["properties"]
    assert filled_in(ours["job_configuration"]) == properties.keys()
    assert not any("default" in properties[name] for name in ours["variables"].get("required", ()))
    assert all(schema["title"] and schema["description"] for schema in properties.values())


@pools
def test_no_secret(pool: str) -> None:
    """A template names secrets, at most: where a password, key or token could stand, it has no default."""
    for name, schema in template(pool)["variables"]["properties"].items():
        if re.search(r"password|secret|token|key|credential", name):
            assert not schema.get("default"), name


def test_a_job_on_kubernetes(repository: Path) -> None:
    """What Prefect's worker makes of a run is a Job that Kubernetes knows, confined, with secrets by reference."""
    ours = template("kubernetes")
    values = {"name": "run", "command": "python -m x", "image": "trilha:1", "env": {"A": "b"}, "labels": {"team": "ml"}}
    defaults = {name: one["default"] for name, one in ours["variables"]["properties"].items() if "default" in one}
    text = json.dumps(ours["job_configuration"])
    for name, value in (defaults | values).items():
        text = text.replace(f'"{{{{ {name} }}}}"', json.dumps(value))
    manifest = json.loads(text)["job_manifest"]
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["args"], container["resources"]["limits"]["cpu"] = ["python", "-m", "x"], "2"
    kubernetes_validate.validate(manifest, VERSION, strict=True)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert manifest["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.fixture
def with_pools(on_prefect: Workspace, repository: Path) -> Workspace:
    """A profile that has an image and every pool, on a real server."""
    shutil.copytree(FOLDER, repository / "deploy" / "workpools")
    profile = repository / "config" / "profiles" / "test.yaml"
    profile.write_text(
        profile.read_text()
        + f"pools: [{', '.join(sorted(POOLS))}]\n"
        + "kubeflow:\n"
        + "  image: registry.example.com/trilha:7\n"
        + "  secrets: {trilha-lakefs: {access-key-id: LAKECTL_CREDENTIALS_ACCESS_KEY_ID}}\n"
        + "  config_maps: {trilha-object-store: {AWS_REGION: AWS_REGION}}\n"
    )
    open_workspace.cache_clear()
    return open_workspace("test")


@pytest.mark.slow
@pytest.mark.xdist_group("prefect")
class TestOnAServer:
    """`trilha prefect pools`."""

    @pytest.fixture(autouse=True)
    def client(self, prefect_url: str) -> SyncPrefectClient:
        """A server that has none of the pools."""
        client = SyncPrefectClient(f"{prefect_url}/api")
        for pool in client.read_work_pools():
            client.delete_work_pool(pool.name)
        return client

    def test_made_once(self, with_pools: Workspace, client: SyncPrefectClient) -> None:
        """Every pool is created; asked again nothing changes; a template that was edited is brought to the server."""
        assert {one.change for one in prepare(with_pools)} == {"created"}
        assert {pool.name: pool.type for pool in client.read_work_pools()} == {
            name: kind.removesuffix(":push") for name, kind in POOLS.items()
        }  # only Prefect's cloud pushes: here a worker takes the same runs there
        assert {one.change for one in prepare(with_pools)} == {"as it was"}
        path = config.root() / "deploy" / "workpools" / "docker.json"
        path.write_text(path.read_text().replace('"pids_limit": 2048', '"pids_limit": 1024'))
        assert {one.name: one.change for one in prepare(with_pools)}["docker"] == "updated"
        assert client.read_work_pool("docker").base_job_template["job_configuration"]["container_create_kwargs"][
            "pids_limit"
        ] == 1024  # fmt: skip

    def test_what_the_profile_says(self, with_pools: Workspace, client: SyncPrefectClient) -> None:
        """The image is the profile's; on Kubernetes its secrets and settings are named, and none of their values."""
        prepare(with_pools)
        for name in POOLS.keys() - {"onprem"}:
            variables = client.read_work_pool(name).base_job_template["variables"]["properties"]
            assert variables["image"]["default"] == "registry.example.com/trilha:7", name
        job = client.read_work_pool("kubernetes").base_job_template["job_configuration"]["job_manifest"]
        assert job["spec"]["template"]["spec"]["containers"][0]["env"] == [
            {
                "name": "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
                "valueFrom": {"secretKeyRef": {"name": "trilha-lakefs", "key": "access-key-id"}},
            },
            {
                "name": "AWS_REGION",
                "valueFrom": {"configMapKeyRef": {"name": "trilha-object-store", "key": "AWS_REGION"}},
            },
        ]

    def test_another_type(self, with_pools: Workspace, client: SyncPrefectClient) -> None:
        """A pool of that name and another type is somebody's: it stays, and the error says what it is."""
        from prefect.client.schemas.actions import WorkPoolCreate

        client.create_work_pool(WorkPoolCreate(name="docker", type="process"))
        with pytest.raises(ConfigError, match="'docker' is of type 'process'.*prefect work-pool delete docker"):
            prepare(with_pools)
        assert client.read_work_pool("docker").type == "process"

    @pytest.mark.usefixtures("with_pools")
    def test_no_image(self, repository: Path) -> None:
        """A pool of containers without an image is refused: the error names the setting and how to make one."""
        profile = repository / "config" / "profiles" / "test.yaml"
        profile.write_text(re.sub(r"(?m)^  image: .*\n", "", profile.read_text()))
        open_workspace.cache_clear()
        with pytest.raises(ConfigError, match=r"no image.*kubeflow\.image.*make image"):
            prepare(open_workspace("test"))

    def test_refused(self, with_pools: Workspace) -> None:
        """A template that the server does not accept is named by its path."""
        path = config.root() / "deploy" / "workpools" / "docker.json"
        broken = json.loads(path.read_text())
        broken["job_configuration"]["image"] = "{{ picture }}"
        path.write_text(json.dumps(broken))
        with pytest.raises(ConfigError, match="does not accept .*docker.json"):
            prepare(with_pools)

    def test_no_template(self, with_pools: Workspace) -> None:
        """One that is missing is an error that says where it was looked for."""
        (config.root() / "deploy" / "workpools" / "ecs.json").unlink()
        with pytest.raises(NotFoundError, match="no template .*ecs.json"):
            prepare(with_pools)
