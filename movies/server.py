"""A service as a process: listens at once, starts its parts, and on SIGTERM ends without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from movies import profiling, telemetry
from movies.compose import site
from movies.config import Settings
from movies.web import Site

_log = logging.getLogger(__name__)
_BACKLOG = 128
_HEADER_BYTES = 16 * 1024


def run(name: str, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    telemetry.set_up(name, settings.log_level)
    if settings.profile:
        profiling.start()
    asyncio.run(serve(name, settings))


async def serve(name: str, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then unready but answering for `drain_seconds`, then no new connection."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    async with AsyncExitStack() as stack:
        made = site(name, settings, stack)
        server = _Server(_config(made, settings))
        serving = asyncio.create_task(server.serve(), name="serving")
        starting = asyncio.create_task(_started(made, asked), name="starting")
        stopping = asyncio.create_task(asked.wait(), name="stopping")
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await _drained(made, settings, asked)
            server.should_exit = True
        stopping.cancel()
        try:
            await serving  # raises SystemExit if the port is taken
        finally:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            await made.stop()
    _log.info("stopped")


async def _started(made: Site, asked: asyncio.Event) -> None:
    """Start the parts; an error that time does not heal ends the process."""
    try:
        await made.start()
    except Exception as error:
        _log.exception("the start failed")
        made.state.starting = f"the start failed: {error}"
        asked.set()
        raise


async def _drained(made: Site, settings: Settings, asked: asyncio.Event) -> None:
    """Be unready for as long as others may not know it yet; a second signal cuts it short."""
    made.state.draining = True
    made.state.faults.release()
    _log.info("draining", extra={"seconds": settings.drain_seconds})
    asked.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_seconds):
            await asked.wait()


def _config(made: Site, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        made.app,
        host=settings.host,
        port=settings.port,
        http=type("Patient", (_Protocol,), {"patience": settings.body_seconds, "service": made.state.name}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
    )


class _Server(uvicorn.Server):
    """Leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """Closes a connection whose request line and headers do not come within `patience` seconds.

    One whose client reads nothing of its answer for so long is cut off: the answer takes memory, and the client's next
    request would keep its place among those that may be under way.
    """

    patience, service = 10.0, ""
    _due: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._under_way():
            self._disarm()  # a request is under way: its body has a limit of its own
        elif self._due is None:
            self._arm()

    def on_response_complete(self) -> None:
        self._disarm()  # an idle connection has the limit of keep-alive
        super().on_response_complete()
        self._watch_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()  # an answer that comes in pieces is not complete before most of it is read

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread and self._under_way():
            self._unread.cancel()  # it reads; the next piece makes more wait

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._unread:
            self._unread.cancel()
        super().connection_lost(exc)

    def _under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_reading(self) -> None:
        """Look again later whether what is not read yet has become less."""
        if self._unread:
            self._unread.cancel()
        if left := self.transport.get_write_buffer_size():
            self._unread = self.loop.call_later(self.patience, self._has_read, left)

    def _has_read(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._watch_reading()
        else:
            telemetry.REFUSED.labels(self.service, "unread").inc()
            self.transport.abort()

    def _arm(self) -> None:
        self._due = self.loop.call_later(self.patience, self.timeout_keep_alive_handler)

    def _disarm(self) -> None:
        if self._due:
            self._due.cancel()
            self._due = None
