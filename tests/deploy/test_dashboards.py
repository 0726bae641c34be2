"""Prometheus asks servers that are there, and Grafana's pages ask for what those really say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.adapters.triton_binary import command
from components.adapters.triton_config import Graph, Tensor, part_config
from components.adapters.triton_server import TritonServer
from components.bundle import CONFIG
from tests.databases import ROOT, Postgres
from tests.deploy.servers import COMPOSE, Server, answering, lakefs_on
from tests.triton import free_ports

pytestmark = pytest.mark.xdist_group("databases")
GRAFANA = ROOT / "deploy" / "compose" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
NAMES = re.compile(r"\b(?:nv|prefect|api|process|kv)_[a-z_]+")


def panels() -> Iterator[dict[str, Any]]:
    for path in DASHBOARDS:
        yield from json.loads(path.read_text())["panels"]


def asked(prefix: str) -> set[str]:
    """The metrics that the pages ask for."""
    queries = [target["expr"] for panel in panels() for target in panel["targets"] if "expr" in target]
    return {name for query in queries for name in NAMES.findall(query) if name.startswith(prefix)}


def test_sources() -> None:
    """Each panel asks a data source that is provisioned, and each page has an address of its own."""
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "datasources.yaml").read_text())["datasources"]
    kinds = {source["uid"]: source["type"] for source in sources}
    assert {(panel["datasource"]["uid"], panel["datasource"]["type"]) for panel in panels()} == set(kinds.items())
    addresses = [json.loads(path.read_text())["uid"] for path in DASHBOARDS]
    assert len(set(addresses)) == len(addresses) >= 3
    mounted = dict(line.split(":")[:2] for line in COMPOSE["services"]["grafana"]["volumes"])
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "dashboards.yaml").read_text())["providers"][0]
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).name in {path.name for path in DASHBOARDS}


def test_targets() -> None:
    """Prometheus asks services that compose.yaml has."""
    jobs = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yaml").read_text())["scrape_configs"]
    hosts = {target.split(":")[0] for job in jobs for found in job["static_configs"] for target in found["targets"]}
    assert hosts - {"localhost"} <= COMPOSE["services"].keys()
    assert {"triton", "prefect", "lakefs"} <= hosts


ECHO = """
import triton_python_backend_utils as backend
class TritonPythonModel:
    def execute(self, requests):
        inputs = [backend.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [backend.InferenceResponse([backend.tensor_from_numpy("x", one)]) for one in inputs]
"""


@pytest.mark.slow
def test_triton(tmp_path: Path) -> None:
    """Triton has the metrics that its page, and the rule by which replicas are added, ask for."""
    ports = free_ports(3)
    arguments, environment = command(tmp_path, tmp_path / "models", *ports)
    tensor = Tensor("x", "TYPE_FP32", 1)
    config = part_config("echo", Graph((tensor,), (tensor,)), ["x"], "auto")
    with answering(arguments, environment, tmp_path / "log", f"http://127.0.0.1:{ports[1]}/v2/health/ready"):
        server = TritonServer(lambda: f"127.0.0.1:{ports[0]}", str(tmp_path / "models"), "test")
        server.publish({"echo": {CONFIG: config, "1/model.py": ECHO}})
        server.load("echo")
        server.infer("echo", {"x": np.zeros((2, 1), "float32")})
        said = Server(f"http://127.0.0.1:{ports[2]}", "", tmp_path).get("/metrics")
    assert len(asked("nv_")) > 5
    assert [
        name for name in sorted(asked("nv_")) if f"\n{name} " not in said and f'\n{name}{{model="echo"' not in said
    ] == []


@pytest.mark.slow
def test_prefect(prefect: Server) -> None:
    """Prefect has the metrics that its page asks for."""
    said = prefect.get("/api/metrics")
    assert asked("prefect_")
    assert [name for name in sorted(asked("prefect_")) if f"# TYPE {name} " not in said] == []


@pytest.mark.slow
@pytest.mark.lakefs
def test_lakefs(databases: Postgres, tmp_path: Path) -> None:
    """LakeFS has the metrics that its page asks for, with the labels that they are told apart by."""
    with lakefs_on(databases, tmp_path) as server:
        server.json("/api/v1/user")
        said = server.get("/metrics")
    assert [name for name in sorted(asked("api_")) if f"\n{name}{{" not in said] == []
    assert re.search(r"\napi_request_duration_seconds_bucket\{.*operation=", said)
    assert re.search(r"\napi_requests_total\{.*code=", said)


@pytest.mark.slow
def test_queries(prefect: Server, databases: Postgres) -> None:
    """Each query of a page runs on Prefect's database, as the role that Grafana has."""
    assert prefect.json("/api/admin/version")
    times = {"$__timeFrom()": "'2026-01-01T00:00:00Z'", "$__timeTo()": "'2026-01-02T00:00:00Z'"}
    queries = [target["rawSql"] for panel in panels() for target in panel["targets"] if "rawSql" in target]
    assert len(queries) > 5
    for query in queries:
        plain = re.sub(r"\$__time\w+\(\)", lambda macro: times[macro.group()], query)
        assert not databases.ask(plain, "grafana", "prefect").startswith("refused"), query
