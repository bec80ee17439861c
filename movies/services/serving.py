"""Answers what somebody should watch, from the model in use and what the user did up to now."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException, Query
from prometheus_client import Counter, Gauge

from movies import models
from movies.background import Background
from movies.bus import Bus
from movies.clients import Features
from movies.config import Settings
from movies.contracts import (
    BecauseAnswer,
    HistoryAnswer,
    Id,
    ModelAnswer,
    Position,
    Problem,
    Recommendations,
    Recommended,
)
from movies.errors import ModelRefused, Unavailable
from movies.recommender import History, Recommendation, Recommender
from movies.web import PROBLEMS

_log = logging.getLogger(__name__)
#: Seconds until a model that was refused is read again: training may have put it there anew, under the same name.
_AGAIN = 10.0

Wanted = Annotated[int, Query(ge=1, le=100)]

BASIS = Counter("movies_recommendations_total", "Recommendations by what they rest on.", ("basis",))
LOADS = Counter("movies_model_loads_total", "Models that were loaded or refused.", ("outcome",))
AS_OF = Gauge("movies_model_as_of_seconds", "Time of the last event that the model in use knows.")


@dataclass(frozen=True)
class _Loaded:
    recommender: Recommender
    version: str
    at: float


class Serving:
    """A movies.web.Part, and a movies.clients.Serving."""

    name = "serving"

    def __init__(
        self, settings: Settings, bus: Bus, features: Features, clock: Callable[[], float] = time.time
    ) -> None:
        self._bus, self._features, self._clock = bus, features, clock
        self._loaded: _Loaded | None = None
        self._refused: str | None = None
        self._reloads = 0
        self._watcher = Background("watching for models", self._watch)
        self.router = _router(self)

    async def start(self) -> None:
        """Watch for models; it is ready with the first one."""
        self._watcher.start()

    async def stop(self) -> None:
        """Watch no more."""
        await self._watcher.stop()

    def unready(self) -> str | None:
        """Nothing can be recommended without a model."""
        return None if self._loaded else self._refused or "there is no model yet"

    async def recommendations(self, user: int, n: int = 10, at_least: int = 0) -> Recommendations:
        """Up to `n` movies that the user has not seen, with reasons; if features is away, from the training alone."""
        try:
            history: History | None = _history(await self._features.history(user, at_least))
        except Unavailable as error:
            _log.warning("recommending without the history", extra={"user": user, "reason": str(error)})
            history = None
        loaded = self._model()
        basis, found = loaded.recommender.recommend(user, history, n)
        BASIS.labels(basis).inc()
        return Recommendations(user=user, basis=basis, model=loaded.version, items=_told(found))

    async def similar(self, movie: int, n: int = 10) -> Recommendations:
        """Movies liked by the same people; none for a movie that the model does not know."""
        loaded = self._model()
        found = loaded.recommender.similar(movie, n)
        return Recommendations(user=None, basis="similar", model=loaded.version, items=_told(found))

    async def popular(self, n: int = 10) -> Recommendations:
        """What is liked most of late."""
        loaded = self._model()
        found = loaded.recommender.popular(n)
        return Recommendations(user=None, basis="popular", model=loaded.version, items=_told(found))

    async def model(self) -> ModelAnswer:
        """The model in use."""
        loaded = self._model()
        return ModelAnswer(
            version=loaded.version,
            loaded_at=loaded.at,
            reloads=self._reloads,
            refused=self._refused,
            describe=loaded.recommender.model.describe(),
        )

    def _model(self) -> _Loaded:
        if self._loaded is None:
            raise Unavailable("There is no model yet: training makes one when there is enough data.")
        return self._loaded

    async def _watch(self) -> None:
        try:
            async with asyncio.timeout(None) as limit:
                async for version in self._bus.watch(models.POINTER):
                    limit.reschedule(None)
                    await self._load(version)
                    self._watcher.well()
                    if self._refused:
                        limit.reschedule(asyncio.get_running_loop().time() + _AGAIN)
        except TimeoutError:
            pass  # the watch begins anew, with the model that is pointed at now

    async def _load(self, version: str) -> None:
        """Use a model once it is wholly there and good; until then, and if it is not, the one before serves on."""
        if self._loaded and self._loaded.version == version:
            self._refused = None
            return
        try:
            model = await models.fetch(self._bus, version)
            recommender = await asyncio.to_thread(Recommender, model)
        except ModelRefused as error:
            told = f"model {version} was refused: {error}"
            if told != self._refused:  # else it was read again, and is as it was
                LOADS.labels("refused").inc()
                _log.error("model refused", extra={"version": version, "reason": str(error)})
            self._refused = told
            return
        # One assignment: a request has the old model or the new one, never a part of each.
        self._reloads += self._loaded is not None
        self._loaded, self._refused = _Loaded(recommender, version, self._clock()), None
        LOADS.labels("loaded").inc()
        AS_OF.set(model.as_of)
        _log.info("model loaded", extra={"version": version, "rows": model.rows})


def _history(answer: HistoryAnswer) -> History:
    nan = float("nan")
    return History(
        np.array([row.movie for row in answer.rows], np.int64),
        np.array([nan if row.stars is None else row.stars for row in answer.rows], np.float32),
        np.array([nan if row.watched is None else row.watched for row in answer.rows], np.float32),
    )


def _told(found: Sequence[Recommendation]) -> list[Recommended]:
    return [
        Recommended(
            movie=one.movie,
            score=one.score,
            because=[BecauseAnswer(movie=other.movie, share=other.share) for other in one.because],
        )
        for one in found
    ]


def _router(part: Serving) -> APIRouter:
    router = APIRouter(tags=["serving"], responses=PROBLEMS)

    @router.get("/users/{user}/recommendations")
    async def get_recommendations(user: Id, n: Wanted = 10, at_least: Position = 0) -> Recommendations:
        """What a user should watch; somebody who is not known gets what is popular."""
        return await part.recommendations(user, n, at_least)

    @router.get("/movies/{movie}/similar", responses={404: {"model": Problem}})
    async def get_similar(movie: Id, n: Wanted = 10) -> Recommendations:
        """Movies liked by the same people."""
        found = await part.similar(movie, n)
        if not found.items:
            raise HTTPException(404, f"The model in use knows nothing of movie {movie}.")
        return found

    @router.get("/popular")
    async def get_popular(n: Wanted = 10) -> Recommendations:
        """What is liked most of late."""
        return await part.popular(n)

    @router.get("/model")
    async def get_model() -> ModelAnswer:
        """The model in use, and why the last one was refused, if it was."""
        return await part.model()

    return router
