"""Parts of the recommender side by side on a file bus, as in the monolith, with few data; and clients over ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from movies import dataset
from movies.bus.files import FileBus
from movies.config import Settings
from movies.data import generate
from movies.data.tables import Interactions, Movie
from movies.services import features as features_service
from movies.services.features import Features
from movies.services.ingestion import Ingestion
from movies.services.serving import Serving
from movies.services.training import Training
from movies.web import Site

#: The clock of the parts: the second after the last generated event.
NOW = generate.END + 1
SIZE = generate.Size(2_000, 40, 120)


@cache
def data() -> tuple[tuple[Movie, ...], Interactions]:
    """Movies 1 to 120 and some 3,000 interactions of users 1 to 40."""
    world = generate.world(SIZE, 1)
    return world.movies, generate.interactions(SIZE, 1, world)


@dataclass
class Parts:
    """All services of one bus."""

    settings: Settings
    bus: FileBus
    ingestion: Ingestion
    features: Features
    training: Training
    serving: Serving

    @asynccontextmanager
    async def http(self, name: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
        """A client of one service through its guard, without a socket."""
        site = Site(name, [("", getattr(self, name))], replace(self.settings, **settings))
        site.state.starting = None
        transport = httpx.ASGITransport(site.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@asynccontextmanager
async def parts(
    folder: Path, *, history: Interactions | None = None, start: bool = True, **settings: Any
) -> AsyncIterator[Parts]:
    """Parts on a bus in `folder`, seeded with the data above; training runs only when asked to."""
    told = replace(Settings(), data=folder, train_after=10**9, **settings)
    bus = FileBus(folder / "bus", told.stream_bytes)
    await bus.open()
    movies, rows = data()
    await dataset.publish(bus, movies, [rows if history is None else history])
    features = Features(told, bus, lambda: NOW)
    made = Parts(
        told,
        bus,
        Ingestion(told, bus, lambda: NOW),
        features,
        Training(told, bus, features),
        Serving(told, bus, features),
    )
    patience, features_service._PATIENCE = features_service._PATIENCE, 60  # a busy machine is no failure
    everyone = (made.ingestion, made.features, made.training, made.serving)
    try:
        if start:
            for part in everyone:
                await part.start()
        yield made
    finally:
        features_service._PATIENCE = patience
        for part in reversed(everyone):
            await part.stop()
        await bus.close()


def rating(id: str = "e-1", **more: Any) -> dict[str, Any]:
    """A well-formed rating event."""
    return {"id": id, "kind": "rating", "user": 7, "movie": 3, "stars": 4.5} | more
