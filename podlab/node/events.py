"""Events about pods and the node: aggregated as upstream does, sent from a bounded queue, never waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from podlab.node.api import ApiClient, ApiError, NotFound, Object, Unreachable
from podlab.node.clock import timestamp
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

Key = TypeVar("Key")
Value = TypeVar("Value")

#: Events waiting to be sent; when more come, the oldest are dropped (they are a courtesy, not a record).
QUEUE = 1000
#: Different events remembered for counting, as in client-go's event cache.
REMEMBERED = 4096
#: Characters of a message.
LONGEST = 1024
#: So many different messages about the same thing within so many seconds become one event (client-go).
SIMILAR, SIMILAR_WITHIN = 10, 600.0
COMBINED = "(combined from similar events): "
#: Tokens of the spam filter per object and source: a burst, then one per so many seconds (client-go).
BURST, REFILL = 25, 300.0


@dataclass(slots=True)
class _Known:
    """An event that was sent: its name at the API server, and how often it happened."""

    name: str
    first: str
    count: int = 1


@dataclass(slots=True)
class _Similar:
    """The messages of events that are the same but for these, and when the last one came."""

    messages: set[str] = field(default_factory=set)
    at: float = 0.0

    def too_many(self, message: str, now: float) -> bool:
        """Take in one more; whether it is to be combined with the others."""
        if abs(now - self.at) > SIMILAR_WITHIN:
            self.messages.clear()
        self.at = now
        self.messages.add(message)
        if len(self.messages) < SIMILAR:
            return False
        self.messages.pop()
        return True


@dataclass(slots=True)
class _Bucket:
    tokens: float = BURST
    at: float = field(default=0.0)

    def take(self, now: float) -> bool:
        if self.at:
            self.tokens = min(BURST, self.tokens + max(0.0, now - self.at) / REFILL)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def reference(pod: Mapping[str, Any], container: Mapping[str, Any] | None = None) -> Object:
    """The involvedObject of a pod, or of one of its containers (by `fieldPath`)."""
    metadata = pod["metadata"]
    found = {
        "kind": "Pod",
        "apiVersion": "v1",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata.get("resourceVersion", ""),
    }
    if container is not None:
        for key in ("containers", "initContainers", "ephemeralContainers"):
            if any(other["name"] == container["name"] for other in pod["spec"].get(key) or ()):
                found["fieldPath"] = f"spec.{key}{{{container['name']}}}"
                break
    return found


class EventRecorder:
    """Sends events in the background. `record` never blocks and never fails."""

    def __init__(self, api: ApiClient, host: str, component: str = "kubelet") -> None:
        self._api = api
        self._source = {"component": component, "host": host}
        self._queue: deque[tuple[Object, str, str, str, float]] = deque(maxlen=QUEUE)
        self._wake = asyncio.Event()
        self._known: OrderedDict[tuple[str, ...], _Known] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._serial = 0

    def record(self, involved: Object, kind: str, reason: str, message: str) -> None:
        """Note an event; `kind` is Normal or Warning, `message` is cut as upstream does."""
        self._queue.append((involved, kind, reason, message[:LONGEST], time.time()))
        self._wake.set()

    def pod(
        self,
        pod: Mapping[str, Any],
        kind: str,
        reason: str,
        message: str,
        container: Mapping[str, Any] | None = None,
    ) -> None:
        """Note an event about a pod or one of its containers."""
        self.record(reference(pod, container), kind, reason, message)

    async def run(self) -> None:
        """Send what is recorded, one at a time, until cancelled."""
        while True:
            while self._queue:
                waiting = self._queue.popleft()
                involved, at = waiting[0], waiting[-1]
                if _remembered(self._buckets, involved.get("uid") or involved["name"], _Bucket).take(at):
                    await self._deliver(*waiting)
            self._wake.clear()
            if not self._queue:
                await self._wake.wait()

    async def _deliver(self, involved: Object, kind: str, reason: str, message: str, at: float) -> None:
        """Send an event, again while the API server is away; one that it refuses is dropped."""
        alike = (involved.get("uid", ""), involved.get("fieldPath", ""), kind, reason)
        key: tuple[str, ...] = (*alike, message)
        if _remembered(self._similar, alike, _Similar).too_many(message, at):
            key, message = alike, (COMBINED + message)[:LONGEST]
        while True:
            try:
                await self._send(key, involved, kind, reason, message, at)
                return
            except Unreachable:
                await pause_async(1.0)
            except ApiError as error:
                if isinstance(error, NotFound) and not involved.get("namespace"):
                    # A node is there before the namespace of its Events, which comes a moment after the API server.
                    await pause_async(1.0)
                    continue
                # A namespace that is ending refuses new events; that is its normal course.
                log.debug("event %s refused: %s", reason, error)
                return

    async def _send(
        self, key: tuple[str, ...], involved: Object, kind: str, reason: str, message: str, at: float
    ) -> None:
        """Write an event, or count and date one with the same `key` that was written before."""
        namespace = involved.get("namespace") or "default"
        path = f"/api/v1/namespaces/{namespace}/events"
        now = timestamp(at)
        known = self._known.get(key)
        if known:
            try:
                body = {"count": known.count + 1, "lastTimestamp": now, "message": message}
                await self._api.patch(f"{path}/{known.name}", body, kind="strategic")
                known.count += 1
                self._known.move_to_end(key)
                return
            except NotFound:
                del self._known[key]  # expired after an hour: it begins anew
        self._serial += 1
        name = f"{involved['name'][:200]}.{int(at * 1e9) + self._serial:x}"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "type": kind,
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source["host"],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._api.post(path, event)
        self._known[key] = _Known(name, now)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def _remembered(known: OrderedDict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """What is known under `key`, made if need be; what was not asked for longest goes when there is too much."""
    if key not in known:
        known[key] = make()
    known.move_to_end(key)
    if len(known) > REMEMBERED:
        known.popitem(last=False)
    return known[key]
