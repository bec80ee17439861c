"""What a node knows of the cluster's Services and EndpointSlices: one watch of each, shared by proxy and DNS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from podlab.network.services import SERVICE_NAME_LABEL

log = logging.getLogger(__name__)

Object = dict[str, Any]
#: Namespace and name of a Service.
Key = tuple[str, str]

SERVICES_PATH = "/api/v1/services"
SLICES_PATH = "/apis/discovery.k8s.io/v1/endpointslices"


class Event(Protocol):
    """One change: ADDED, MODIFIED, DELETED, or SYNC when a whole list has been given."""

    @property
    def type(self) -> str: ...

    @property
    def object(self) -> Object: ...


class Api(Protocol):
    """The part of podlab.node.api.ApiClient that is used here."""

    def list_and_watch(self, path: str) -> AsyncIterator[Event]: ...


class ServiceTable:
    """Services and their EndpointSlices, kept up to date by `run`. Subscribers are told which Service changed."""

    def __init__(self) -> None:
        self.services: dict[Key, Object] = {}
        self._slices: dict[Key, dict[str, Object]] = {}
        #: Which Service a slice belonged to when last seen: its deletion may not say.
        self._owner: dict[Key, Key] = {}
        self._waiting = {SERVICES_PATH, SLICES_PATH}
        self.synced = asyncio.Event()
        self._subscribers: list[Callable[[Key], None]] = []

    def subscribe(self, changed: Callable[[Key], None]) -> None:
        """Call `changed(key)` for each Service that changes or whose endpoints do, and once for each known."""
        self._subscribers.append(changed)
        for key in self.services:
            changed(key)

    def slices(self, key: Key) -> list[Object]:
        """The EndpointSlices of a Service."""
        return list(self._slices.get(key, {}).values())

    def apply(self, path: str, event: Event) -> None:
        """Take in one event of the watch of `path`."""
        if event.type == "SYNC":
            self._waiting.discard(path)
            if not self._waiting:
                self.synced.set()
            return
        changed = self._service(event) if path == SERVICES_PATH else self._slice(event)
        for key in changed:
            for subscriber in self._subscribers:
                try:
                    subscriber(key)
                except Exception:
                    # One odd object must not cost the node its view of all the others.
                    log.exception("a change of the Service %s/%s could not be taken in", *key)

    async def run(self, api: Api) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            for path in sorted(self._waiting):
                group.create_task(self._follow(api, path), name=f"watch {path}")

    async def _follow(self, api: Api, path: str) -> None:
        async for event in api.list_and_watch(path):
            self.apply(path, event)

    def _service(self, event: Event) -> set[Key]:
        key = _key(event.object)
        if event.type == "DELETED":
            self.services.pop(key, None)
        else:
            self.services[key] = event.object
        return {key}

    def _slice(self, event: Event) -> set[Key]:
        own = _key(event.object)
        before = self._owner.pop(own, None)
        if before:
            kept = self._slices[before]
            del kept[own[1]]
            if not kept:
                del self._slices[before]
        changed = {before} if before else set()
        name = (event.object["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL)
        if event.type != "DELETED" and name:
            owner = (own[0], name)
            self._owner[own] = owner
            self._slices.setdefault(owner, {})[own[1]] = event.object
            changed.add(owner)
        return changed


def _key(made: Mapping[str, Any]) -> Key:
    return made["metadata"]["namespace"], made["metadata"]["name"]
