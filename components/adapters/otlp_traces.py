"""Traces of requests, sent to an OpenTelemetry collector over OTLP; a request of a trace goes on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.errors import ConfigError

if TYPE_CHECKING:
    from components.gateway.requests import Request

ASKED = ("traceparent", "tracestate")
"""W3C's headers."""


class Traces:
    """Makes spans.

    Args:
        endpoint: the collector's URL for traces, `http://host:4318/v1/traces`.

    Raises:
        ConfigError: the exporter is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigError(
                f"services.gateway.traces: {error}", next_step="install the extra `traces`, or take the setting out"
            ) from error
        self._provider = TracerProvider(resource=Resource.create({"service.name": "trilha-gateway"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=5)))
        self._tracer = self._provider.get_tracer("trilha")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, request: Request) -> tuple[Any, str]:
        """A span for a request, and the header `traceparent` for whoever is asked on its behalf."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        carrier = {name: text for name in ASKED if (text := request.header(name.encode()).decode("latin-1"))}
        context = self._propagator.extract(carrier)
        span = self._tracer.start_span(request.method, context, SpanKind.SERVER)
        onward: dict[str, str] = {}
        self._propagator.inject(onward, set_span_in_context(span, context))
        return span, onward.get("traceparent", "")

    def end(self, span: Any, route: str, project: str, status: int) -> None:
        """The request was answered."""
        from opentelemetry.trace import Status, StatusCode

        span.update_name(f"{route} {project}".strip())
        span.set_attributes({"http.route": route, "http.response.status_code": status, "trilha.project": project})
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()
