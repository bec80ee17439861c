"""Takes events in, over HTTP and from a stream: checked, known by their id, kept before they are acknowledged."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import Counter
from pydantic import ValidationError

from movies import dataset, telemetry
from movies.background import Background
from movies.bus import ARRIVALS, EVENTS, REFUSED, Bus, Message
from movies.config import Settings
from movies.contracts import (
    EVENT,
    Accepted,
    Batch,
    BatchAnswer,
    Event,
    IngestionStatus,
    Problem,
    Rating,
    Refused,
    RefusedEvent,
    RefusedEvents,
    Watch,
    stored,
)
from movies.errors import Unavailable
from movies.web import PROBLEMS, encodable, reason

_log = logging.getLogger(__name__)
_LATE_SECONDS = 3600
#: Events of one batch that are published at once.
_AT_ONCE = 64
#: Of what is wrong with an event, and of an arrival that is set aside: the broker takes no message over 1 MB.
_SHOWN = 2000
#: Between two tries to keep an arrival.
_PAUSE = 0.5

EVENTS_SEEN = Counter("movies_events_total", "Events by what became of them.", ("outcome", "source"))


class Ingestion:
    """A movies.web.Part, and a movies.clients.Ingestion."""

    name = "ingestion"

    def __init__(self, settings: Settings, bus: Bus, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._bus, self._clock = settings, bus, clock
        self._movies: frozenset[int] = frozenset()
        self._counts = {"accepted": 0, "duplicate": 0, "refused": 0}
        for outcome in self._counts:
            for source in ("http", "stream"):  # from 0 on: the first one, too, is an increase
                EVENTS_SEEN.labels(outcome, source)
        self._arrivals = Background("arrivals", self._take_arrivals)
        self.router = _router(self)

    async def start(self) -> None:
        """Learn which movies there are, then take what arrives."""
        found = await dataset.find(self._bus)
        if found is None:
            raise Unavailable("There are no movies yet: run `python -m movies seed`.")
        self._movies = frozenset(movie.id for movie in found.movies)
        self._arrivals.start()

    async def stop(self) -> None:
        """Take nothing more from the stream; what was not acknowledged comes again."""
        await self._arrivals.stop()

    def unready(self) -> str | None:
        """The broker must be there: nothing is acknowledged without it."""
        return None if self._bus.connected() else "the broker cannot be reached"

    async def accept(self, event: Mapping[str, Any]) -> Accepted | Refused:
        """Judge an event and keep it."""
        return await self._judge(event, "http")

    async def keep(self, event: Rating | Watch, source: str = "http") -> Accepted | Refused:
        """Keep an event that is well formed, unless what it says cannot be."""
        if not self._movies:
            raise Unavailable("It is not known yet which movies there are; send the event again.")
        now = self._clock()
        if event.movie not in self._movies:
            return self.refuse(event.id, "unknown-movie", f"There is no movie {event.movie}.", source)
        if event.at and event.at.timestamp() > now + self._settings.future_seconds:
            detail = f"The event is dated {event.at.isoformat()}, which is in the future: check the sender's clock."
            return self.refuse(event.id, "future", detail, source)
        kept = await self._bus.publish(EVENTS, stored(event, now), id=event.id, headers=telemetry.headers())
        outcome = "duplicate" if kept.duplicate else "accepted"
        self._count(outcome, source)
        _log.info("event", extra={"outcome": outcome, "event": event.id, "position": kept.position})
        late = event.at is not None and event.at.timestamp() < now - _LATE_SECONDS
        return Accepted(id=event.id, position=kept.position, duplicate=kept.duplicate, late=late)

    async def batch(self, events: list[Any]) -> BatchAnswer:
        """Judge each event; if one cannot be kept, Unavailable: the batch can be sent again as it is."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(event: Any) -> Accepted | Refused:
            async with gate:
                return await self._judge(event, "http")

        results = await asyncio.gather(*(one(event) for event in events))
        kept = [one for one in results if isinstance(one, Accepted)]
        return BatchAnswer(
            accepted=sum(not one.duplicate for one in kept),
            duplicates=sum(one.duplicate for one in kept),
            refused=len(results) - len(kept),
            results=results,
        )

    async def refused(self, limit: int = 20) -> RefusedEvents:
        """What came by the stream and was set aside."""
        found = []
        for message in await self._bus.tail(REFUSED, limit):
            told = json.loads(message.data)
            found.append(RefusedEvent(position=message.position, **told))
        return RefusedEvents(events=found)

    async def status(self) -> IngestionStatus:
        """Counts since the start."""
        return IngestionStatus(
            accepted=self._counts["accepted"],
            duplicates=self._counts["duplicate"],
            refused=self._counts["refused"],
            position=await self._bus.last(EVENTS),
            movies=len(self._movies),
        )

    async def _judge(self, event: Any, source: str) -> Accepted | Refused:
        try:
            checked = EVENT.validate_python(event)
        except ValidationError as error:
            return self.refuse(_id_of(event), "malformed", reason(RequestValidationError(error.errors())), source)
        return await self.keep(checked, source)

    def refuse(self, id_: str | None, why: Any, detail: str, source: str) -> Refused:
        """Count and log an event that is not kept, and what to answer."""
        self._count("refused", source)
        detail = detail[:_SHOWN]  # names of fields are the sender's, and may be as long as a message
        _log.info("event", extra={"outcome": "refused", "event": id_, "reason": why, "detail": detail})
        return Refused(id=id_, reason=why, detail=detail)

    def _count(self, outcome: str, source: str) -> None:
        self._counts[outcome] += 1
        EVENTS_SEEN.labels(outcome, source).inc()

    async def _take_arrivals(self) -> None:
        async for batch in self._bus.work(ARRIVALS, "ingestion"):
            self._arrivals.well()
            for delivery in batch:
                trace = telemetry.begin(delivery.message.headers.get("traceparent"))
                with telemetry.within(trace, self.name):
                    await self._until_kept(delivery.message)
                await delivery.done()

    async def _until_kept(self, message: Message) -> None:
        """Return when the event is in the log or set aside. While the broker is away or full, it is tried again."""
        while True:
            try:
                try:
                    event = json.loads(message.data)
                except (ValueError, RecursionError) as error:
                    judged: Accepted | Refused = self.refuse(None, "malformed", f"This is no JSON: {error}", "stream")
                else:
                    judged = await self._judge(event, "stream")
                if isinstance(judged, Refused):
                    await self._set_aside(message, judged)
                return
            except Unavailable as error:
                _log.warning("an arrival waits", extra={"position": message.position, "reason": str(error)})
                await asyncio.sleep(_PAUSE)

    async def _set_aside(self, message: Message, judged: Refused) -> None:
        raw = message.data[:_SHOWN].decode("utf-8", "replace")
        told = {"reason": judged.reason, "detail": judged.detail, "raw": raw}
        await self._bus.publish(REFUSED, json.dumps(told).encode(), id=f"arrival-{message.position}")


def _id_of(event: Any) -> str | None:
    found = event.get("id") if isinstance(event, Mapping) else None
    return encodable(found[:100]) if isinstance(found, str) else None


def _judging(part: Ingestion) -> type[APIRoute]:
    class Judging(APIRoute):
        """A body that is no event is answered as any other refused event."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """The handler, with refusal in place of the general answer."""
            handler = super().get_route_handler()

            async def judged(request: Request) -> Response:
                try:
                    return await handler(request)
                except RequestValidationError as error:
                    refused = part.refuse(_id_of(error.body), "malformed", reason(error), "http")
                    return JSONResponse(refused.model_dump(), 422)

            return judged

    return Judging


def _router(part: Ingestion) -> APIRouter:
    router = APIRouter(tags=["ingestion"], responses=PROBLEMS | {507: {"model": Problem}})
    single = APIRouter(route_class=_judging(part))

    @single.post("/events", responses={422: {"model": Refused}})
    async def post_event(event: Event, response: Response) -> Accepted | Refused:
        """Keep one rating or watch event. The same id again changes nothing and is answered as a duplicate."""
        judged = await part.keep(event)
        if isinstance(judged, Refused):
            response.status_code = 422
        return judged

    router.include_router(single)

    @router.post("/events/batch")
    async def post_batch(batch: Batch) -> BatchAnswer:
        """Keep several events, each judged on its own."""
        return await part.batch(batch.events)

    @router.get("/refused")
    async def get_refused(limit: int = Query(20, ge=1, le=100)) -> RefusedEvents:
        """What came by the stream and was set aside."""
        return await part.refused(limit)

    @router.get("/status")
    async def get_status() -> IngestionStatus:
        """Counts since the start, and the length of the log."""
        return await part.status()

    return router
