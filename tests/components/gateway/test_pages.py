"""What people and Prometheus look at."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.gateway.pages import _page
from components.records import Release
from tests.components.gateway.conftest import PROJECT, ROW, Running
from tests.triton import FEATURES

pytestmark = pytest.mark.xdist_group("gateway")


def test_the_description_is_the_signature(gateway: Running) -> None:
    """Columns, types and an example that is accepted, as the release that answers has them."""
    document = gateway.client.get("/openapi.json").json()
    body = document["paths"][f"/v1/projects/{PROJECT}/predict"]["post"]["requestBody"]["content"]["application/json"]
    row = body["schema"]["properties"]["rows"]["items"]
    assert row["required"] == list(FEATURES)
    assert row["properties"]["hour"]["type"] == ["integer", "null"]
    assert gateway.client.post(f"/v1/projects/{PROJECT}/predict", json=body["example"]).status_code == 200


def test_the_page_needs_no_network(gateway: Running) -> None:
    """Nothing in it is loaded from elsewhere, and the browser is told to refuse it."""
    answer = gateway.client.get("/docs")
    assert answer.status_code == 200
    assert not re.search(r"https?://|src=|@import|url\(", _page().decode())
    assert "connect-src 'self'" in answer.headers["content-security-policy"]


def test_metrics(gateway: Running, behind: Release) -> None:
    """Requests by route, project and status; seconds; the release that answers. What is no project makes no series."""
    for _ in range(3):
        gateway.predict(ROW)
    gateway.predict({})
    for number in range(20):
        gateway.predict(ROW, project=f"made-up-{number}")
    families = {family.name: family for family in text_string_to_metric_families(gateway.client.get("/metrics").text)}
    counts = {
        (sample.labels["route"], sample.labels["project"], sample.labels["status"]): sample.value
        for sample in families["trilha_gateway_requests"].samples
        if sample.name.endswith("_total")
    }
    assert counts["predict", PROJECT, "200"] == 3
    assert counts["predict", PROJECT, "422"] == 1
    assert counts["predict", "", "404"] == 20
    (release,) = families["trilha_gateway_release"].samples
    assert (release.labels["project"], release.value) == (PROJECT, behind.number)
    asked = {sample.name: sample.value for sample in families["trilha_gateway_model_seconds"].samples}
    assert asked["trilha_gateway_model_seconds_count"] == 3


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", f"/v1/projects/{PROJECT}/predict", "POST"), ("POST", "/docs", "GET"), ("PUT", "/health/live", "GET")],
)
def test_other_methods(gateway: Running, method: str, path: str, allowed: str) -> None:
    """405, and the one that is allowed."""
    answer = gateway.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
