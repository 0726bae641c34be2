"""HTTP as the gateway speaks it, byte by byte, before an application that says back what it was told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from components.gateway.problems import Problem
from components.gateway.protocol import AHEAD, Protocol
from components.gateway.requests import Answer, Receive, Request, Scope, Send, refusal
from tests.components.gateway.conftest import until
from tests.triton import free_ports

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Method, path, query and body come back."""
    request = Request(scope, receive)
    if request.path == "/parts":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one", b"", b"three"):
            await send({"type": "http.response.body", "body": part, "more_body": part != b"three"})
    elif request.path == "/lines":
        await Answer(b"", headers={"x": "one\r\ny: two"}).send(send)
    elif request.path == "/unread":
        await Answer(b"no").send(send)
    else:
        try:
            body = await request.body(4 * AHEAD, 0.2 if request.path == "/hurry" else 20)
        except Problem as problem:
            await refusal(problem).send(send)
        else:
            await Answer(b"%b %b?%b %d" % (*map(str.encode, (request.method, request.path, request.query)), len(body)))\
                .send(send)  # fmt: skip


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a server that closes a connection after a second of idleness."""
    (free,) = free_ports(1)
    config = uvicorn.Config(
        echo, port=free, loop="uvloop", http=Protocol, lifespan="off", ws="none", log_level="critical",
        server_header=False, date_header=False, timeout_keep_alive=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield free
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """A client's end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def said(client: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where the connection is closed before."""
    found = b""
    while len(found) < size and (more := client.recv(size - len(found))):
        found += more
    return found


def expect(client: socket.socket, answer: bytes) -> None:
    """The next bytes are those of `answer`."""
    assert said(client, len(answer)) == answer


def ok(body: bytes) -> bytes:
    return OK % (len(body), body)


def test_a_body_in_any_number_of_pieces(port: int) -> None:
    """Whole, cut anywhere, in chunks, and larger than what is read ahead: it arrives as it was sent."""
    head, large = b"POST /a%20b?c=1 HTTP/1.1\r\nHost: x\r\n", 2 * AHEAD
    whole = head + b"Content-Length: 5\r\n\r\nabcde"
    with connected(port) as client:
        client.sendall(whole)
        expect(client, ok(b"POST /a b?c=1 5"))
        for cut in (3, len(head) + 4, len(whole) - 2):
            client.sendall(whole[:cut])
            time.sleep(0.02)
            client.sendall(whole[cut:])
            expect(client, ok(b"POST /a b?c=1 5"))
        client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        expect(client, ok(b"POST /a b?c=1 5"))
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % large + b"x" * large)
        expect(client, ok(b"POST /a b?c=1 %d" % large))


def test_several_requests_at_once(port: int) -> None:
    """Answers come in the order of the requests, also where a body was not read."""
    asked = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(20)]
    unread = b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    with connected(port) as client:
        client.sendall(b"".join(asked) + unread + asked[0])
        for number in range(20):
            expect(client, ok(b"GET /%d? 0" % number))
        expect(client, ok(b"no") + ok(b"GET /0? 0"))


def test_an_answer_in_parts(port: int) -> None:
    """It is sent in chunks where its length is not known."""
    with connected(port) as client:
        client.sendall(b"GET /parts HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(client, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n")


def test_head(port: int) -> None:
    """HEAD is answered with the head that GET has, and nothing behind it."""
    with connected(port) as client:
        client.sendall(b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(client, (OK % (len(b"HEAD /x? 0"), b"")) + ok(b"GET /x? 0"))


def test_continue(port: int) -> None:
    """A client that asks before it sends its body is told to go on."""
    with connected(port) as client:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        expect(client, b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(b"ab")
        expect(client, ok(b"POST /x? 2"))


@pytest.mark.parametrize(
    "ask", [b"GET /x HTTP/1.0\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
)
def test_the_last_request_of_a_connection(port: int, ask: bytes) -> None:
    """It is closed behind the answer where the client wants that, and the answer says so."""
    with connected(port) as client:
        client.sendall(ask)
        expect(client, ok(b"GET /x? 0").replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert client.recv(1) == b""


def test_a_header_of_several_lines(port: int) -> None:
    """Nothing that was given as one header is sent as two: 500, and the connection is closed."""
    with connected(port) as client:
        client.sendall(b"GET /lines HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = said(client, 1000)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"two" not in answer


@pytest.mark.parametrize(
    "sent", [b"\x00\x01\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"GET x HTTP/1.1\r\n\r\n"]
)
def test_no_http(port: int, sent: bytes) -> None:
    """400, and the connection is closed; others are answered."""
    with connected(port) as client, connected(port) as other:
        client.sendall(sent)
        assert said(client, 1000).startswith(b"HTTP/1.1 400 ")
        other.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(other, ok(b"GET /x? 0"))


def test_an_idle_connection(port: int) -> None:
    """It is closed after its time, which begins anew with each answer; one that waits for a body is not idle."""
    with connected(port) as busy:
        busy.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(busy, ok(b"POST /x? 0"))
        busy.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        with connected(port) as client:
            begun = time.monotonic()
            client.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            expect(client, ok(b"GET /x? 0"))
            time.sleep(0.3)
            client.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            again = said(client, len(ok(b"GET /x? 0")))
            assert client.recv(1) == b""
            assert time.monotonic() - begun >= (1.25 if again else 0.95)  # a machine that stands still is too late
        busy.sendall(b"b")
        expect(busy, ok(b"POST /x? 2"))


def test_a_body_that_stops(port: int) -> None:
    """408 after the time that the application gives it."""
    with connected(port) as client:
        client.sendall(b"POST /hurry HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        assert said(client, 13) == b"HTTP/1.1 408 "
