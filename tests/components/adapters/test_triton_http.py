"""The pool of connections, against servers that do what a Triton does at its worst."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from components.adapters.triton_http import TritonHttp
from components.errors import TimeLimitError, UnavailableError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nInference-Header-Content-Length: 1\r\n\r\nok"


@asynccontextmanager
async def serving(handler: Handler, **options: int) -> AsyncIterator[TritonHttp]:
    """A pool before a server that does what `handler` does with each connection."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = TritonHttp(lambda: f"127.0.0.1:{port}", **options)
    try:
        yield pool
    finally:
        pool.close()
        server.close()


async def request(reader: asyncio.StreamReader) -> bytes:
    """One whole request of this module's."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(int(head.split(b"\r\nContent-Length: ")[1].split(b"\r\n")[0]))


def test_one_connection_for_many_requests() -> None:
    """It stays open; the answer has its header's length, the question its trace."""
    connections, asked = [], []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        try:
            while True:
                asked.append(await request(reader))
                writer.write(OK[:30])
                await asyncio.sleep(0.01)
                writer.write(OK[30:])
        except asyncio.IncompleteReadError:
            writer.close()

    async def main() -> None:
        async with serving(handler) as pool:
            for _ in range(3):
                reply = await pool.post("/x", 3, b"body", 5, trace="00-1-2-01")
                assert (reply.status, reply.header, reply.body) == (200, 1, b"ok")

    asyncio.run(main())
    assert len(connections) == 1
    assert asked[0].startswith(b"POST /x HTTP/1.1\r\n")
    assert b"traceparent: 00-1-2-01\r\n" in asked[0]
    assert asked[0].endswith(b"\r\n\r\nbody")


def test_a_connection_that_was_closed_while_it_lay_idle() -> None:
    """The question is asked again on a new one; nobody notices."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK)
        await writer.drain()
        if await reader.read(1):  # the next question: gone before it is answered
            writer.transport.abort()

    async def main() -> None:
        async with serving(handler) as pool:
            for _ in range(4):
                assert (await pool.post("/x", None, b"", 5)).status == 200

    asyncio.run(main())


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", OK[:40]])
def test_half_an_answer(said: bytes) -> None:
    """A server that closes in the middle, or says what is no HTTP, is unavailable."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(said)
        writer.close()

    async def main() -> None:
        async with serving(handler) as pool:
            with pytest.raises(UnavailableError):
                await pool.post("/x", None, b"", 5)

    asyncio.run(main())


def test_late_and_waiting() -> None:
    """One that is late is given up, and so is one that waits behind it; then the next is answered."""
    wait = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        await wait.wait()
        writer.write(OK)

    async def main() -> None:
        async with serving(handler, connections=1, queue=1) as pool:
            first = asyncio.create_task(pool.post("/x", None, b"", 0.3))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(pool.post("/x", None, b"", 0.1))
            await asyncio.sleep(0.05)
            with pytest.raises(UnavailableError, match="too many"):
                await pool.post("/x", None, b"", 1)
            for task in (second, first):
                with pytest.raises(TimeLimitError):
                    await task
            wait.set()
            assert (await pool.post("/x", None, b"", 5)).status == 200

    asyncio.run(main())


def test_each_request_has_its_own_time() -> None:
    """On one connection: the time of a request is not that of the one before, be it longer or shorter."""
    connections = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        try:
            while True:
                seconds = (await request(reader)).rsplit(b"\n", 1)[1]
                await asyncio.sleep(float(seconds))
                writer.write(OK)
        except asyncio.IncompleteReadError:
            writer.close()

    async def main() -> None:
        async with serving(handler) as pool:
            for asked, limit in ((b"0", 30), (b"0", 0.5), (b"0.6", 30)):
                assert (await pool.post("/x", None, asked, limit)).status == 200
            assert len(connections) == 1
            with pytest.raises(TimeLimitError):
                await pool.post("/x", None, b"20", 0.1)

    asyncio.run(main())


def test_whoever_asked_is_gone() -> None:
    """Its connection is dropped, so that nobody gets its answer; its place is free again."""
    answers = iter([b"theirs", b"ours.."])

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        said = next(answers)
        await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + said)

    async def main() -> None:
        async with serving(handler, connections=1) as pool:
            gone = asyncio.create_task(pool.post("/x", None, b"", 5))
            await asyncio.sleep(0.05)
            gone.cancel()
            assert (await pool.post("/x", None, b"", 5)).body == b"ours.."

    asyncio.run(main())


def test_nobody_listens() -> None:
    """A refused connection is said at once, and whoever waits on an old one is told."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        await asyncio.sleep(30)

    async def main() -> None:
        async with serving(handler) as pool:
            waiting = asyncio.create_task(pool.post("/x", None, b"", 20))
            await asyncio.sleep(0.1)
            pool._locate = lambda: "127.0.0.1:9"
            assert not await pool.is_ready(2)
            with pytest.raises(UnavailableError):
                await waiting

    asyncio.run(main())
