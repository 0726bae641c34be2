"""A question to the model, whatever its form: the release that answers, its answer, a receipt, and the metrics."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from components.errors import TimeLimitError, UnavailableError
from components.gateway.batches import Batches
from components.gateway.problems import RETRY_SECONDS, Problem
from components.gateway.receipts import new_unique
from components.gateway.requests import TRACE

if TYPE_CHECKING:
    from components.adapters.triton_http import Reply, TritonHttp
    from components.gateway.cache import Cache
    from components.gateway.catalogue import Catalogue, Door
    from components.gateway.completion import Completer
    from components.gateway.log import PredictionLog
    from components.gateway.metrics import Metrics
    from components.gateway.wire import Columns
    from components.profile import GatewayGather

GONE: Final = ("unknown model", "is not found", "is not healthy", "is not ready", "has no available versions")
"""Triton's words for a model that is not there, or whose process died."""

BUSY: Final = ("Request timeout expired", "maximum queue size")
"""Words of a refusal by the project's own queue policy."""

DECOUPLED: Final = "decoupled transaction policy"
"""Words of Triton's HTTP door for a model that may have several answers."""

THEIRS: Final = ("Unable to parse", "failed to parse the request", "attempt to access JSON", "text is not UTF-8")
"""Words of a refusal for which Triton, or the bundle's own model, says 500, though the request is to blame."""

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


@dataclass(frozen=True, slots=True)
class Said:
    """What a release said: `header` is the length of the JSON header in front of the tensors in `body`."""

    door: Door
    receipt: str
    header: int | None
    body: bytes
    kind: bytes


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
    ) -> None:
        self.completer = completer
        self._batches = Batches(self._post, gather) if gather else None
        self._log = log
        self._cache = cache
        self._catalogue = catalogue
        self._triton = triton
        self._metrics = metrics
        self._seconds = seconds

    async def ask(
        self, write: Callable[[Door], Awaitable[Question]], project: str, version: str = "", label: str = ""
    ) -> Said:
        """The answer of the release that serves, or of the one that is named.

        Args:
            write: the request as the door takes it.
            project: its name.
            version: a release's number; none: the champion.
            label: `champion` or `previous`.

        Raises:
            Problem: of every kind.
            LateError: the model is late, and the project has a default answer.
        """
        for last in (False, True):
            door = self._catalogue.door(project, version, label)
            header, body, columns = await write(door)
            reply = await self._reply(door, header, body, columns)
            if reply.status == 200:
                said = Said(door, door.prefix + new_unique(), reply.header, reply.body, reply.content_type)
                online = self._catalogue.entry(project).online
                if online.log:
                    self._log.take(online, said, header, body)
                return said
            words = _words(reply.body)
            if not any(text in words for text in GONE):
                raise _refusal(door, reply.status, words)
            if not last:  # the release was replaced and dropped in between, or its process died
                await self._catalogue.heal()
        raise Problem(503, f"release {door.number} of {project} is just being loaded", retry_after=RETRY_SECONDS)

    async def _reply(self, door: Door, header: int | None, body: bytes, columns: Columns | None) -> Reply:
        """What was answered before, or what Triton answers."""
        cache = None if door.release.bundle.triton.sequence_batching else self._cache
        if cache is not None and (found := await cache.get(door, header, body)) is not None:
            return found
        if self._batches is not None and columns is not None:
            reply = await self._gathered(self._batches, door, Question(header, body, columns))
        else:
            reply = await self._post(door, header, body)
        if cache is not None and reply.status == 200:
            cache.put(door, header, body, reply)
        return reply

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
    said = words.replace(door.model, door.project).split("\n", 1)[0]
    found = _INPUT.search(said)
    kinds = ", ".join(spec.shown for spec in door.signature.inputs)
    if any(text in words for text in BUSY):
        return Problem(503, said, retry_after=RETRY_SECONDS)
    if DECOUPLED in words:
        return Problem(501, f"{door.project} may have several answers for a request", accepted="Triton's gRPC stream")
    theirs = status < 500 or any(text in words for text in THEIRS)
    field = found.group(1) if found else ""
    return Problem(400 if theirs else 502, said or "refused", field=field, accepted=kinds)
