"""Whether a service is well: one request, a short deadline."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from flows.services.registry import HOST, Service

DEADLINE = 2.0
"""Seconds for one request."""


def well(service: Service, ports: Mapping[str, int]) -> bool:
    """Whether a service on this machine says of itself that it is ready."""
    port, path = service.probe
    return _status(http.client.HTTPConnection(HOST, ports[port], timeout=DEADLINE), path) == 200


def reachable(service: Service, url: str) -> bool:
    """Whether a service that runs elsewhere answers; one that asks who we are does."""
    parts = urlsplit(url if "://" in url else f"grpc://{url}")
    host = parts.hostname or ""
    if service.scheme == "grpc":
        try:
            socket.create_connection((host, parts.port or 8001), DEADLINE).close()
        except OSError:
            return False
        return True
    connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    status = _status(connection(host, parts.port, timeout=DEADLINE), parts.path.rstrip("/") + service.probe[1])
    return status is not None and status < 500


def _status(connection: http.client.HTTPConnection, path: str) -> int | None:
    """The status of GET `path`, None where there is no answer."""
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
