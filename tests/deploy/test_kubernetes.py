"""What the manifests promise of everything in them, for every overlay as `kubectl kustomize` makes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from components import config
from components.adapters.triton_service import PORTS
from components.profile import LakeFSStore
from tests.databases import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("aws", "azure", "gcp", "onprem")
VERSION = "1.32"
"""Of Kubernetes, whose schemas the manifests are checked against."""
WORKLOADS = {"CronJob", "Deployment", "Job", "StatefulSet"}

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def manifests(overlay: str) -> list[dict[str, Any]]:
    """All that the overlay deploys."""
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, KUBERNETES / "overlays" / overlay], capture_output=True, check=False)
            assert done.returncode == 0, done.stderr.decode()
            assert b"Warning" not in done.stderr, done.stderr.decode()
            return list(yaml.safe_load_all(done.stdout))
    pytest.skip("neither `kubectl` nor `kustomize` is on PATH")


def kind(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    return [one for one in manifests(overlay) if one["kind"] in kinds]


def named(overlay: str, of: str, name: str) -> dict[str, Any]:
    return next(one for one in kind(overlay, of) if one["metadata"]["name"] == name)


def pods(overlay: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each workload and the template of its pods."""
    for one in kind(overlay, *WORKLOADS):
        spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
        yield one, spec["template"]


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def variables(container: dict[str, Any], overlay: str) -> dict[str, str | None]:
    """The container's environment; None for what comes from a Secret or from the pod."""
    found: dict[str, str | None] = {}
    for source in container.get("envFrom", []):
        found |= named(overlay, "ConfigMap", source["configMapRef"]["name"])["data"]
    for entry in container.get("env", []):
        reference = entry.get("valueFrom", {}).get("configMapKeyRef")
        if reference:
            found[entry["name"]] = named(overlay, "ConfigMap", reference["name"])["data"][reference["key"]]
        else:
            found[entry["name"]] = entry.get("value")
    return found


@overlays
def test_schemas(overlay: str) -> None:
    """Kubernetes knows every field of every object, and nothing is there twice."""
    for one in manifests(overlay):
        kubernetes_validate.validate(one, VERSION, strict=True)
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in manifests(overlay)]
    assert len(set(names)) == len(names)
    assert {namespace for what, namespace, _ in names if what != "Namespace"} == {"trilha"}


@overlays
def test_confined(overlay: str) -> None:
    """Every container is nobody in particular on a file system that it cannot write, and can become nothing more."""
    for one, template in pods(overlay):
        pod, name = template["spec"], one["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["enableServiceLinks"] is False, name
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name
        assert all(
            volume.keys() & {"emptyDir", "configMap", "persistentVolumeClaim", "secret"}
            for volume in pod.get("volumes", [])
        )
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


@overlays
def test_tokens(overlay: str) -> None:
    """Of all pods only Prefect's worker gets a token for Kubernetes' API, and may make Jobs and little else with it."""
    accounts = {one["metadata"]["name"]: one for one in kind(overlay, "ServiceAccount")}
    holders = {
        one["metadata"]["name"]
        for one, template in pods(overlay)
        if template["spec"].get(
            "automountServiceAccountToken",
            accounts[template["spec"]["serviceAccountName"]]["automountServiceAccountToken"],
        )
    }
    assert holders == {"worker"}
    rules = named(overlay, "Role", "worker")["rules"]
    writing = {
        resource for rule in rules if {"create", "delete"} & set(rule["verbs"]) for resource in rule["resources"]
    }
    assert writing == {"jobs"}
    assert not any("secrets" in rule["resources"] for rule in rules)
    assert not kind(overlay, "ClusterRole", "ClusterRoleBinding")
    bound = {one["roleRef"]["name"]: one["subjects"][0]["name"] for one in kind(overlay, "RoleBinding")}
    assert bound == {one["metadata"]["name"]: one["metadata"]["name"] for one in kind(overlay, "Role")}
    assert bound.keys() <= accounts.keys()


@overlays
def test_resources_and_probes(overlay: str) -> None:
    """Every container asks for what it needs and is held to its memory; every server says whether it is well."""
    for one, template in pods(overlay):
        for container in containers(template):
            resources = container["resources"]
            assert resources["requests"].keys() == {"cpu", "memory"}
            assert "memory" in resources["limits"]
            if one["kind"] in {"Deployment", "StatefulSet"}:
                assert container.keys() >= {"livenessProbe", "readinessProbe"}, one["metadata"]["name"]
                for probe in (value for name, value in container.items() if name.endswith("Probe")):
                    port = probe.get("httpGet", {}).get("port")
                    assert port is None or port in {found["name"] for found in container["ports"]}
            image = container["image"]
            assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", image), image


@overlays
def test_disruptions(overlay: str) -> None:
    """What has replicas keeps one while nodes are drained, and nothing forbids to drain."""
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"]["minReplicas"]
        for one in kind(overlay, "HorizontalPodAutoscaler")
    }
    replicated = {}
    for one in kind(overlay, "Deployment", "StatefulSet"):
        name = one["metadata"]["name"]
        assert (name in scaled) != ("replicas" in one["spec"]), name
        count = scaled.get(name) or one["spec"]["replicas"]
        if count > 1:
            replicated[name] = count
    budgets = kind(overlay, "PodDisruptionBudget")
    for name, count in replicated.items():
        labels = named(overlay, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        matching = [one["spec"] for one in budgets if selects(one["spec"]["selector"], labels)]
        assert len(matching) == 1, name
        assert matching[0].get("minAvailable", count - matching[0].get("maxUnavailable", 0)) < count
    assert len(budgets) == len(replicated) >= 5


@overlays
def test_autoscaler(overlay: str) -> None:
    """Triton's replicas follow a metric that the rule for Prometheus makes, by pods."""
    (scaler,) = kind(overlay, "HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]
    assert named(overlay, target["kind"], target["name"])
    metrics = [metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]]
    rules = yaml.safe_load((KUBERNETES / "adapter" / "values.yaml").read_text())["rules"]["custom"]
    assert metrics == [rule["name"]["as"] for rule in rules] == ["triton_queue_milliseconds"]
    assert {"pod", "namespace"} == rules[0]["resources"]["overrides"].keys()


@overlays
def test_references(overlay: str) -> None:
    """Every ConfigMap, account and claim that a pod names is there; every Service leads to a port of a pod."""
    for one, template in pods(overlay):
        for container in containers(template):
            variables(container, overlay)
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            claims = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
            assert mounted == {volume["name"] for volume in template["spec"].get("volumes", [])} | claims
        for volume in template["spec"].get("volumes", []):
            if "configMap" in volume:
                assert named(overlay, "ConfigMap", volume["configMap"]["name"])
            if "persistentVolumeClaim" in volume:
                assert named(overlay, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
        assert named(overlay, "ServiceAccount", template["spec"]["serviceAccountName"])
    for service in kind(overlay, "Service"):
        behind = [t for _, t in pods(overlay) if service["spec"]["selector"].items() <= t["metadata"]["labels"].items()]
        assert len(behind) == 1, service["metadata"]["name"]
        ports = {port["name"] for container in containers(behind[0]) for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@overlays
def test_network(overlay: str) -> None:
    """Nothing is allowed that is not said; every rule is about pods that are there; only servers can be reached."""
    policies = {one["metadata"]["name"]: one["spec"] for one in kind(overlay, "NetworkPolicy")}
    labels = {one["metadata"]["name"]: template["metadata"]["labels"] for one, template in pods(overlay)}
    closed = policies.pop("nothing")
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in closed
    assert "egress" not in closed
    assert all(selects(closed["podSelector"], found) for found in labels.values())
    for name, spec in policies.items():
        assert any(selects(spec["podSelector"], found) for found in labels.values()), name
        for peer in _peers(spec):
            wanted = peer.get("podSelector", {}).get("matchLabels")
            assert wanted is None or any(wanted.items() <= found.items() for found in labels.values()), (name, wanted)
    into = [spec for spec in policies.values() if "Ingress" in spec["policyTypes"]]
    assert all(rule["from"] for spec in into for rule in spec["ingress"])
    reached = {one for one, found in labels.items() if any(selects(spec["podSelector"], found) for spec in into)}
    served = {one["spec"]["selector"]["app.kubernetes.io/name"] for one in kind(overlay, "Service")}
    assert reached == served


def _peers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        peer
        for way in ("ingress", "egress")
        for rule in spec.get(way, [])
        for peer in rule.get("from", rule.get("to", []))
    ]


@pytest.fixture(scope="module")
def secrets() -> dict[str, dict[str, str]]:
    """The Secrets that secrets.sh makes."""
    given = {
        "OBJECT_STORE_KEY_ID": "id", "OBJECT_STORE_KEY": "it's", "AZURE_STORAGE_KEY": "a:b", "KUBEFLOW_TOKEN": "t",
    }  # fmt: skip
    done = subprocess.run(
        [KUBERNETES / "secrets.sh"], env=os.environ | given, capture_output=True, text=True, check=True
    )
    made = list(yaml.safe_load_all(done.stdout))
    for one in made:
        kubernetes_validate.validate(one, VERSION, strict=True)
    return {one["metadata"]["name"]: one["stringData"] for one in made}


@overlays
def test_secrets(overlay: str, secrets: dict[str, dict[str, str]]) -> None:
    """Every key of a Secret that a pod or the profile names is one that secrets.sh makes; none has its value here."""
    assert kind(overlay, "Secret") == []
    for one, template in pods(overlay):
        for container in containers(template):
            for entry in container.get("env", []):
                reference = entry.get("valueFrom", {}).get("secretKeyRef")
                assert not reference or reference["key"] in secrets[reference["name"]], one["metadata"]["name"]
                assert reference or not re.search(
                    r"PASSWORD$|SECRET_ACCESS|TOKEN$|AUTH_STRING$|STORAGE_KEY$", entry["name"]
                )
    for name, keys in config.load_profile(overlay).kubeflow.secrets.items():
        assert keys.keys() <= secrets[name].keys()


def test_secrets_are_whole(secrets: dict[str, dict[str, str]]) -> None:
    """What is drawn is long and never twice the same; what is brought along arrives as it is."""
    assert secrets["trilha-object-store"] == {
        "access-key-id": "id",
        "secret-access-key": "it's",
        "azure-storage-key": "a:b",
    }
    drawn = [
        value
        for name, keys in secrets.items()
        for value in keys.values()
        if name not in {"trilha-object-store", "trilha-kubeflow"}
    ]
    assert len(set(drawn)) == len(drawn)
    assert all(len(value) >= 20 for value in drawn)


@overlays
def test_profile(overlay: str) -> None:
    """The profile of the overlay's name says where things are as the manifests put them."""
    profile = config.load_profile(overlay)
    settings, kubeflow = profile.services, profile.kubeflow
    assert isinstance(profile.store, LakeFSStore)
    urls = [
        getattr(settings, name).url for name in ("prefect", "mlflow", "tensorboard", "triton", "triggers", "gateway")
    ]
    urls.append(settings.triton.http)
    for url in [*urls, profile.store.url]:
        host, port = re.fullmatch(r"(?:http://)?([\w.-]+):(\d+)", url).groups()
        service = named(overlay, "Service", host.removesuffix(".trilha.svc.cluster.local"))
        assert int(port) in {found["port"] for found in service["spec"]["ports"]}
    places = variables(_only("triton", overlay), overlay) | variables(_only("tensorboard", overlay), overlay)
    assert (places["TRILHA_PROFILE"], places["STATE"]) == (overlay, profile.state)
    bucket = re.match(r"\w+://[^/]+", profile.state).group()
    assert str(settings.triton.repository).startswith(bucket)
    assert bucket.partition("://")[2] in variables(_only("mlflow", overlay), overlay)["MLFLOW_ARTIFACTS_DESTINATION"]
    data = {"onprem": "s3", "aws": "s3", "gcp": "gs", "azure": "https"}[overlay]
    assert profile.store.namespace.startswith(f"{data}://")
    assert _only("triggers", overlay)["image"] == kubeflow.image
    assert settings.workers.pool in _only("worker", overlay)["command"]
    assert named(overlay, "ServiceAccount", kubeflow.service_account)
    assert kubeflow.namespace == named(overlay, "Namespace", "trilha")["metadata"]["name"]
    for name, keys in kubeflow.config_maps.items():
        assert named(overlay, "ConfigMap", name)["data"].keys() == keys.keys() == set(keys.values())
    given = variables(_only("triggers", overlay), overlay).keys()
    assert {
        profile.store.access_key_env,
        profile.store.secret_key_env,
        settings.triggers.token_env,
        kubeflow.token_env,
    } <= given
    assert set(kubeflow.secrets) <= {"trilha-lakefs", *(["trilha-object-store"] if overlay == "onprem" else [])}


@overlays
def test_gateway(overlay: str) -> None:
    """Who asks a model comes through the door that asks who they are; Triton's own are for our pods and for metrics."""
    settings = config.load_profile(overlay).services.gateway
    template = named(overlay, "Deployment", "gateway")["spec"]["template"]
    (volume,) = (one for one in template["spec"]["volumes"] if "secret" in one)
    (mount,) = (one for one in _only("gateway", overlay)["volumeMounts"] if one["name"] == volume["name"])
    assert settings.authentication
    assert settings.keys == f"{mount['mountPath']}/keys.json"
    assert volume["secret"] == {"secretName": "trilha-gateway-keys", "optional": True}
    policies = {one["metadata"]["name"]: one["spec"] for one in kind(overlay, "NetworkPolicy")}
    (into,) = policies["gateway"]["ingress"]
    assert into["ports"] == [{"port": 8080}]
    servers = [peer for rule in policies["servers"]["ingress"] for peer in rule["from"]]
    outside = [one["namespaceSelector"]["matchLabels"] for one in servers if "namespaceSelector" in one]
    assert outside == [{"kubernetes.io/metadata.name": "monitoring"}]


@overlays
def test_gateways_count_together(overlay: str) -> None:
    """More than one has the Redis of all, by a URL whose password is a Secret's; it reaches it, and what it keeps ends."""
    cache = config.load_profile(overlay).services.gateway.cache
    assert named(overlay, "Deployment", "gateway")["spec"]["replicas"] > 1
    assert cache is not None
    assert cache.redis_env is not None
    found = variables(_only("gateway", overlay), overlay)
    assert found["REDIS_PASSWORD"] is None
    assert found[cache.redis_env] == "$(REDIS_SCHEME)://:$(REDIS_PASSWORD)@$(REDIS_ADDRESS)/1"
    port = int(str(found["REDIS_ADDRESS"]).rsplit(":", 1)[1])
    policies = {one["metadata"]["name"]: one["spec"] for one in kind(overlay, "NetworkPolicy")}
    assert {"port": port} in policies["gateway-to-redis"]["egress"][0]["ports"]
    if "databases" in policies:
        door = {"podSelector": policies["gateway-to-redis"]["podSelector"]}
        (into,) = (rule for rule in policies["databases"]["ingress"] if door in rule["from"])
        assert into["ports"] == [{"port": port}]
        assert "maxmemory-policy volatile-lru" in json.dumps(named(overlay, "StatefulSet", "redis"))


def test_ports_of_triton() -> None:
    """Triton's container opens the ports that its program listens on."""
    found = {port["name"]: port["containerPort"] for port in _only("triton", "onprem")["ports"]}
    assert found == PORTS


@pytest.mark.parametrize("overlay", ["aws", "azure", "gcp"])
def test_identities(overlay: str) -> None:
    """In a cloud the accounts that need its object store are somebody there, each somebody else; the others nobody."""
    key = {
        "aws": "eks.amazonaws.com/role-arn",
        "gcp": "iam.gke.io/gcp-service-account",
        "azure": "azure.workload.identity/client-id",
    }[overlay]
    who = {
        one["metadata"]["name"]: one["metadata"].get("annotations", {}).get(key)
        for one in kind(overlay, "ServiceAccount")
    }
    anybody = {name: found for name, found in who.items() if found}
    triton = set() if overlay == "azure" else {"trilha-serving"}  # whose client of Blob Storage knows keys only
    assert anybody.keys() == {"trilha-data", "trilha-runner", "trilha-tracking"} | triton
    assert len(set(anybody.values())) == len(anybody)
    text = json.dumps(manifests(overlay))
    assert "AWS_ACCESS_KEY_ID" not in text
    if overlay == "azure":
        label = "azure.workload.identity/use"
        labelled = {
            t["spec"]["serviceAccountName"] for _, t in pods(overlay) if t["metadata"]["labels"].get(label) == "true"
        }
        assert labelled == anybody.keys()


def test_databases_elsewhere() -> None:
    """On-prem brings Postgres and Redis; in a cloud they are managed, and reached with TLS or inside the network."""
    assert {one["metadata"]["name"] for one in kind("onprem", "StatefulSet")} == {"postgres", "redis"}
    for overlay in ("aws", "azure", "gcp"):
        assert kind(overlay, "StatefulSet") == []
        settings = variables(_only("mlflow", overlay), overlay)
        assert settings["PGSSLMODE"] == "require"
        assert settings["PGHOST"] != "postgres"


@overlays
def test_backups(overlay: str) -> None:
    """Every night the script that is tested on a real Postgres dumps the databases to a volume that stays."""
    job = named(overlay, "CronJob", "backup")
    template = job["spec"]["jobTemplate"]["spec"]["template"]
    scripts = next(volume["configMap"]["name"] for volume in template["spec"]["volumes"] if "configMap" in volume)
    found = named(overlay, "ConfigMap", scripts)["data"]
    folder = ROOT / "deploy" / "compose" / "scripts"
    assert found == {name: (folder / name).read_text() for name in ("backup.sh", "databases.sh", "lakefs.sh")}
    assert template["spec"]["containers"][0]["command"] == ["sh", "/trilha/backup.sh"]
    assert job["spec"]["concurrencyPolicy"] == "Forbid"


def _only(name: str, overlay: str) -> dict[str, Any]:
    """The one container of a Deployment."""
    (container,) = containers(named(overlay, "Deployment", name)["spec"]["template"])
    return container
