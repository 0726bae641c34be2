"""The trigger service's HTTP interface: a few paths, a token, small bodies, one line of JSON for every answer."""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from components.errors import ConfigError, ConflictError, NotFoundError, TrilhaError, UnavailableError
from components.settings import Settings
from components.workspace import Workspace
from flows.triggers.start import start
from flows.triggers.token import read_token
from flows.triggers.trigger import Started, branches, news, trigger, watchers

LARGEST = 65_536
"""Bytes of a body."""
PATIENCE = 10.0
"""Seconds for a body to arrive."""
BURST, RATE = 30, 2.0
"""Requests at once, and a second from then on."""
LOOK = 30.0
"""Seconds between two looks at the watched branches: what a hook could not deliver is found then."""

STATUS = {ConfigError: 422, NotFoundError: 404, ConflictError: 409, UnavailableError: 503}

Ref = Annotated[str, Field(min_length=1, max_length=200)]


class Order(Settings):
    """The body of `POST /projects/PROJECT/runs`. `delivery`: a text of the caller's by which a repeat is known."""

    dag: Literal["lifecycle", "scoring"] = "lifecycle"
    commit: Ref | None = None
    branch: Ref | None = None
    delivery: Ref | None = None


class Moved(Settings):
    """The body of `POST /hooks/git`: a branch that moved."""

    branch: Ref


class LakeFSEvent(BaseModel):
    """What is of use in the body that lakeFS posts; there is more in it."""

    repository_id: Ref
    branch_id: Ref


Body = TypeVar("Body", bound=BaseModel)


class Service:
    """What the paths do, for one profile.

    Args:
        workspace: its parts.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._token = read_token(workspace).encode()
        self._one_at_a_time = threading.Lock()
        self._heads: dict[str, str | None] = {}
        self._left, self._counted = float(BURST), time.monotonic()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/health", _health),
                Route("/projects/{project}/runs", self._guarded(self._order), methods=["POST"]),
                Route("/hooks/git", self._guarded(self._git), methods=["POST"]),
                Route("/hooks/lakefs", self._guarded(self._lakefs), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _refusal, 500: _failure},
            lifespan=self._lifespan,
        )

    # --- paths --------------------------------------------------------------------------------------------------------

    async def _order(self, request: Request) -> Response:
        order = await _body(request, Order)
        return await run_in_threadpool(self._run, request.path_params["project"], order)

    def _run(self, project: str, order: Order) -> Response:
        if order.branch is not None and project not in watchers(order.branch):
            raise NotFoundError(f"project {project!r} does not watch branch {order.branch!r}")
        ordered = trigger(self._workspace, project, order.commit or order.branch, order.delivery, order.dag)
        with self._one_at_a_time:
            started = start(self._workspace, ordered)
        _tell(started)
        return JSONResponse(started.model_dump(), 202)

    async def _git(self, request: Request) -> Response:
        moved = await _body(request, Moved)
        return await run_in_threadpool(self._moved, moved.branch)

    async def _lakefs(self, request: Request) -> Response:
        event = await _body(request, LakeFSEvent)
        return await run_in_threadpool(self._event, event)

    def _event(self, event: LakeFSEvent) -> Response:
        store = self._workspace.profile.store
        if store.kind != "lakefs" or store.repository != event.repository_id:
            raise NotFoundError(f"profile {self._workspace.name} does not use repository {event.repository_id!r}")
        from components.adapters.lakefs_terms import decoded

        return self._moved(decoded(event.branch_id) or event.branch_id)

    def _moved(self, branch: str) -> Response:
        _say(f"told that {branch!r} moved")
        started = [run for project in watchers(branch) if (run := self._look(project, branch))]
        return JSONResponse({"runs": [run.model_dump() for run in started]}, 202 if started else 200)

    # --- branches -----------------------------------------------------------------------------------------------------

    def _look(self, project: str, branch: str) -> Started | None:
        with self._one_at_a_time:
            found = news(self._workspace, project, branch)
            started = start(self._workspace, found) if found else None
            self._heads[project] = found.commit if found else None
        if started:
            _tell(started)
        return started

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            looking.cancel()

    async def _keep_looking(self) -> None:
        """Find what was committed while nobody listened, and what could not be started when it was delivered."""
        while True:
            try:
                for project, branch in (await run_in_threadpool(branches)).items():
                    await run_in_threadpool(self._look_quietly, project, branch)
            except TrilhaError as error:
                _say(f"projects: {error}")
            await asyncio.sleep(LOOK)

    def _look_quietly(self, project: str, branch: str) -> None:
        try:
            store = self._workspace.store
            if branch in store.branches(branch) and store.resolve(branch).id != self._heads.get(project):
                self._look(project, branch)
        except TrilhaError as error:
            _say(f"{project}: {error}")

    # --- who may, and how often ---------------------------------------------------------------------------------------

    def _guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if not self._has_room():
                return _error(429, "too many requests", next_step="wait a second", headers={"Retry-After": "1"})
            if not self._is_known(request.headers.get("Authorization", "")):
                return _error(
                    401, "no token, or another one", accepted="Authorization: Bearer TOKEN",
                    headers={"WWW-Authenticate": "Bearer"},
                )  # fmt: skip
            try:
                return await answer(request)
            except TrilhaError as error:
                status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
                return _error(status, error.problem, error.accepted, error.next_step)

        return guarded

    def _is_known(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)

    def _has_room(self) -> bool:
        now = time.monotonic()
        self._left = min(float(BURST), self._left + (now - self._counted) * RATE)
        self._counted = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _body(request: Request, model: type[Body]) -> Body:
    """The body as a `model`.

    Raises:
        HTTPException: it is too large, or too slow.
        ConfigError: it is something else.
    """
    received = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for chunk in request.stream():
                received += chunk
                if len(received) > LARGEST:
                    raise HTTPException(413, f"a body of more than {LARGEST} bytes")
    except (TimeoutError, ClientDisconnect) as error:
        raise HTTPException(408, "the body did not arrive") from error
    try:
        return model.model_validate_json(bytes(received) or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"the body{f', {where!r}' if where else ''}: {first['msg']}",
            accepted=f"JSON with {', '.join(model.model_fields)}",
        ) from error


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, headers=dict(error.headers or {}))


async def _failure(_: Request, error: Exception) -> Response:
    return _error(500, f"{type(error).__name__} in the trigger service", next_step="trilha logs triggers")


def _error(
    status: int, problem: str, accepted: str = "", next_step: str = "", headers: dict[str, str] | None = None
) -> Response:
    facts = {"error": problem, "accepted": accepted, "next": next_step}
    return JSONResponse({name: text for name, text in facts.items() if text}, status, headers)


def _tell(started: Started) -> None:
    if started.new or started.note:
        _say(json.dumps(started.model_dump()))


def _say(text: str) -> None:
    """A line for `trilha logs triggers`."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # standard error is the service's log
