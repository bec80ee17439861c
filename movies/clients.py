"""What the services can be asked, as types. In a monolith the parts themselves answer, else these clients by HTTP.

All methods raise movies.errors.Unavailable if there is no good answer in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from movies import snapshot
from movies.calls import Peer
from movies.config import Settings
from movies.contracts import (
    Accepted,
    Catalogue,
    FeaturesAnswer,
    FeaturesStatus,
    HistoryAnswer,
    IngestionStatus,
    ModelAnswer,
    Recommendations,
    Refused,
    RefusedEvents,
    Run,
    Runs,
)
from movies.data.tables import Interactions

T = TypeVar("T", bound=BaseModel)
_JUDGED: TypeAdapter[Accepted | Refused] = TypeAdapter(Accepted | Refused)


class Ingestion(Protocol):
    """Takes events in."""

    async def accept(self, event: Mapping[str, Any]) -> Accepted | Refused:
        """Judge an event (see movies.contracts.Rating and Watch) and keep it; harmless to repeat."""

    async def refused(self, limit: int = 20) -> RefusedEvents:
        """What was set aside."""

    async def status(self) -> IngestionStatus:
        """Counts of an instance."""


class Features(Protocol):
    """Knows what users did, and the movies."""

    async def history(self, user: int, at_least: int = 0) -> HistoryAnswer:
        """What a user did, with all events up to a position in it."""

    async def features(self, user: int, as_of: int | None = None) -> FeaturesAnswer:
        """Features of a user before a moment."""

    async def movies(self, known: str = "") -> Catalogue | None:
        """The catalogue; None if its version is still the one that is known."""

    async def snapshot(self) -> tuple[Interactions, int]:
        """All rows, and the position up to which they are complete."""

    async def status(self) -> FeaturesStatus:
        """How much is stored."""


class Training(Protocol):
    """Makes models."""

    async def runs(self) -> Runs:
        """The last runs, latest first."""

    async def run(self) -> Run:
        """Begin a run now; the one under way if there is one."""


class Serving(Protocol):
    """Recommends."""

    async def recommendations(self, user: int, n: int = 10, at_least: int = 0) -> Recommendations:
        """What a user should watch."""

    async def similar(self, movie: int, n: int = 10) -> Recommendations:
        """Movies liked by the same people; no items for a movie that the model does not know."""

    async def popular(self, n: int = 10) -> Recommendations:
        """What is liked most of late."""

    async def model(self) -> ModelAnswer:
        """The model in use."""


@dataclass(frozen=True)
class Clients:
    """All that a part may ask. The user interface is `movies.ui.Ui(settings, clients)`, a movies.web.Part."""

    ingestion: Ingestion
    features: Features
    training: Training
    serving: Serving


class _Remote:
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def _get(self, model: type[T], path: str, **parameters: int) -> T:
        return model.model_validate_json((await self.peer.call("GET", path, params=parameters)).content)


class RemoteIngestion(_Remote):
    """Ingestion by HTTP."""

    async def accept(self, event: Mapping[str, Any]) -> Accepted | Refused:
        """POST /events."""
        answer = await self.peer.call("POST", "/events", allowed=(422,), json=dict(event))
        return _JUDGED.validate_json(answer.content)

    async def refused(self, limit: int = 20) -> RefusedEvents:
        """GET /refused."""
        return await self._get(RefusedEvents, "/refused", limit=limit)

    async def status(self) -> IngestionStatus:
        """GET /status."""
        return await self._get(IngestionStatus, "/status")


class RemoteFeatures(_Remote):
    """Features by HTTP."""

    async def history(self, user: int, at_least: int = 0) -> HistoryAnswer:
        """GET /users/{user}/history."""
        return await self._get(HistoryAnswer, f"/users/{user}/history", at_least=at_least)

    async def features(self, user: int, as_of: int | None = None) -> FeaturesAnswer:
        """GET /users/{user}/features."""
        when = {} if as_of is None else {"as_of": as_of}
        return await self._get(FeaturesAnswer, f"/users/{user}/features", **when)

    async def movies(self, known: str = "") -> Catalogue | None:
        """GET /movies, which sends nothing if the known version is the one that it has."""
        answer = await self.peer.call("GET", "/movies", allowed=(304,), headers={"If-None-Match": f'"{known}"'})
        return None if answer.status_code == 304 else Catalogue.model_validate_json(answer.content)

    async def snapshot(self) -> tuple[Interactions, int]:
        """GET /snapshot."""
        answer = await self.peer.call("GET", "/snapshot")
        return snapshot.read(answer.content), int(answer.headers["x-position"])

    async def status(self) -> FeaturesStatus:
        """GET /status."""
        return await self._get(FeaturesStatus, "/status")


class RemoteTraining(_Remote):
    """Training by HTTP."""

    async def runs(self) -> Runs:
        """GET /runs."""
        return await self._get(Runs, "/runs")

    async def run(self) -> Run:
        """POST /runs."""
        return Run.model_validate_json((await self.peer.call("POST", "/runs")).content)


class RemoteServing(_Remote):
    """Serving by HTTP."""

    async def recommendations(self, user: int, n: int = 10, at_least: int = 0) -> Recommendations:
        """GET /users/{user}/recommendations."""
        return await self._get(Recommendations, f"/users/{user}/recommendations", n=n, at_least=at_least)

    async def similar(self, movie: int, n: int = 10) -> Recommendations:
        """GET /movies/{movie}/similar."""
        answer = await self.peer.call("GET", f"/movies/{movie}/similar", allowed=(404,), params={"n": n})
        if answer.status_code == 404:
            return Recommendations(user=None, basis="similar", model="", items=[])
        return Recommendations.model_validate_json(answer.content)

    async def popular(self, n: int = 10) -> Recommendations:
        """GET /popular."""
        return await self._get(Recommendations, "/popular", n=n)

    async def model(self) -> ModelAnswer:
        """GET /model."""
        return await self._get(ModelAnswer, "/model")


def remote(caller: str, settings: Settings, http: httpx.AsyncClient, *, patience: float | None = None) -> Clients:
    """Clients of the services at the settings' addresses; `patience` in seconds in place of the settings'."""

    def peer(name: str, address: str) -> Peer:
        return Peer(caller, name, http, settings.call_seconds if patience is None else patience, address)

    return Clients(
        RemoteIngestion(peer("ingestion", settings.ingestion_url)),
        RemoteFeatures(peer("features", settings.features_url)),
        RemoteTraining(peer("training", settings.training_url)),
        RemoteServing(peer("serving", settings.serving_url)),
    )
