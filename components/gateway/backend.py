"""One release asked: what was answered before, or what Triton answers, to one by itself, to several, piece by piece."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from components.adapters.triton_http import Reply
from components.errors import GateError, TimeLimitError, UnavailableError
from components.gateway import wire
from components.gateway.batches import Batches
from components.gateway.problems import RETRY_SECONDS, Problem
from components.gateway.question import GONE, LateError, Question, Said, Write, refusal_of, words_of
from components.gateway.receipts import new_unique
from components.gateway.requests import TRACE

if TYPE_CHECKING:
    from components.adapters.triton_http import TritonHttp
    from components.adapters.triton_stream import TritonStream
    from components.gateway.cache import Cache
    from components.gateway.catalogue import Catalogue, Door
    from components.gateway.metrics import Metrics
    from components.profile import GatewayGather

LONGEST: Final = 300.0
"""Seconds that a stream of answers may take, each of them within the time that an answer may take."""


class Backend:
    """Asks one release at a time.

    Args:
        catalogue: what projects say of time and of a default answer.
        triton: where.
        metrics: how long it took.
        cache: what was answered before; none: nothing is remembered.
        seconds: that an answer may take, where the project does not say.
        gather: how rows of several requests go together; none: each goes by itself.
        streams: where a request may have several answers.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        triton: TritonHttp,
        metrics: Metrics,
        cache: Cache | None,
        seconds: float,
        gather: GatewayGather | None,
        streams: TritonStream,
    ) -> None:
        self._catalogue = catalogue
        self._triton = triton
        self._metrics = metrics
        self._cache = cache
        self._seconds = seconds
        self._batches = Batches(self._post, gather) if gather else None
        self._streams = streams

    async def said(self, door: Door, write: Write, *, remembered: bool = True) -> Said | None:
        """The answer of one release; None where Triton does not have it."""
        question = await write(door)
        reply, seconds = await self._reply(door, question, remembered=remembered)
        if reply.status == 200:
            receipt = door.prefix + new_unique()
            return Said(door, receipt, reply.header, reply.body, reply.content_type, question, seconds)
        words = words_of(reply.body)
        if any(text in words for text in GONE):
            return None
        raise refusal_of(door, reply.status, words)

    async def begun(self, door: Door, write: Write) -> tuple[Said, AsyncGenerator[Said]] | None:
        """The first answer of one release, and the others; None where Triton does not have it."""
        question, begun, receipt = await write(door), time.perf_counter(), door.prefix + new_unique()

        async def all_of_it() -> AsyncGenerator[Said]:
            async for reply in self._streamed(door, question):
                seconds = time.perf_counter() - begun
                yield Said(door, receipt, reply.header, reply.body, reply.content_type, question, seconds)

        others = all_of_it()
        try:
            return await anext(others), others
        except StopAsyncIteration:
            raise Problem(502, f"{door.project} ended without an answer") from None
        except GateError as error:
            if any(text in error.details for text in GONE):
                return None
            raise refusal_of(door, 500, error.details) from None

    async def _streamed(self, door: Door, question: Question) -> AsyncGenerator[Reply]:
        """What Triton answers, each answer as it comes; raises `GateError` where it refuses."""
        seconds, tensors = self._patience(door), wire.tensors_of(question.header or 0, question.body)
        with self._asking(door):
            async for outputs in self._streams.ask(door.model, tensors, seconds, max(LONGEST, seconds)):
                header, body = wire.reply_of(door.model, outputs)
                yield Reply(200, body, header, wire.BINARY)

    async def _last(self, door: Door, question: Question) -> Reply:
        """The last of several answers, which is the one that `qualify` compared."""
        last = None
        try:
            async for reply in self._streamed(door, question):
                last = reply
        except GateError as error:
            return Reply(500, msgspec.json.encode({"error": error.details}), None, b"application/json")
        if last is None:
            raise Problem(502, f"{door.project} ended without an answer")
        return last

    async def _reply(self, door: Door, question: Question, *, remembered: bool) -> tuple[Reply, float | None]:
        """What was answered before, or what Triton answers, and how long that took."""
        header, body, columns = question
        triton = door.release.bundle.triton
        cache = None if triton.sequence_batching or triton.decoupled or not remembered else self._cache
        if cache is not None and (found := await cache.get(door, header, body)) is not None:
            return found, None
        begun = time.perf_counter()
        if triton.decoupled and columns is not None:
            reply = await self._last(door, question)
        elif self._batches is not None and columns is not None:
            reply = await self._gathered(self._batches, door, question)
        else:
            reply = await self._post(door, header, body)
        seconds = time.perf_counter() - begun
        if cache is not None and reply.status == 200:
            cache.put(door, header, body, reply)
        return reply, seconds

    async def _gathered(self, batches: Batches, door: Door, question: Question) -> Reply:
        try:
            columns = question.columns or []
            return await batches.ask(door, question.header, question.body, columns, self._patience(door))
        except TimeoutError:
            raise self._late(door) from None
        except UnavailableError as error:
            raise Problem(503, error.problem, retry_after=RETRY_SECONDS) from None

    async def _post(self, door: Door, header: int | None, body: bytes) -> Reply:
        with self._asking(door):
            return await self._triton.post(door.path, header, body, self._patience(door), trace=TRACE.get())

    @contextmanager
    def _asking(self, door: Door) -> Iterator[None]:
        """Triton is asked: how long that takes is noted, and what it fails with is said to the client."""
        begun = time.perf_counter()
        try:
            yield
        except TimeLimitError:
            raise self._late(door) from None
        except UnavailableError:
            raise Problem(503, "the model server does not answer just now", retry_after=RETRY_SECONDS) from None
        finally:
            self._metrics.asked(door.project, time.perf_counter() - begun)

    def _late(self, door: Door) -> Exception:
        online = self._catalogue.entry(door.project).online
        default = online.default and door.signature.speech.default(online.default)
        if default:
            return LateError(door, default)
        return Problem(504, f"the model did not answer within {self._patience(door):g} s")

    def _patience(self, door: Door) -> float:
        """Seconds that an answer may take."""
        return self._catalogue.entry(door.project).online.seconds or self._seconds
