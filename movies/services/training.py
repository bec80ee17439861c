"""Makes models: when there is news, on a schedule, or when asked to; one at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from fastapi import APIRouter
from prometheus_client import Counter, Histogram

from movies import dataset, models, training
from movies.background import Background
from movies.bus import Bus
from movies.clients import Features
from movies.config import Settings
from movies.contracts import Run, Runs
from movies.data.tables import Interactions
from movies.errors import ModelRefused, MoviesError, NotEnoughData, Unavailable
from movies.training import Model, Recipe
from movies.web import PROBLEMS

_log = logging.getLogger(__name__)
_KEPT = 50
_LOOK = 1.0
#: After a run whose failure says nothing of its rows, until the next one begins by itself.
_REST = 10.0

RUNS = Counter("movies_training_runs_total", "Training runs by their outcome.", ("state",))
SECONDS = Histogram("movies_training_seconds", "Time of a training run.", buckets=(0.5, 1, 2, 5, 10, 30, 60, 300))


class Training:
    """A movies.web.Part, and a movies.clients.Training."""

    name = "training"

    def __init__(
        self, settings: Settings, bus: Bus, features: Features, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._bus, self._features, self._clock = settings, bus, features, clock
        self._runs: deque[Run] = deque(maxlen=_KEPT)
        self._number = 0
        self._asked = asyncio.Event()
        self._begun = asyncio.Condition()
        self._movies: list[int] = []
        #: Rows that the last run was made of, and whether there is a model.
        self._rows, self._trained = 0, False
        self._last_began = 0.0
        self._rests_until = 0.0
        self._work = Background("training", self._train_for_ever)
        self.router = _router(self)

    async def start(self) -> None:
        """Learn which movies there are and what the model in use was made of."""
        found = await dataset.find(self._bus)
        if found is None:
            raise Unavailable("There are no movies yet: run `python -m movies seed`.")
        self._movies = [movie.id for movie in found.movies]
        try:
            model = await models.current(self._bus)
        except (ModelRefused, Unavailable) as error:
            _log.warning("the model in use is no good", extra={"reason": str(error)})
            model = None
        self._rows, self._trained = (model.rows, True) if model else (0, False)
        self._last_began = self._clock()
        self._work.start()

    async def stop(self) -> None:
        """Let go; a run under way publishes nothing."""
        await self._work.stop()

    def unready(self) -> str | None:
        """It is ready when it can be asked."""
        return None

    async def runs(self) -> Runs:
        """The last runs, latest first."""
        return Runs(runs=list(self._runs))

    async def run(self) -> Run:
        """The run under way, or one that begins now."""
        if not self._under_way():
            number = self._number
            self._asked.set()
            async with self._begun:
                await self._begun.wait_for(lambda: self._number > number)
        return self._runs[0]

    def _under_way(self) -> bool:
        return bool(self._runs) and self._runs[0].state == "running"

    async def _train_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK):
                    await self._asked.wait()
            except TimeoutError:
                pass
            if self._asked.is_set() or await self._due():
                self._asked.clear()
                await self._train()
            self._work.well()

    async def _due(self) -> bool:
        """Whether there is enough that is new, or it is time."""
        if time.monotonic() < self._rests_until:
            return False
        every, after = self._settings.train_every, self._settings.train_after
        if every and self._clock() - self._last_began >= every:
            return True
        if self._trained and not after:
            return False
        try:
            events = (await self._features.status()).events
        except Unavailable as error:
            _log.info("features cannot be asked", extra={"reason": str(error)})
            return False
        return events - self._rows >= (after if self._trained else 1)

    async def _train(self) -> None:
        run = await self._begin()
        began, known, again = time.perf_counter(), self._rows, False
        try:
            rows, _ = await self._features.snapshot()
            self._rows = len(rows)  # what cannot be trained on is not tried again before there is news
            model = await asyncio.to_thread(train_on, rows, self._movies)
            ended = _ended(run, model, *await models.publish(self._bus, model))
            self._trained = True
        except MoviesError as error:
            ended, again = _failed(run, str(error)), not isinstance(error, NotEnoughData)
        except Exception as error:
            _log.exception("training failed")
            ended, again = _failed(run, f"An error of the program: {error!r}"), True
        if again:
            # The rows are not at fault, but who was away, or had no memory left, may stay so for long.
            self._rows, self._rests_until = known, time.monotonic() + _REST
        seconds = time.perf_counter() - began
        self._runs[0] = ended = ended.model_copy(update={"seconds": round(seconds, 3)})
        RUNS.labels(ended.state).inc()
        SECONDS.observe(seconds)
        level = logging.WARNING if ended.state == "failed" else logging.INFO
        _log.log(level, "training", extra=ended.model_dump(exclude={"started_at"}))

    async def _begin(self) -> Run:
        async with self._begun:
            self._number += 1
            self._last_began = self._clock()
            run = Run(number=self._number, started_at=self._last_began, state="running")
            self._runs.appendleft(run)
            self._begun.notify_all()
        return run


def train_on(rows: Interactions, movies: list[int], recipe: Recipe | None = None) -> Model:
    """A model of all rows: the same rows give the same model, to the byte. NotEnoughData if there are too few."""
    if not len(rows):
        raise NotEnoughData("There is nothing to train on: not one interaction is stored.")
    return training.train(rows, movies, recipe=recipe, as_of=int(rows.at.max()) + 1)


def _failed(run: Run, detail: str) -> Run:
    return run.model_copy(update={"state": "failed", "detail": detail})


def _ended(run: Run, model: Model, state: str, version: str) -> Run:
    return run.model_copy(
        update={
            "state": state,
            "version": version,
            "detail": f"{model.rows} rows, {len(model.users)} users, {len(model.movies)} movies",
            "gain": round(model.evaluation.gain, 3) if model.evaluation else None,
        }
    )


def _router(part: Training) -> APIRouter:
    router = APIRouter(tags=["training"], responses=PROBLEMS)

    @router.get("/runs")
    async def get_runs() -> Runs:
        """The last runs, latest first."""
        return await part.runs()

    @router.post("/runs", status_code=202)
    async def post_run() -> Run:
        """Begin a run now; if one is under way, that one."""
        return await part.run()

    return router
