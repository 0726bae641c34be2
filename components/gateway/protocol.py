"""HTTP as uvicorn speaks it, with less done for a request: an answer is one write, and no timer is made and dropped.

Between one client and a Triton, uvicorn's own protocol costs half of what a request costs in all. What it does is kept,
and so is ASGI: what is done otherwise here is the part of it that every request goes through.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from components.gateway.requests import WHOLE

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

AHEAD: Final = 1 << 20
"""Bytes of a body that are read before somebody receives them."""

_CONTROLS: Final = bytes(code for code in (*range(32), 127) if code != ord("\t"))


class Protocol(HttpToolsProtocol):
    """A connection of a client."""

    _idle_since = 0.0

    def on_headers_complete(self) -> None:
        """A request begins; its answer may begin before its body is there."""
        parser, scope = self.parser, self.scope
        version = parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        scope["extensions"] = {WHOLE: {"take": cycle.whole}}
        before, self.cycle = self.cycle, cycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:  # it was sent before the answer to the one before, and waits for that
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > AHEAD:
                self.flow.pause_reading()
            cycle.message_event.set()

    def _unset_keepalive_if_required(self) -> None:
        """Nothing: the timer of a connection goes on, and looks when it ends."""

    def on_response_complete(self) -> None:
        """An answer is written; the next request may be there already."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_after(self.timeout_keep_alive)

    def _look_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for so long; else look again when it may have been."""
        self.timeout_keep_alive_task = None
        idle = self.loop.time() - self._idle_since if self.cycle.response_complete else 0.0
        if self.transport.is_closing():
            return
        if idle >= self.timeout_keep_alive:
            self.transport.close()
        else:
            self._look_after(self.timeout_keep_alive - idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)


class Cycle(RequestResponseCycle):
    """A request and its answer."""

    _received = False
    _head = b""

    def whole(self) -> bytes | None:
        """The body, where all of it is there and nobody received of it."""
        if self._received or self.more_body or self.disconnected:
            return None
        self._received = True
        self.message_event.clear()
        return bytes(self.body)

    async def receive(self) -> Any:
        """A part of the body, or that the client is gone."""
        self._received = True
        return await super().receive()

    async def send(self, message: ASGISendEvent) -> None:
        """The head of an answer, which is kept until there is more of it, or a part of it."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._head = self._headed(message["status"], list(message["headers"]))
            self.response_started = True
            self.waiting_for_100_continue = False
        elif message["type"] == "http.response.body" and not self.response_complete:
            more = message.get("more_body", False)
            head, self._head = self._head, b""
            self.transport.write(head + self._framed(message.get("body", b""), more=more))
            if not more:
                self._end()

    def _headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        if all(name != b"content-length" for name, _ in headers):
            headers.append((b"transfer-encoding", b"chunked"))
            self.chunked_encoding = True
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        if len(lines.translate(None, _CONTROLS)) != len(lines) - 2 * len(headers):
            raise RuntimeError("a header of the answer is more than one line")
        return STATUS_LINE[status] + lines + b"\r\n"

    def _framed(self, body: bytes, *, more: bool) -> bytes:
        if self.scope["method"] == "HEAD":
            return b""
        if not self.chunked_encoding:
            return body
        return (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")

    def _end(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
