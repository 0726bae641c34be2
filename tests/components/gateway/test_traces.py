"""Requests as spans at a real OTLP receiver: part of the caller's trace, and off where the profile names none."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.components.gateway.conftest import PROJECT, ROW, Running, Start

pytestmark = pytest.mark.xdist_group("gateway")

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A receiver of OTLP over HTTP, and the spans that it got."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        server.shutdown()
        thread.join()


def test_a_request_is_a_span(start: Start, collector: tuple[str, list[Any]]) -> None:
    """It carries on the caller's trace, and says route, project and status; a failure is one."""
    url, spans = collector
    running = start(traces=url)
    running.predict(ROW, traceparent=f"00-{TRACE}-{PARENT}-01")
    running.predict({}, traceparent="nonsense")
    running.app._traces.close()  # type: ignore[union-attr]
    found = {span.name: span for span in spans}
    ours = [span for span in spans if span.name == f"predict {PROJECT}"]
    assert [span.trace_id.hex() == TRACE for span in ours] == [True, False]
    assert ours[0].parent_span_id.hex() == PARENT
    attributes = {one.key: one.value for one in ours[0].attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["trilha.project"].string_value == PROJECT
    assert "health" in found


def test_a_collector_that_is_away(start: Start) -> None:
    """Costs no request anything."""
    running = start(traces="http://127.0.0.1:9/v1/traces")
    assert {running.predict(ROW).status_code for _ in range(5)} == {200}


def test_off(gateway: Running) -> None:
    """Nothing is made where the profile names no collector."""
    assert gateway.predict(ROW, traceparent=f"00-{TRACE}-{PARENT}-01").status_code == 200
    assert gateway.app._traces is None
