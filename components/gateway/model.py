"""A question to the model, whatever its form: the release that answers, its answer, a receipt, and the metrics."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from components.adapters.triton_http import Reply
from components.errors import GateError, TimeLimitError, UnavailableError
from components.gateway import wire
from components.gateway.batches import Batches
from components.gateway.compare import compared, is_sound
from components.gateway.problems import RETRY_SECONDS, Problem
from components.gateway.receipts import new_unique
from components.gateway.requests import TRACE

if TYPE_CHECKING:
    from components.adapters.triton_http import TritonHttp
    from components.adapters.triton_stream import TritonStream
    from components.gateway.cache import Cache
    from components.gateway.catalogue import Catalogue, Door
    from components.gateway.completion import Completer
    from components.gateway.log import PredictionLog
    from components.gateway.metrics import Metrics
    from components.gateway.routing import Choice, Router
    from components.gateway.wire import Columns
    from components.online_settings import Online
    from components.profile import GatewayGather

T = TypeVar("T")

GONE: Final = ("unknown model", "is not found", "is not healthy", "is not ready", "has no available versions")
"""Triton's words for a model that is not there, or whose process died."""

BUSY: Final = ("Request timeout expired", "maximum queue size")
"""Words of a refusal by the project's own queue policy."""

DECOUPLED: Final = "decoupled transaction policy"
"""Words of Triton's HTTP door for a model that may have several answers."""

LONGEST: Final = 300.0
"""Seconds that a stream of answers may take, each of them within the time that an answer may take."""

THEIRS: Final = (
    "Unable to parse",
    "failed to parse the request",
    "attempt to access JSON",
    "text is not UTF-8",
    "correlation ID",
)
"""Words of a refusal for which Triton, or the bundle's own model, says 500, though the request is to blame."""

BESIDE: Final = 16
"""Requests that another release is asked as well, on their way at a time; a slow one takes no more of the way."""

_INPUT: Final = re.compile(r"input '([^']*)'")


class LateError(Exception):
    """The model did not answer in time, and the project names what to say then."""

    def __init__(self, door: Door, default: Columns) -> None:
        super().__init__("late")
        self.door = door
        self._default = default

    def columns(self, rows: int) -> Columns:
        """The default answer to each of so many rows, as the door's tensors."""
        return [column * rows for column in self._default]


class Question(NamedTuple):
    """A request to Triton: the length of its JSON header, its body, and its columns where they are known."""

    header: int | None
    body: bytes
    columns: Columns | None = None


Write = Callable[["Door"], Awaitable[Question]]
"""The request as a release takes it; raises `Problem` where it does not."""


class Said(NamedTuple):
    """What a release said: `header` is the length of the JSON header in front of the tensors in `body`.

    `seconds` is how long it took; None where it was remembered.
    """

    door: Door
    receipt: str
    header: int | None
    body: bytes
    kind: bytes
    asked: Question
    seconds: float | None


class Model:
    """Asks Triton for requests.

    Args:
        catalogue: which release answers.
        triton: where.
        metrics: how long it took.
        log: what is written down.
        cache: answers that were given before.
        seconds: that it may take, where the project does not say.
        gather: how rows of several requests go together; none: each goes by itself.
        completer: fills what rows leave out.
        streams: where a request may have several answers.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        triton: TritonHttp,
        metrics: Metrics,
        log: PredictionLog,
        cache: Cache | None,
        seconds: float,
        gather: GatewayGather | None,
        completer: Completer,
        streams: TritonStream,
    ) -> None:
        self.completer = completer
        self._streams = streams
        self._batches = Batches(self._post, gather) if gather else None
        self._log = log
        self._cache = cache
        self._catalogue = catalogue
        self._triton = triton
        self._metrics = metrics
        self._seconds = seconds
        self._beside: set[asyncio.Task[None]] = set()

    async def ask(
        self, write: Write, key: Callable[[str], str], project: str, version: str = "", label: str = ""
    ) -> Said:
        """The answer of the release that serves, or of the one that is named.

        Args:
            write: the request as the door takes it.
            key: what keeps the request with one release, given the column that may hold it.
            project: its name.
            version: a release's number; none: the champion, or the one that the project's router chooses.
            label: `champion` or `previous`.

        Raises:
            Problem: of every kind.
            LateError: the model is late, and the project has a default answer.
        """
        entry = self._catalogue.entry(project)
        if entry.router is None or version or label:
            said = await self._named(write, project, version, label)
        else:
            said = await self._routed(entry.router, write, key, project)
        if entry.online.log:
            self._log.take(entry.online, said, said.asked.header, said.asked.body)
        return said

    async def stream(
        self, write: Write, key: Callable[[str], str], project: str, version: str = ""
    ) -> tuple[Said, AsyncIterator[Said]]:
        """The first answer of the release that `ask` would ask, and the others as they come, under one receipt.

        The last one is what is written down. Where a candidate has no first answer, the release that serves has one.

        Raises:
            Problem, LateError: as `ask`; also of a later answer.
        """
        entry = self._catalogue.entry(project)
        router = None if version else entry.router
        begun = None
        if router is not None and (choice := router.choose(key(router.column))).spare:
            begun = await self._begun_by(router, choice.door, write)
        if begun is None:
            begun = await self._looked_after(lambda door: self._begun(door, write), project, version)
        first, others = begun
        if router is not None:
            self._answered(router, first)
        return first, self._kept(entry.online, first, others)

    async def _begun_by(self, router: Router, door: Door, write: Write) -> tuple[Said, AsyncGenerator[Said]] | None:
        """A candidate's first answer, and the others; None where it has none."""
        try:
            begun = await self._begun(door, write)
        except (Problem, LateError):
            self._failed(router, door)
            return None
        if begun is None:
            self._catalogue.heal_soon()
        return begun

    async def _begun(self, door: Door, write: Write) -> tuple[Said, AsyncGenerator[Said]] | None:
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
            raise _refusal(door, 500, error.details) from None

    async def _kept(self, online: Online, first: Said, others: AsyncGenerator[Said]) -> AsyncGenerator[Said]:
        """The answers after the first one; the last of all is written down, also where nobody hears it any more."""
        last = first
        try:
            async for said in others:
                last = said
                yield said
        except GateError as error:
            raise _refusal(first.door, 500, error.details) from None
        finally:
            await others.aclose()
            if online.log:
                self._log.take(online, last, last.asked.header, last.asked.body)

    async def _streamed(self, door: Door, question: Question) -> AsyncGenerator[Reply]:
        """What Triton answers, each answer as it comes; raises `GateError` where it refuses."""
        seconds = self._catalogue.entry(door.project).online.seconds or self._seconds
        tensors, begun = wire.tensors_of(question.header or 0, question.body), time.perf_counter()
        try:
            async for outputs in self._streams.ask(door.model, tensors, seconds, max(LONGEST, seconds)):
                header, body = wire.reply_of(door.model, outputs)
                yield Reply(200, body, header, wire.BINARY)
        except TimeLimitError:
            raise self._late(door) from None
        except UnavailableError:
            raise Problem(503, "the model server does not answer just now", retry_after=RETRY_SECONDS) from None
        finally:
            self._metrics.asked(door.project, time.perf_counter() - begun)

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

    async def _named(self, write: Write, project: str, version: str = "", label: str = "") -> Said:
        """The answer of one release, which is looked after where Triton does not have it."""
        return await self._looked_after(lambda door: self._said(door, write), project, version, label)

    async def _looked_after(
        self, ask: Callable[[Door], Awaitable[T | None]], project: str, version: str = "", label: str = ""
    ) -> T:
        for last in (False, True):
            door = self._catalogue.door(project, version, label)
            said = await ask(door)
            if said is not None:
                return said
            if not last:  # the release was replaced and dropped in between, or its process died
                await self._catalogue.heal()
        raise Problem(503, f"release {door.number} of {project} is just being loaded", retry_after=RETRY_SECONDS)

    async def _said(self, door: Door, write: Write, *, remembered: bool = True) -> Said | None:
        """The answer of one release; None where Triton does not have it."""
        question = await write(door)
        reply, seconds = await self._reply(door, question, remembered=remembered)
        if reply.status == 200:
            receipt = door.prefix + new_unique()
            return Said(door, receipt, reply.header, reply.body, reply.content_type, question, seconds)
        words = _words(reply.body)
        if any(text in words for text in GONE):
            return None
        raise _refusal(door, reply.status, words)

    # --- several releases ---------------------------------------------------------------------------------------------

    async def _routed(self, router: Router, write: Write, key: Callable[[str], str], project: str) -> Said:
        """The answer of the release that the router chooses; where a candidate fails, of the one that serves."""
        choice = router.choose(key(router.column))
        said = await self._tried(router, choice.door, write) if choice.spare else None
        if said is None:
            said = await self._serving(router, choice, write, project)
        if choice.beside is not None and said.door is choice.door and said.seconds is not None:
            self._ask_beside(router, choice.beside, write, said)
        return said

    async def _tried(self, router: Router, door: Door, write: Write) -> Said | None:
        """A candidate's answer; None where it has none that is any good."""
        try:
            said = await self._said(door, write)
        except (Problem, LateError):
            return None
        if said is None:
            self._catalogue.heal_soon()
        elif is_sound(said):
            self._answered(router, said)
            return said
        return None

    async def _serving(self, router: Router, choice: Choice, write: Write, project: str) -> Said:
        """The answer of the release that serves; if it has one, a candidate's failure was the candidate's own."""
        try:
            said = await self._named(write, project)
        except (Problem, LateError) as error:
            if choice.spare is None and (isinstance(error, LateError) or error.status >= 500):
                self._failed(router, choice.door)
            raise
        if choice.spare is not None:
            self._failed(router, choice.door)
        self._answered(router, said)
        return said

    def _ask_beside(self, router: Router, door: Door, write: Write, said: Said) -> None:
        """Have another release asked as well; nobody waits for it, and where too many are on their way, it is not."""
        if len(self._beside) < BESIDE:
            task = asyncio.get_running_loop().create_task(self._compare(router, door, write, said))
            self._beside.add(task)
            task.add_done_callback(self._beside.discard)

    async def _compare(self, router: Router, door: Door, write: Write, said: Said) -> None:
        try:
            other = await self._said(door, write, remembered=False)
        except (Problem, LateError):
            other = None
        if other is None or not is_sound(other):
            self._failed(router, door)  # the release that answered did not
            return
        self._answered(router, other, "beside")
        router.compared(*compared(said, other, router.tolerance))

    def _answered(self, router: Router, said: Said, fate: str = "answered") -> None:
        router.answered(said.door, said.seconds)
        self._metrics.arm(said.door, fate, said.seconds)

    def _failed(self, router: Router, door: Door) -> None:
        router.failed(door)
        self._metrics.arm(door, "failed")

    # --- one release --------------------------------------------------------------------------------------------------

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
        seconds = self._catalogue.entry(door.project).online.seconds or self._seconds
        try:
            async with asyncio.timeout(seconds):
                return await batches.ask(door, question.header, question.body, question.columns or [])
        except TimeoutError:
            raise self._late(door) from None
        except UnavailableError as error:
            raise Problem(503, error.problem, retry_after=RETRY_SECONDS) from None

    def _late(self, door: Door) -> Exception:
        online = self._catalogue.entry(door.project).online
        default = online.default and door.signature.speech.default(online.default)
        if default:
            return LateError(door, default)
        return Problem(504, f"the model did not answer within {online.seconds or self._seconds:g} s")

    async def _post(self, door: Door, header: int | None, body: bytes) -> Reply:
        online = self._catalogue.entry(door.project).online
        begun = time.perf_counter()
        try:
            return await self._triton.post(door.path, header, body, online.seconds or self._seconds, trace=TRACE.get())
        except TimeLimitError:
            raise self._late(door) from None
        except UnavailableError:
            raise Problem(503, "the model server does not answer just now", retry_after=RETRY_SECONDS) from None
        finally:
            self._metrics.asked(door.project, time.perf_counter() - begun)


def _words(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body).get("error", ""))
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError):
        return body[:500].decode(errors="replace")


def _refusal(door: Door, status: int, words: str) -> Problem:
    """Triton's refusal of a request, in terms of the project."""
    said = words.replace(door.asked, door.project).replace(door.model, door.project).split("\n", 1)[0]
    found = _INPUT.search(said)
    kinds = ", ".join(spec.shown for spec in door.signature.inputs)
    if any(text in words for text in BUSY):
        return Problem(503, said, retry_after=RETRY_SECONDS)
    if DECOUPLED in words:
        return Problem(
            501, f"{door.project} may have several answers for a request",
            accepted=f"POST /v2/models/{door.project}/generate_stream, or /v1/projects/{door.project}/stream",
        )  # fmt: skip
    theirs = status < 500 or any(text in words for text in THEIRS)
    field = found.group(1) if found else ""
    return Problem(400 if theirs else 502, said or "refused", field=field, accepted=kinds)
