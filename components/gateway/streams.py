"""Answers as they come: server-sent events, each a whole answer, as Triton's `generate_stream` has them.

    POST /v1/projects/NAME/stream                          rows in; each event is what `predict` answers
    POST /v2/models/NAME[/versions/V]/generate_stream      one row in; each event has the outputs by name

The first answer is waited for, so what is wrong with a request has a status of its own. What goes wrong later is an
event `error`, and a stream that is whole ends with an event `end`.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from components.errors import TrilhaError
from components.gateway.problems import Problem, problem_of
from components.gateway.question import LateError, Said
from components.gateway.requests import Answer
from components.gateway.typed import Answers, Rows, answered
from components.gateway.v2 import RECEIPT, RELEASE

if TYPE_CHECKING:
    from components.gateway.catalogue import Door
    from components.gateway.model import Model
    from components.gateway.requests import Request, Send

KIND: Final = b"text/event-stream"
_encode = msgspec.json.Encoder().encode

Tell = Callable[[Said], Any]
"""What an event says of an answer."""


async def stream(model: Model, request: Request, project: str, body: bytes) -> Answer:
    """`POST /v1/projects/NAME/stream`."""

    def late(error: LateError, rows: int) -> Any:
        return Answers(project, None, None, error.door.signature.speech.rows(error.columns(rows)), default=True)

    return await _begun(model, request, project, "", body, lambda said: answered(said, project), late)


async def generate(model: Model, request: Request, project: str, version: str, body: bytes) -> Answer:
    """`POST /v2/models/NAME[/versions/V]/generate_stream`: one row, an object of the inputs by name."""

    def outputs(door: Door, columns: list[list[Any]]) -> dict[str, Any]:
        names = [spec.name for spec in door.signature.speech.outputs]
        return {"model_name": project, "model_version": str(door.number)} | {
            name: column[0] for name, column in zip(names, columns, strict=True)
        }

    def tell(said: Said) -> Any:
        return outputs(said.door, said.door.signature.reader.read(said.header, said.body))

    def late(error: LateError, rows: int) -> Any:
        return outputs(error.door, error.columns(rows))

    return await _begun(model, request, project, version, b'{"rows":[' + body + b"]}", tell, late)


async def _begun(
    model: Model,
    request: Request,
    project: str,
    version: str,
    body: bytes,
    tell: Tell,
    late: Callable[[LateError, int], Any],
) -> Answer:
    """The stream, once its first answer is there."""
    rows = Rows(model, request, body)
    try:
        first, others = await model.stream(rows.write, rows.key, project, version)
    except LateError as error:
        return Events(request, _only(late(error, rows.count)), {})
    headers = {RECEIPT: first.receipt, RELEASE: str(first.door.number)}
    return Events(request, _told(tell(first), others, tell), headers)


async def _only(told: Any) -> AsyncIterator[Any]:
    yield told


async def _told(first: Any, others: AsyncIterator[Said], tell: Tell) -> AsyncIterator[Any]:
    try:
        yield first
        async for said in others:
            yield tell(said)
    finally:
        await others.aclose()  # type: ignore[attr-defined]  # a generator, which ends the stream from Triton


class Events(Answer):
    """An answer that is a stream of events.

    Args:
        request: whose client may go away meanwhile.
        told: what each event says; an error in it is the last one.
        headers: others.
    """

    __slots__ = ("_request", "_told")

    def __init__(self, request: Request, told: AsyncIterator[Any], headers: Mapping[str, str]) -> None:
        super().__init__(b"", kind=KIND, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers})
        self._request = request
        self._told = told

    async def send(self, send: Send) -> None:
        """Hand the events to ASGI one by one; a client that goes away ends them."""
        headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", KIND), *headers]})
        telling = asyncio.ensure_future(self._tell(send))
        gone = asyncio.ensure_future(self._request.gone())
        try:
            await asyncio.wait({telling, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, gone):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self._told.aclose()  # type: ignore[attr-defined]  # a generator

    async def _tell(self, send: Send) -> None:
        count = 0
        try:
            async for one in self._told:
                await _send(send, b"data: " + _encode(one))
                count += 1
            last = b"event: end\ndata: " + _encode({"answers": count})
        except Problem as problem:
            last = _failure(problem)
        except TrilhaError as error:
            last = _failure(problem_of(error))
        except Exception as error:  # noqa: BLE001  # whatever it is, the client hears that it was not all
            traceback.print_exc(file=sys.stderr)
            last = _failure(Problem(500, f"{type(error).__name__} in the gateway"))
        await _send(send, last)
        await send({"type": "http.response.body", "body": b""})


async def _send(send: Send, event: bytes) -> None:
    await send({"type": "http.response.body", "body": event + b"\n\n", "more_body": True})


def _failure(problem: Problem) -> bytes:
    return b"event: error\ndata: " + problem.body()
