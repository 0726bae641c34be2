"""The ASGI application: who asks is settled first, then what; one line of JSON says what is wrong.

It is written on ASGI itself: a framework's routing and injection cost as much as all that is done here for a request.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from components.adapters.otlp_traces import Traces
from components.adapters.triton_http import TritonHttp, http_address
from components.adapters.triton_stream import TritonStream
from components.errors import TrilhaError
from components.gateway import pages, streams, tensorflow, typed, v2
from components.gateway.access import Access, Caller, Rates
from components.gateway.backend import Backend
from components.gateway.cache import Cache
from components.gateway.catalogue import LOOK, Catalogue
from components.gateway.completion import Completer
from components.gateway.conduct import Conductor
from components.gateway.feedback import Feedback
from components.gateway.log import PredictionLog
from components.gateway.metrics import KIND, Metrics
from components.gateway.model import Model
from components.gateway.problems import RETRY_SECONDS, Problem, problem_of
from components.gateway.recommendations import Recommender
from components.gateway.requests import TRACE, Answer, Receive, Request, Scope, Send, refusal
from components.tally import open_tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from components.workspace import Workspace

_OPEN: Final = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"})
"""What answers without a credential, and says no more than yes or no."""


class Gateway:
    """The door of one profile.

    Args:
        workspace: its parts.
        projects: those to serve; all of them where none is named.
        revive: starts Triton again, where it is ours to start.
        settle: makes good what derives from the release of a project that was promoted.

    Raises:
        ConfigError: a setting is not accepted, or what it refers to is not there.
    """

    def __init__(
        self,
        workspace: Workspace,
        projects: Sequence[str] = (),
        revive: Callable[[], object] = lambda: None,
        settle: Callable[[str], object] = lambda _: None,
    ) -> None:
        settings = workspace.profile.services.gateway
        self._limits = settings.limits
        self._access = Access(workspace)
        self._rates = Rates(settings.limits)
        self._metrics = Metrics()
        self._triton = TritonHttp(lambda: http_address(workspace), settings.limits.connections)
        self.catalogue = Catalogue(workspace, self._triton, projects, revive)
        tally = open_tally(workspace)
        self._conductor = Conductor(workspace, self.catalogue, tally, settle)
        self._feedback = Feedback(workspace, self.catalogue, tally)
        self._traces = Traces(settings.traces) if settings.traces else None
        self._log = PredictionLog(workspace, self._metrics)
        self._cache = Cache(settings.cache, self._metrics) if settings.cache else None
        self._streams = TritonStream(lambda: workspace.endpoint("triton"), settings.limits.connections)
        self._completer = Completer(workspace, settings.limits.seconds)
        self._recommender = Recommender(workspace.features)
        backend = Backend(
            self.catalogue,
            self._triton,
            self._metrics,
            self._cache,
            settings.limits.seconds,
            settings.gather,
            self._streams,
        )
        self._model = Model(self.catalogue, backend, self._metrics, self._log, self._completer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's call."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        request = Request(scope, receive)
        seen = _Seen()
        span = None
        if self._traces is not None:
            span, trace = self._traces.begin(request)
            TRACE.set(trace)
        try:
            answer = await self._answer(request, seen)
        except Problem as problem:
            answer = refusal(problem)
        except TrilhaError as error:
            answer = refusal(problem_of(error))
        except Exception as error:  # noqa: BLE001  # whatever it is, the next request is answered
            traceback.print_exc(file=sys.stderr)
            answer = refusal(Problem(500, f"{type(error).__name__} in the gateway"))
        self._metrics.answered(seen.route, seen.project, answer.status, time.perf_counter() - begun)
        if self._traces is not None:
            self._traces.end(span, seen.route, seen.project, answer.status)
        await answer.send(send)

    async def _answer(self, request: Request, seen: _Seen) -> Answer:
        if request.path in _OPEN:
            seen.route = "health"
            return self._health(request)
        caller = self._access.caller(request)
        self._rates.take(caller)
        match request.path.split("/")[1:]:
            case ["v1", "projects", *rest]:
                return await self._projects(request, caller, rest, seen)
            case ["v1", "models", *rest]:
                return await self._tensorflow(request, caller, rest, seen)
            case ["v2", *rest]:
                return await self._v2(request, caller, rest, seen)
        return self._page(request, caller)

    def _page(self, request: Request, caller: Caller) -> Answer:
        if request.path not in {"/metrics", "/openapi.json", "/docs"}:
            raise _nothing(request)
        _only(request, "GET")
        if request.path == "/openapi.json":
            return pages.openapi(self.catalogue, caller)
        if request.path == "/docs":
            return pages.page()
        caller.check("read", "*")
        return Answer(self._metrics.page(self.catalogue), kind=KIND)

    async def _projects(self, request: Request, caller: Caller, rest: Sequence[str], seen: _Seen) -> Answer:
        seen.route = "projects"
        match rest:
            case [project, "predict"]:
                seen.route = "predict"
                _only(request, "POST")
                caller.check("predict", project)
                self._known(project, seen)
                return await typed.predict(self._model, request, project, await self._body(request))
            case [project, "stream"]:
                seen.route = "stream"
                _only(request, "POST")
                caller.check("predict", project)
                self._known(project, seen)
                return await streams.stream(self._model, request, project, await self._body(request))
            case [project, "feedback"]:
                seen.route = "feedback"
                _only(request, "POST")
                caller.check("feedback", project)
                self._known(project, seen)
                return await self._feedback.take(project, await self._body(request))
            case [project, "recommendations", key]:
                seen.route = "recommendations"
                _only(request, "GET")
                caller.check("predict", project)
                self._known(project, seen)
                return await self._recommender.recommend(request, project, key)
            case [project]:
                _only(request, "GET")
                caller.check("read", project)
                self._known(project, seen)
                return _json(typed.described(project, self.catalogue.entry(project)))
            case []:
                _only(request, "GET")
                return _json(pages.listed(self.catalogue, caller))
        raise _nothing(request)

    async def _v2(self, request: Request, caller: Caller, rest: Sequence[str], seen: _Seen) -> Answer:
        seen.route = "v2"
        version = ""
        match rest:
            case ["models", project, "versions", version, *verb]:
                pass
            case ["models", project, *verb]:
                pass
            case []:
                _only(request, "GET")
                return v2.server()
            case _:
                raise _nothing(request)
        match verb:
            case ["infer"]:
                _only(request, "POST")
                caller.check("predict", project)
                self._known(project, seen)
                return await v2.infer(self._model, request, project, version, await self._body(request))
            case ["generate_stream"]:
                _only(request, "POST")
                caller.check("predict", project)
                self._known(project, seen)
                return await streams.generate(self._model, request, project, version, await self._body(request))
            case [] | ["ready"]:
                _only(request, "GET")
                caller.check("read", project)
                self._known(project, seen)
                return (v2.ready if verb else v2.metadata)(self.catalogue, project, version)
        raise _nothing(request)

    async def _tensorflow(self, request: Request, caller: Caller, rest: Sequence[str], seen: _Seen) -> Answer:
        seen.route = "tensorflow"
        project, version, label, verb = tensorflow.named(rest) or ("", "", "", "")
        if not project:
            raise _nothing(request)
        if verb in tensorflow.VERBS:
            _only(request, "POST")
            caller.check("predict", project)
            self._known(project, seen)
            body = await self._body(request)
            return await tensorflow.ask(self._model, request, verb, project, version, label, body)
        _only(request, "GET")
        caller.check("read", project)
        self._known(project, seen)
        return (tensorflow.metadata if verb else tensorflow.status)(self.catalogue, project, version, label)

    def _known(self, project: str, seen: _Seen) -> None:
        self.catalogue.entry(project)
        seen.project = project

    async def _body(self, request: Request) -> bytes:
        return await request.body(self._limits.body, self._limits.seconds)

    def _health(self, request: Request) -> Answer:
        _only(request, "GET")
        if request.path.endswith("/live") or self.catalogue.ready:
            return _json({"status": "ok"})
        raise Problem(503, "not every release answers yet", retry_after=RETRY_SECONDS)

    # --- what goes on beside ------------------------------------------------------------------------------------------

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        going = (self._look(), self._look_at_keys(), self._conductor.watch(), self._conductor.finish())
        beside = [asyncio.create_task(one) for one in going]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in beside:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._triton.close()
        await self._streams.close()
        await self._completer.close()
        if self._cache is not None:
            await self._cache.close()
        await asyncio.to_thread(self._log.close)
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _look(self) -> None:
        await self.catalogue.look(anyway=True)
        await self.catalogue.watch()

    async def _look_at_keys(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(LOOK)
            trouble = self._access.refresh()
            if trouble and trouble != said:
                print(f"the keys stay as they were: {trouble}", file=sys.stderr, flush=True)  # noqa: T201  # the log
            said = trouble


class _Seen:
    """What a request turned out to be, for the metrics."""

    __slots__ = ("project", "route")

    def __init__(self) -> None:
        self.route = "none"
        self.project = ""


def _json(facts: Any) -> Answer:
    return Answer(msgspec.json.encode(facts))


def _only(request: Request, method: str) -> None:
    if request.method != method:
        raise Problem(405, f"{request.method} {request.path}", accepted=method, headers={"Allow": method})


def _nothing(request: Request) -> Problem:
    return Problem(404, f"there is no {request.path}", accepted="what /openapi.json lists")
