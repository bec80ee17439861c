"""Which parts make a service: one of them with clients of the others, or all of them side by side."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

import httpx
from fastapi import APIRouter

from movies import bus as buses
from movies.bus import Bus
from movies.clients import Clients, remote
from movies.config import Settings
from movies.services.features import Features
from movies.services.ingestion import Ingestion
from movies.services.serving import Serving
from movies.services.training import Training
from movies.web import Part, Site

#: The parts that can run alone; "monolith" is all of them in one process.
PARTS = ("ingestion", "features", "training", "serving", "ui")
SERVICES = (*PARTS, "monolith")
#: A snapshot of all interactions takes longer than an answer to somebody who waits.
_TRAINING_PATIENCE = 120.0


class _Broker:
    """The bus as the first part to be started and the last to be stopped."""

    name = "broker"

    def __init__(self, bus: Bus) -> None:
        self.router = APIRouter()
        self._bus = bus

    async def start(self) -> None:
        await self._bus.open()

    async def stop(self) -> None:
        await self._bus.close()

    def unready(self) -> str | None:
        return None  # whoever cannot work without it says so


def site(name: str, settings: Settings, stack: AsyncExitStack) -> Site:
    """The service of a name; what it holds open is closed with the stack."""
    if name not in SERVICES:
        raise ValueError(f"There is no service {name}: there are {', '.join(SERVICES)}.")
    http = httpx.AsyncClient(
        # Shorter than what our servers keep an idle connection for, so that they seldom close one in use.
        limits=httpx.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=2.0),
        timeout=None,
        trust_env=False,
    )
    stack.push_async_callback(http.aclose)
    clients = remote(name, settings, http)
    if name == "ui":
        return _for_people(Site(name, [("", _ui(settings, clients))], settings))
    bus = buses.connect(
        settings.broker, stream_bytes=settings.stream_bytes, duplicate_seconds=settings.duplicate_seconds
    )
    if name == "monolith":
        return _for_people(Site(name, [("", _Broker(bus)), *_monolith(settings, bus)], settings))
    patient = remote(name, settings, http, patience=_TRAINING_PATIENCE)
    makers: dict[str, Callable[[], Part]] = {
        "ingestion": lambda: Ingestion(settings, bus),
        "features": lambda: Features(settings, bus),
        "training": lambda: Training(settings, bus, patient.features),
        "serving": lambda: Serving(settings, bus, clients.features),
    }
    return Site(name, [("", _Broker(bus)), ("", makers[name]())], settings)


def _monolith(settings: Settings, bus: Bus) -> list[tuple[str, Part]]:
    """All parts; what they ask each other are calls of functions."""
    ingestion, features = Ingestion(settings, bus), Features(settings, bus)
    training, serving = Training(settings, bus, features), Serving(settings, bus, features)
    parts: list[Part] = [ingestion, features, training, serving]
    made = [(f"/{part.name}", part) for part in parts]
    return [*made, ("", _ui(settings, Clients(ingestion, features, training, serving)))]


def _ui(settings: Settings, clients: Clients) -> Part:
    from movies.ui import Ui  # its templates are of no use to the other services

    return Ui(settings, clients)


def _for_people(made: Site) -> Site:
    """With problems as pages for those who ask for pages."""
    from movies.ui import Plain

    made.app = Plain(made.app)
    return made
