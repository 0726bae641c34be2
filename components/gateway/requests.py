"""A request as ASGI brings it, and an answer as ASGI takes it; nothing is parsed that nobody looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

from components.gateway.problems import TYPE, Problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRACE: ContextVar[str] = ContextVar("TRACE", default="")
"""The header `traceparent` of the request that is being answered, for whoever is asked on its behalf."""

JSON: Final = b"application/json"
WHOLE: Final = "trilha.whole"
"""Our extension of ASGI: `take` yields the body where all of it is there and nobody received of it, else None."""


class Request:
    """One request.

    Args:
        scope: ASGI's.
        receive: ASGI's.
    """

    __slots__ = ("_headers", "_query", "_receive", "_whole", "client", "method", "path")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.client: str = scope["client"][0] if scope.get("client") else "somebody"
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive
        self._whole: Callable[[], bytes | None] = scope.get("extensions", {}).get(WHOLE, {}).get("take", _no_body)
        self._query: bytes = scope.get("query_string", b"")

    @property
    def query(self) -> str:
        """What stands behind the question mark."""
        return self._query.decode("ascii", "replace")

    def header(self, name: bytes) -> bytes:
        """A header by its name in lower case; empty where there is none."""
        for known, value in self._headers:
            if known == name:
                return value
        return b""

    async def body(self, largest: int, seconds: float) -> bytes:
        """The whole body.

        Raises:
            Problem: 413 for one that is too large, 408 for one that does not arrive.
        """
        length = self.header(b"content-length")
        if length and (not length.isdigit() or int(length) > largest):
            raise _too_large(largest)
        if self.header(b"content-encoding") not in {b"", b"identity"}:
            raise Problem(415, "the body is compressed", field="Content-Encoding", accepted="identity")
        if (whole := self._whole()) is None:
            whole = await self._received(largest, seconds)
        if len(whole) > largest:
            raise _too_large(largest)
        return whole

    async def _received(self, largest: int, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                message = await self._receive()
                body: bytes = message.get("body", b"")
                if message.get("more_body"):
                    body = await self._rest(body, largest)
        except TimeoutError:
            raise Problem(408, f"the body did not arrive within {seconds:g} s") from None
        if message["type"] == "http.disconnect":
            raise Problem(408, "the body did not arrive")
        return body

    async def gone(self) -> None:
        """Return when the client has gone away; its body was read before."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _rest(self, begun: bytes, largest: int) -> bytes:
        parts, size = [begun], len(begun)
        while size <= largest:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Problem(408, "the body did not arrive")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if not message.get("more_body"):
                return b"".join(parts)
        raise _too_large(largest)


def _no_body() -> None:
    """What another server than ours has of a body before it is received."""


def _too_large(largest: int) -> Problem:
    return Problem(413, f"the body is larger than {largest} bytes", field="Content-Length", accepted=f"{largest} bytes")


class Answer:
    """A whole answer.

    Args:
        body: its bytes.
        status: of HTTP.
        kind: its media type.
        headers: others.
    """

    __slots__ = ("body", "headers", "kind", "status")

    def __init__(
        self, body: bytes, status: int = 200, kind: bytes = JSON, headers: Mapping[str, str] | None = None
    ) -> None:
        self.body = body
        self.status = status
        self.kind = kind
        self.headers = headers or {}

    async def send(self, send: Send) -> None:
        """Hand it to ASGI."""
        headers = [(b"content-type", self.kind), (b"content-length", str(len(self.body)).encode())]
        if self.headers:
            headers += [
                (name.lower().encode(), value.encode("latin-1", "replace")) for name, value in self.headers.items()
            ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def refusal(problem: Problem) -> Answer:
    """The answer that tells of a problem."""
    return Answer(problem.body(), problem.status, TYPE, problem.headers)
