"""ConfigMaps and Secrets for pods: read fresh when a pod starts, shared by those who ask at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from podlab.node.api import ApiClient, Forbidden, NotFound, Object
from podlab.waiting import pause_async

Key = tuple[str, str, str]

#: Right after a pod is bound, the node authorizer may not yet know that the node needs its objects (seconds).
AUTHORIZER_LAG = 3.0
#: The CA bundle of the cluster is the same in every namespace and hardly ever changes: as old as this is fresh.
CA_BUNDLE, CA_BUNDLE_AGE = "kube-root-ca.crt", 60.0


@dataclass(slots=True)
class _Entry:
    found: Object | None
    at: float


class ObjectReader:
    """Reads ConfigMaps and Secrets; None stands for one that does not exist.

    A read never returns what was read before it was asked for: callers that come while a read is under way
    share the next one. So a burst of pods costs two reads per object, and no pod sees an outdated object.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._flights: dict[Key, asyncio.Task[Object | None]] = {}
        self._next: dict[Key, asyncio.Task[Object | None]] = {}
        self._kept: dict[Key, _Entry] = {}

    async def read(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object as it is now (kind: configmaps or secrets); ApiError if nobody can say."""
        key = (kind, namespace, name)
        kept = self._kept.get(key)
        if kept and _constant(key, kept):
            return kept.found
        waiting = self._next.get(key)
        if waiting is None:
            flying = self._flights.get(key)
            waiting = asyncio.get_running_loop().create_task(self._fly(key, flying), name=f"read {key}")
            if flying is None:
                self._flights[key] = waiting
            else:
                self._next[key] = waiting
        return await asyncio.shield(waiting)

    async def read_all(self, namespace: str, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Object | None]:
        """Several objects of one namespace, by (kind, name)."""
        pairs = sorted(set(wanted))
        found = await asyncio.gather(*(self.read(kind, namespace, name) for kind, name in pairs))
        return dict(zip(pairs, found, strict=True))

    async def _fly(self, key: Key, before: asyncio.Task[Object | None] | None) -> Object | None:
        if before is not None:
            await asyncio.wait([before])
            self._flights[key] = self._next.pop(key)
        try:
            found = await self._get(key)
            if key[2] == CA_BUNDLE or (found or {}).get("immutable"):
                self._kept[key] = _Entry(found, time.monotonic())
                if len(self._kept) > 1000:
                    self._kept.pop(next(iter(self._kept)))
            return found
        finally:
            if self._flights.get(key) is asyncio.current_task():
                del self._flights[key]

    async def _get(self, key: Key) -> Object | None:
        kind, namespace, name = key
        try:
            return await authorized(lambda: self._api.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}"))
        except NotFound:
            return None


async def authorized(ask: Callable[[], Awaitable[Object]]) -> Object:
    """The answer to a request about a pod's own objects: a refusal is believed only after AUTHORIZER_LAG."""
    deadline = time.monotonic() + AUTHORIZER_LAG
    while True:
        try:
            return await ask()
        except Forbidden:
            if time.monotonic() >= deadline:
                raise
            await pause_async(0.1)


def _constant(key: Key, entry: _Entry) -> bool:
    age = time.monotonic() - entry.at
    return entry.found is not None and key[2] == CA_BUNDLE and age < CA_BUNDLE_AGE


async def service_account_token(api: ApiClient, pod: Object, *, audience: str | None, seconds: int) -> tuple[str, str]:
    """(token, expirationTimestamp) of a token bound to `pod`, by TokenRequest."""
    metadata, spec = pod["metadata"], pod["spec"]
    account = spec.get("serviceAccountName") or "default"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "expirationSeconds": seconds,
            "audiences": [audience] if audience else [],
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }
    path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
    status = (await authorized(lambda: api.post(path, body)))["status"]
    return status["token"], status["expirationTimestamp"]
