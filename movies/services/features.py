"""Knows what users did: follows the log into a store, and answers with features, histories and snapshots."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from prometheus_client import Counter, Gauge
from pydantic import ValidationError

from movies import dataset, features, snapshot, telemetry
from movies.background import Background
from movies.bus import EVENTS, Bus, Message
from movies.config import Settings
from movies.contracts import (
    Catalogue,
    FeaturesAnswer,
    FeaturesStatus,
    HistoryAnswer,
    Id,
    MovieAnswer,
    Position,
    StoredEvent,
)
from movies.contracts import Row as HistoryRow
from movies.data.tables import Interactions
from movies.dataset import Dataset
from movies.errors import Unavailable
from movies.store import Row, Store
from movies.web import PROBLEMS

_log = logging.getLogger(__name__)
#: How long a question waits for the events that it wants in the answer.
_PATIENCE = 0.5
#: Of what is wrong with a message of the log: it may be as long as the message.
_SHOWN = 500

POSITION = Gauge("movies_features_position", "Events of the log up to here are in the store.")
POISON = Counter("movies_features_poison_total", "Messages of the log that are no events, and were passed over.")


class Features:
    """A movies.web.Part, and a movies.clients.Features."""

    name = "features"

    def __init__(self, settings: Settings, bus: Bus, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._bus, self._clock = settings, bus, clock
        self._follower = Background("following the log", self._follow)
        self._moved = asyncio.Condition()
        self._store: Store | None = None
        self._position = 0
        self._dataset = Dataset("", (), (), 0)
        self._catalogue = Catalogue(version="", movies=[])
        self._genres: dict[int, tuple[str, ...]] = {}
        self.router = _router(self)

    async def start(self) -> None:
        """Fill the store with the data set if that is not in it, then follow the log."""
        found = await dataset.find(self._bus)
        if found is None:
            raise Unavailable("There are no movies yet: run `python -m movies seed`.")
        self._dataset = found
        self._genres = features.genres_of(found.movies)
        movies = [MovieAnswer(**asdict(movie) | {"genres": list(movie.genres)}) for movie in found.movies]
        self._catalogue = Catalogue(version=found.version, movies=movies)
        if self._store is None:
            self._store = await asyncio.to_thread(Store, self._settings.data / "features.sqlite")
        # A log that is shorter than what was read from it is another log.
        if self.store.dataset != found.version or self.store.position > await self._bus.last(EVENTS):
            _log.info("filling the store", extra={"dataset": found.version, "rows": found.rows})
            await asyncio.to_thread(self.store.restart, found.version, self._blocks(asyncio.get_running_loop()))
        self._position = self.store.position
        POSITION.set(self._position)
        self._follower.start()

    def _blocks(self, loop: asyncio.AbstractEventLoop) -> Iterator[Interactions]:
        """The history a block at a time, for a thread that writes it."""
        blocks = dataset.history(self._bus, self._dataset)

        async def following() -> Interactions | None:
            return await anext(blocks, None)

        while (block := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not None:
            yield block

    async def stop(self) -> None:
        """Stop following and close the store."""
        await self._follower.stop()
        if self._store:
            # Aside, since a thread that fills the store waits for blocks that come over this loop.
            await asyncio.to_thread(self._store.close)
            self._store = None

    def unready(self) -> str | None:
        """What is stored can be told without the broker, but not with a store that cannot be written."""
        return self._follower.trouble

    @property
    def store(self) -> Store:
        """The open store."""
        if self._store is None:
            raise Unavailable("The store is not open.")
        return self._store

    async def history(self, user: int, at_least: int = 0) -> HistoryAnswer:
        """What a user did, a row for each movie, latest first."""
        await self._reach(at_least)
        position = self._position
        rows = features.collapse(self.store.of_user(user))
        order = np.lexsort((rows.movie, -rows.at))
        columns = (rows.movie[order], rows.stars[order], rows.watched[order], rows.at[order])
        told = [
            HistoryRow(movie=movie, stars=_or_none(stars), watched=_or_none(watched), at=at)
            for movie, stars, watched, at in zip(*(column.tolist() for column in columns), strict=True)
        ]
        return HistoryAnswer(user=user, position=position, rows=told)

    async def features(self, user: int, as_of: int | None = None) -> FeaturesAnswer:
        """Features of a user from what happened before a moment; up to now if none is given."""
        moment = int(self._clock()) + 1 if as_of is None else as_of
        found = features.user_features(user, self.store.of_user(user), self._genres, moment)
        return FeaturesAnswer(**asdict(found))

    async def movies(self, known: str = "") -> Catalogue | None:
        """The catalogue; None if its version is still the one that is known."""
        if not self._dataset.version:
            raise Unavailable("It is not known yet which movies there are.")
        return None if known == self._dataset.version else self._catalogue

    async def snapshot(self) -> tuple[Interactions, int]:
        """All rows as they came."""
        return await asyncio.to_thread(self.store.everything)

    async def status(self) -> FeaturesStatus:
        """How much is stored, and how far behind the log it is (as far as the broker can be asked)."""
        try:
            last = await self._bus.last(EVENTS)
        except Unavailable:
            last = self._position
        # Counted when the broker has answered: who is told that nothing is behind is told of all events.
        events, users = self.store.counts()
        behind = max(0, last - self._position)
        return FeaturesStatus(events=events, users=users, position=self._position, behind=behind)

    async def _reach(self, position: int) -> None:
        """Wait a little for an event to come in."""
        if position <= self._position:
            return
        try:
            async with asyncio.timeout(_PATIENCE), self._moved:
                await self._moved.wait_for(lambda: self._position >= position)
        except TimeoutError:
            pass

    async def _follow(self) -> None:
        async for batch in self._bus.follow(EVENTS, self._position):
            if batch:
                rows = [row for row in map(self._row, batch) if row]
                position = batch[-1].position
                await asyncio.to_thread(self.store.add, rows, position)
                async with self._moved:
                    self._position = position
                    self._moved.notify_all()
                POSITION.set(position)
            self._follower.well()

    def _row(self, message: Message) -> Row | None:
        """An event as a row of the store; None, and a line in the log, for what is none."""
        with telemetry.within(telemetry.begin(message.headers.get("traceparent")), self.name):
            try:
                told = StoredEvent.model_validate_json(message.data)
            except ValidationError as error:
                POISON.inc()
                why = str(error)[:_SHOWN]
                _log.error("the log holds what is no event", extra={"position": message.position, "why": why})
                return None
            _log.info("stored", extra={"event": told.id, "position": message.position})
            return told.id, told.user, told.movie, told.stars, told.watched, told.at


def _or_none(value: float) -> float | None:
    return None if value != value else round(value, 4)


def _router(part: Features) -> APIRouter:
    router = APIRouter(tags=["features"], responses=PROBLEMS)

    @router.get("/users/{user}/history")
    async def get_history(user: Id, at_least: Position = 0) -> HistoryAnswer:
        """What a user did, a row for each movie, latest first; nothing is no error."""
        return await part.history(user, at_least)

    @router.get("/users/{user}/features")
    async def get_features(user: Id, as_of: int | None = Query(None, ge=0, le=2**33)) -> FeaturesAnswer:
        """Features of a user from what happened strictly before `as_of` (seconds since 1970)."""
        return await part.features(user, as_of)

    @router.get("/movies", response_model=Catalogue, responses={304: {"description": "as in If-None-Match"}})
    async def get_movies(response: Response, if_none_match: str = Header("")) -> Catalogue | Response:
        """All movies; the ETag is the version of the catalogue."""
        known = if_none_match.strip('"')
        found = await part.movies(known)
        if found is None:
            return Response(status_code=304, headers={"ETag": f'"{known}"'})
        response.headers["ETag"] = f'"{found.version}"'
        return found

    octets: dict[int | str, dict[str, Any]] = {
        200: {"content": {"application/octet-stream": {}}, "description": "an .npz; X-Position: how far"}
    }

    @router.get("/snapshot", response_class=Response, responses=octets)
    async def get_snapshot() -> Response:
        """All rows, for training."""
        rows, position = await part.snapshot()
        told = {"X-Position": str(position)}
        return StreamingResponse(snapshot.pieces(rows), media_type="application/octet-stream", headers=told)

    @router.get("/status")
    async def get_status() -> FeaturesStatus:
        """How much is stored, and how far behind the log it is."""
        return await part.status()

    return router
