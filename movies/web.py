"""The frame around every service: health, metrics, faults, traces, limits. ASGI, so that no request escapes it.

A service is one or more Parts. `Site` makes an application of them: one part is a service of its own, all of them
under prefixes are the monolith.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from movies import calls, telemetry
from movies.config import Settings
from movies.contracts import Health, Problem
from movies.errors import StorageFull, Unavailable
from movies.faults import Faults, Switches, parse

_log = logging.getLogger(__name__)
#: Between two tries to start.
_PAUSE = 0.3

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Paths that the start, overload and faults do not touch; a wedged service answers only PUT /faults.
_FREE = {"/healthz", "/readyz", "/startupz", "/metrics", "/faults"}
#: What every answer may be, for OpenAPI.
PROBLEMS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (400, 408, 413, 422, 429, 500, 503)}


class Part(Protocol):
    """One of the five parts of the recommender, in a process of its own or beside the others."""

    name: str
    router: APIRouter

    async def start(self) -> None:
        """Get what is needed to answer; Unavailable if it cannot be had now: start is called again after a pause."""

    async def stop(self) -> None:
        """Let go of everything; no request comes any more."""

    def unready(self) -> str | None:
        """Why not to send traffic here now; None if it is ready."""


class State:
    """Where a service is in its life: starting, started, draining; and what its parts need to be ready."""

    def __init__(self, name: str, faults: Faults) -> None:
        self.name, self.faults = name, faults
        self.parts: list[Part] = []
        self.starting: str | None = "starting"
        self.draining = False

    def unready(self) -> list[str]:
        """Reasons not to send traffic here; none if it is ready."""
        reasons = [self.starting] if self.starting else []
        if self.draining:
            reasons.append("draining")
        if self.faults.switches.unready:
            reasons.append("switched to unready")
        if not self.starting:
            reasons += [f"{part.name}: {reason}" for part in self.parts if (reason := part.unready())]
        telemetry.READY.labels(self.name).set(0 if reasons else 1)
        return reasons


class Site:
    """Parts, each under its prefix ("" for a service of its own), as one guarded application."""

    def __init__(self, name: str, parts: Sequence[tuple[str, Part]], settings: Settings) -> None:
        self.state = State(name, Faults(parse(settings.fault)))
        self.state.parts = [part for _, part in parts]
        self.api = FastAPI(
            title=f"Movies: {name}", version="1", docs_url=None, redoc_url=None, openapi_url="/openapi.json"
        )
        self.api.include_router(_operation(self.state, settings))
        for prefix, part in parts:
            self.api.include_router(part.router, prefix=prefix)
        self.api.add_exception_handler(RequestValidationError, _not_understood)
        self.api.add_exception_handler(Unavailable, _unavailable)
        self.app: App = Guard(self.api, self.state, settings)

    async def start(self) -> None:
        """Start all parts; what is away is waited for, as long as it takes (GET /startupz tells what)."""
        for part in self.state.parts:
            while True:
                try:
                    await part.start()
                    break
                except Unavailable as error:
                    self.state.starting = f"starting: {part.name}: {error}"
                    _log.warning("waiting at the start", extra={"part": part.name, "reason": str(error)})
                    await asyncio.sleep(_PAUSE)
        self.state.starting = None
        _log.info("started")

    async def stop(self) -> None:
        """Stop all parts, the last one first."""
        for part in reversed(self.state.parts):
            await part.stop()


def _operation(state: State, settings: Settings) -> APIRouter:
    """Paths for whoever operates the service."""
    router = APIRouter(tags=["operation"])
    no: dict[int | str, dict[str, Any]] = {503: {"model": Health}}

    def answer(reasons: list[str]) -> Response:
        health = Health(status="no" if reasons else "ok", reasons=reasons)
        return Response(health.model_dump_json(), 503 if reasons else 200, media_type="application/json")

    @router.get("/healthz", response_model=Health, responses=no)
    async def healthz() -> Response:
        """Whether the process works; if not, start it again."""
        return answer([])

    @router.get("/startupz", response_model=Health, responses=no)
    async def startupz() -> Response:
        """Whether the start is over."""
        return answer([state.starting] if state.starting else [])

    @router.get("/readyz", response_model=Health, responses=no)
    async def readyz() -> Response:
        """Whether it wants traffic."""
        return answer(state.unready())

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """For Prometheus."""
        state.unready()
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/faults")
    async def faults() -> dict[str, Any]:
        """Faults that are switched on, and how often they have bitten."""
        return state.faults.report()

    @router.put("/faults", responses={code: {"model": Problem} for code in (400, 403, 413, 422)})
    async def switch(wanted: Switches) -> dict[str, Any]:
        """Switch faults on or off; only where MOVIES_FAULTS is 1."""
        if not settings.faults:
            raise HTTPException(403, "Faults cannot be switched here: MOVIES_FAULTS is not 1.")
        state.faults.set(wanted)
        _log.warning("faults switched", extra={"faults": wanted.model_dump()})
        return state.faults.report()

    return router


def encodable(text: str) -> str:
    """Text with "?" for each half of a character: JSON may hold one (`"\\ud800"`), but UTF-8 has no bytes for it."""
    return text.encode(errors="replace").decode()


def reason(error: RequestValidationError) -> str:
    """What is wrong with a request, in one line."""
    return encodable(
        "; ".join(
            f"{'.'.join(str(step) for step in one['loc'])}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()[:5]
        )
    )


async def _not_understood(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": reason(error)}, 422)


async def _unavailable(_request: Request, error: Exception) -> Response:
    full = isinstance(error, StorageFull)
    _log.warning("something needed is away", extra={"reason": str(error)})
    return JSONResponse({"detail": str(error)}, 507 if full else 503, {"Retry-After": "1"})


_HEADERS = {b"traceparent", b"content-length", calls.SECONDS_LEFT.encode()}


class _Ended(HTTPException):
    """The request is refused while its body comes; the rest of the body is not read."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail, {"connection": "close"})


class Guard:
    """Around an application: trace, log line, metrics, faults, limits of size, time and number of requests.

    Nothing but its health and the like is told before the parts have started.
    """

    def __init__(self, app: App, state: State, settings: Settings) -> None:
        self._app, self._state, self._settings = app, state, settings
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name: value for name, value in scope["headers"] if name in _HEADERS}
        calls.heed(headers.get(calls.SECONDS_LEFT.encode(), b"").decode("latin-1"))
        trace = telemetry.begin(headers.get(b"traceparent", b"").decode("latin-1"))
        with telemetry.within(trace, self._state.name):
            answer = _Answer(send, trace, self._state)
            began = time.perf_counter()
            try:
                await self._guarded(scope, headers, receive, answer)
            except _Ended as ended:
                await answer.refuse(ended.status_code, ended.detail, {"connection": "close"})
            except Exception:
                _log.exception("request failed")
                await answer.refuse(500, "Something went wrong here; the log has the details.")
            finally:
                self._tell(scope, answer, time.perf_counter() - began)

    async def _guarded(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, answer: _Answer) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        faults = self._state.faults
        if path != "/faults":
            await faults.wedge()
        if path in _FREE:
            return await self._app(scope, self._limited(receive), answer)
        if self._state.starting:  # what a part says that does not know everything yet may be wrong, and final
            telemetry.REFUSED.labels(self._state.name, "starting").inc()
            detail = f"{self._state.name} is still starting (GET /startupz tells what it waits for); try again."
            return await answer.refuse(503, detail, {"retry-after": "1"})
        if self._under_way >= self._settings.max_in_flight:
            telemetry.REFUSED.labels(self._state.name, "overload").inc()
            return await answer.refuse(429, "Too many requests at once; try again.", {"retry-after": "1"})
        if (length := headers.get(b"content-length", b"0")).isdigit() and int(length) > self._settings.body_bytes:
            raise _Ended(413, f"The body is larger than {self._settings.body_bytes} bytes.")
        self._under_way += 1
        telemetry.IN_FLIGHT.labels(self._state.name).inc()
        try:
            if await faults.strike():
                return await answer.refuse(500, "This failure was switched on.")
            await self._app(scope, self._limited(receive), answer)
        finally:
            self._under_way -= 1
            telemetry.IN_FLIGHT.labels(self._state.name).dec()

    def _limited(self, receive: Receive) -> Receive:
        """The body with limits of size and time; afterwards receive waits for the end of the connection as usual."""
        settings, total, ended = self._settings, 0, False
        deadline = time.monotonic() + settings.body_seconds

        async def limited() -> MutableMapping[str, Any]:
            nonlocal total, ended
            if ended:
                return await receive()
            try:
                async with asyncio.timeout(max(0.001, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                telemetry.REFUSED.labels(self._state.name, "slow").inc()
                raise _Ended(408, f"The body did not come within {settings.body_seconds:g} s.") from None
            total += len(message.get("body", b""))
            if total > settings.body_bytes:
                raise _Ended(413, f"The body is larger than {settings.body_bytes} bytes.")
            ended = not message.get("more_body", False)
            return message

        return limited

    def _tell(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        code = str(answer.status or 499)
        telemetry.REQUESTS.labels(self._state.name, _method(scope["method"]), route, code).inc()
        telemetry.LATENCY.labels(self._state.name, route).observe(seconds)
        quiet = scope["path"].removeprefix(scope.get("root_path", "")) in _FREE and code == "200"
        _log.log(
            logging.DEBUG if quiet else logging.INFO,
            "request",
            extra={
                "method": scope["method"],
                "path": scope["path"],
                "route": route,
                "status": int(code),
                "seconds": round(seconds, 5),
            },
        )


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def _method(name: str) -> str:
    """The method, or "other": what clients invent must not become ever new time series."""
    return name if name in _METHODS else "other"


class _Answer:
    """The way out: remembers the status, adds headers, and can refuse as long as nothing was sent."""

    def __init__(self, send: Send, trace: telemetry.Trace, state: State) -> None:
        self._send, self._trace, self._state = send, trace, state
        self.status: int | None = None

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            more = [(b"x-trace-id", self._trace.trace_id.encode())]
            if self._state.draining:
                # A client that keeps connections is to make its next one to another instance.
                more.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await self._send(message)

    async def refuse(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        """Answer with a problem, unless the answer has begun."""
        if self.status is not None:
            return
        body = json.dumps({"detail": detail}).encode()
        lines = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        lines += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self({"type": "http.response.start", "status": status, "headers": lines})
        await self({"type": "http.response.body", "body": body})
