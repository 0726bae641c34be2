"""A question to the model, whatever its form: the release that answers, its answer, a receipt, and the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from components.errors import GateError
from components.gateway.compare import compared, is_sound
from components.gateway.problems import RETRY_SECONDS, Problem
from components.gateway.question import LateError, Said, Write, refusal_of

if TYPE_CHECKING:
    from components.gateway.backend import Backend
    from components.gateway.catalogue import Catalogue, Door
    from components.gateway.completion import Completer
    from components.gateway.log import PredictionLog
    from components.gateway.metrics import Metrics
    from components.gateway.routing import Choice, Router
    from components.project import Online

T = TypeVar("T")

BESIDE: Final = 16
"""Requests that another release is asked as well, on their way at a time; a slow one takes no more of the way."""


class Model:
    """Has requests answered by the release that is theirs.

    Args:
        catalogue: which release answers.
        backend: asks it.
        metrics: what became of a request, where several releases may answer.
        log: what is written down.
        completer: fills what rows leave out.
    """

    def __init__(
        self, catalogue: Catalogue, backend: Backend, metrics: Metrics, log: PredictionLog, completer: Completer
    ) -> None:
        self.completer = completer
        self._catalogue = catalogue
        self._backend = backend
        self._metrics = metrics
        self._log = log
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
            begun = await self._looked_after(lambda door: self._backend.begun(door, write), project, version)
        first, others = begun
        if router is not None:
            self._answered(router, first)
        return first, self._kept(entry.online, first, others)

    async def _begun_by(self, router: Router, door: Door, write: Write) -> tuple[Said, AsyncGenerator[Said]] | None:
        """A candidate's first answer, and the others; None where it has none."""
        try:
            begun = await self._backend.begun(door, write)
        except (Problem, LateError):
            self._failed(router, door)
            return None
        if begun is None:
            self._catalogue.heal_soon()
        return begun

    async def _kept(self, online: Online, first: Said, others: AsyncGenerator[Said]) -> AsyncGenerator[Said]:
        """The answers after the first one; the last of all is written down, also where nobody hears it any more."""
        last = first
        try:
            async for said in others:
                last = said
                yield said
        except GateError as error:
            raise refusal_of(first.door, 500, error.details) from None
        finally:
            await others.aclose()
            if online.log:
                self._log.take(online, last, last.asked.header, last.asked.body)

    async def _named(self, write: Write, project: str, version: str = "", label: str = "") -> Said:
        """The answer of one release, which is looked after where Triton does not have it."""
        return await self._looked_after(lambda door: self._backend.said(door, write), project, version, label)

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
            said = await self._backend.said(door, write)
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
            other = await self._backend.said(door, write, remembered=False)
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
