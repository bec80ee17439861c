"""The site on services in this process: the real recommender on generated ratings, without broker and network."""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from movies import features as definitions
from movies import training
from movies.clients import Clients
from movies.config import Settings
from movies.contracts import (
    EVENT,
    Accepted,
    BecauseAnswer,
    Catalogue,
    FeaturesAnswer,
    FeaturesStatus,
    HistoryAnswer,
    IngestionStatus,
    ModelAnswer,
    MovieAnswer,
    Rating,
    Recommendations,
    Recommended,
    Refused,
    Row,
    Run,
    Runs,
)
from movies.data import generate
from movies.data.tables import Interactions, Movie
from movies.errors import Unavailable
from movies.recommender import History, Recommender
from movies.ui.part import Ui
from movies.ui.plain import Plain
from movies.web import Site

SIZE = generate.Size.of(2_000)


@functools.cache
def learned() -> tuple[tuple[Movie, ...], Interactions, Recommender]:
    """Movies, ratings and what was learned from them: the same for every test."""
    world = generate.world(SIZE)
    rows = generate.interactions(SIZE, made=world)
    model = training.train(rows, (movie.id for movie in world.movies), as_of=generate.END, evaluate=False)
    return world.movies, rows, Recommender(model)


@dataclass
class House:
    """All four services at once. `trouble`: service -> away or hanging; `events` are those that were accepted."""

    extra: Sequence[Movie] = ()
    trouble: dict[str, str] = field(default_factory=dict)
    events: list[Rating] = field(default_factory=list)
    refusal: Refused | None = None
    calls: list[str] = field(default_factory=list)
    #: Times that the whole catalogue was sent.
    catalogues: int = 0
    #: Calls that somebody waited for in vain.
    given_up: int = 0

    def __post_init__(self) -> None:
        movies, self.rows, self.recommender = learned()
        self.movies = [*movies, *self.extra]
        self.genres = {movie.id: movie.genres for movie in self.movies}

    async def works(self, service: str) -> None:
        """Return if the service is well; else as its trouble wants."""
        self.calls.append(service)
        match self.trouble.get(service):
            case "away":
                raise Unavailable(f"{service} cannot be reached")
            case "hanging":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.given_up += 1

    def of(self, user: int) -> Interactions:
        """All rows of a user, collapsed."""
        new = [event for event in self.events if event.user == user]
        mine = Interactions.of(
            [user] * len(new), [one.movie for one in new], [one.stars for one in new], [np.nan] * len(new),
            [int(time.time())] * len(new),
        )  # fmt: skip
        return definitions.collapse(Interactions.join([self.rows.take(self.rows.user == user), mine]))


class _Service:
    def __init__(self, house: House) -> None:
        self.house = house

    def unready(self) -> str | None:
        """As its trouble wants."""
        return self.house.trouble.get(type(self).__name__.lower())


class Ingestion(_Service):
    """Keeps ratings in a list."""

    async def accept(self, event: Mapping[str, Any]) -> Accepted | Refused:
        await self.house.works("ingestion")
        if self.house.refusal:
            return self.house.refusal
        one = EVENT.validate_python(event)
        assert isinstance(one, Rating)
        known = [number for number, old in enumerate(self.house.events, 1) if old.id == one.id]
        if not known:
            self.house.events.append(one)
        return Accepted(id=one.id, position=known[0] if known else len(self.house.events), duplicate=bool(known))

    async def status(self) -> IngestionStatus:
        await self.house.works("ingestion")
        count = len(self.house.events)
        return IngestionStatus(accepted=count, duplicates=0, refused=0, position=count, movies=len(self.house.movies))


class Features(_Service):
    """Answers from the rows."""

    async def history(self, user: int, at_least: int = 0) -> HistoryAnswer:
        await self.house.works("features")
        mine = self.house.of(user)
        order = np.argsort(-mine.at, kind="stable")
        rows = [
            Row(
                movie=int(mine.movie[one]),
                stars=None if np.isnan(mine.stars[one]) else float(mine.stars[one]),
                watched=None if np.isnan(mine.watched[one]) else float(mine.watched[one]),
                at=int(mine.at[one]),
            )
            for one in order
        ]
        return HistoryAnswer(user=user, position=len(self.house.events), rows=rows)

    async def features(self, user: int, as_of: int | None = None) -> FeaturesAnswer:
        await self.house.works("features")
        moment = as_of or int(time.time()) + 1
        found = definitions.user_features(user, self.house.of(user), self.house.genres, moment)
        return FeaturesAnswer(**{name: getattr(found, name) for name in FeaturesAnswer.model_fields})

    async def movies(self, known: str = "") -> Catalogue | None:
        await self.house.works("features")
        version = f"{len(self.house.movies)}"
        if known == version:
            return None
        self.house.catalogues += 1
        return Catalogue(
            version=version,
            movies=[
                MovieAnswer(
                    id=one.id, title=one.title, year=one.year, genres=list(one.genres), about=one.about,
                    released=one.released,
                )
                for one in self.house.movies
            ],
        )  # fmt: skip

    async def status(self) -> FeaturesStatus:
        await self.house.works("features")
        return FeaturesStatus(events=len(self.house.rows), users=SIZE.users, position=7, behind=3)


class Training(_Service):
    """Has run once."""

    async def runs(self) -> Runs:
        await self.house.works("training")
        run = Run(number=4, started_at=time.time() - 190, seconds=2.5, state="published", version="abc", gain=1.62)
        return Runs(runs=[run])


class Serving(_Service):
    """The real recommender."""

    def _answer(self, user: int | None, basis: Any, found: Any) -> Recommendations:
        items = [
            Recommended(
                movie=one.movie,
                score=one.score,
                because=[BecauseAnswer(movie=why.movie, share=why.share) for why in one.because],
            )
            for one in found
        ]
        return Recommendations(user=user, basis=basis, model="abc", items=items)

    async def recommendations(self, user: int, n: int = 10, at_least: int = 0) -> Recommendations:
        await self.house.works("serving")
        mine = self.house.of(user)
        basis, found = self.house.recommender.recommend(user, History(mine.movie, mine.stars, mine.watched), n)
        return self._answer(user, basis, found)

    async def similar(self, movie: int, n: int = 10) -> Recommendations:
        await self.house.works("serving")
        return self._answer(None, "similar", self.house.recommender.similar(movie, n))

    async def popular(self, n: int = 10) -> Recommendations:
        await self.house.works("serving")
        return self._answer(None, "popular", self.house.recommender.popular(n))

    async def model(self) -> ModelAnswer:
        await self.house.works("serving")
        describe = self.house.recommender.model.describe()
        return ModelAnswer(version="abc", loaded_at=time.time() - 60, reloads=2, refused=None, describe=describe)


def site(house: House, **settings: Any) -> tuple[Site, Ui, Plain]:
    """The site of a house: the frame, the part, and the application around both."""
    chosen = Settings(**settings)
    ui = Ui(chosen, Clients(Ingestion(house), Features(house), Training(house), Serving(house)))  # type: ignore[arg-type]
    frame = Site("ui", [("", ui)], chosen)
    return frame, ui, Plain(frame.app)


class Visit:
    """A browser without a screen: `async with Visit(house) as visit: await visit.get("/")`."""

    def __init__(self, house: House, **settings: Any) -> None:
        self.frame, self.ui, self.app = site(house, **settings)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://site", headers={"Accept": "text/html"},
            follow_redirects=True,
        )  # fmt: skip

    async def __aenter__(self) -> Visit:
        await self.frame.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self.frame.stop()

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """A page."""
        return await self.client.get(path, **options)

    async def rate(self, movie: int, stars: str, user: str = "3", **options: Any) -> httpx.Response:
        """Fill in the form of a movie and send it."""
        form = await self.get(f"/movies/{movie}")
        match = re.search(r'name="nonce" value="(\w+)"', form.text)
        assert match, form.text
        data = {"user": user, "stars": stars, "nonce": match[1]}
        return await self.client.post(f"/movies/{movie}/rating", data=data, **options)
