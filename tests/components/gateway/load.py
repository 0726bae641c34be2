"""Clients that keep asking: what they are told while something else goes on."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any, NamedTuple, Self

import httpx

from components.gateway import receipts
from tests.components.gateway.conftest import PROJECT, ROW, until


class Told(NamedTuple):
    """An answer of the gateway; `key` is that of its request, `retry` when it says to come again."""

    status: int
    answer: dict[str, Any]
    key: str
    retry: str | None


class Load:
    """Clients that ask all the time; keeps every answer.

    Args:
        urls: gateways, each asked by all the clients.
        clients: at a time.
        vary: each request has a row and a key of its own making; else all have the same row, and no key.
    """

    def __init__(self, *urls: httpx.URL, clients: int = 4, vary: bool = False) -> None:
        self._stop = threading.Event()
        self._vary = vary
        self.answers: list[Told] = []
        self.errors: list[Exception] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(url, number)) for url in urls for number in range(clients)
        ]

    def _ask(self, url: httpx.URL, seed: int) -> None:
        draw, path = random.Random(seed), f"/v1/projects/{PROJECT}/predict"
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            while not self._stop.is_set():
                row, key = self._drawn(draw) if self._vary else (ROW, "")
                try:
                    found = client.post(path, json={"rows": [row]}, headers={"Trilha-Key": key} if key else {})
                    self.answers.append(Told(found.status_code, found.json(), key, found.headers.get("retry-after")))
                except httpx.HTTPError as error:
                    self.errors.append(error)

    def _drawn(self, draw: random.Random) -> tuple[dict[str, Any], str]:
        numbers = {"distance": draw.uniform(200, 2000), "wind": draw.uniform(0, 25), "hour": draw.randrange(24)}
        return ROW | numbers, f"k{draw.randrange(500)}"

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int = 40) -> None:
        """Wait for so many answers from now on."""
        target = len(self.answers) + count
        until(lambda: len(self.answers) >= target)

    def check(self, *statuses: int) -> Counter[int]:
        """Every request was answered, with one of `statuses` (200 alone where none is given).

        Every receipt is of the release that its answer names; returns the answers by release.
        """
        assert not self.errors
        other = [told for told in self.answers if told.status not in (statuses or (200,))]
        assert not other, (len(other), other[0])
        assert {told.status for told in self.answers} == set(statuses or (200,))
        found = [told.answer for told in self.answers if told.status == 200]
        for answer in found:
            receipt = receipts.parse(answer["receipt"])
            assert receipt is not None
            assert receipt.release == answer["release"]
        return Counter(answer["release"] for answer in found)
