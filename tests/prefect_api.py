"""Prefect's API for tests: who is told to come again does, as Prefect's own client would."""

from __future__ import annotations

import time

import httpx

ATTEMPTS = 20


class Patient(httpx.HTTPTransport):
    """Asks again where the server says 503, as it does while its SQLite is locked."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(ATTEMPTS):
            answer = super().handle_request(request)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            answer.close()
            time.sleep(0.25)
        return super().handle_request(request)


def api(url: str) -> httpx.Client:
    """A client of the server at `url`; paths begin after `/api`."""
    return httpx.Client(base_url=f"{url}/api", trust_env=False, timeout=30, transport=Patient())
