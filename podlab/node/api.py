"""A client of the Kubernetes API for a node's own processes: plain dicts over aiohttp, nothing cached.

The official client adds models and conversions that the hot path of a node does not want.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from podlab.errors import PodlabError
from podlab.waiting import pause_async

Object = dict[str, Any]

PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}
#: Seconds for one ordinary request. aiohttp's own default is five minutes, in which a node is long dead.
REQUEST_TIMEOUT = 15.0
#: A healthy watch carries a bookmark about once a minute; silence for longer means a dead connection.
WATCH_SILENCE = 150.0
#: Seconds until the kernel gives up a connection whose peer no longer acknowledges (Linux TCP_USER_TIMEOUT).
UNACKNOWLEDGED = 12.0
#: Bytes that asyncio keeps to read into for each TLS connection, for as long as it lasts. By itself it takes 256 KiB,
#: and a node has a dozen connections, most of which wait for something to happen.
SSLProtocol.max_size = 64 << 10
#: Pauses after a failed list or watch: doubled from the first to the longest, with jitter.
RETRY_FIRST, RETRY_LONGEST = 0.1, 5.0


class ApiError(PodlabError):
    """The API server refused a request, or could not be reached (`status` 0). `reason` is the API's own word."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "", details: Object | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.details = details or {}


class Unreachable(ApiError):
    """No answer: connection refused, broken or timed out."""


class NotFound(ApiError):
    """404: the object does not exist."""


class Conflict(ApiError):
    """409: a precondition failed, or another writer was quicker."""


class AlreadyExists(Conflict):
    """409: an object of that name exists."""


class Forbidden(ApiError):
    """401 or 403: this identity may not do that."""


class Gone(ApiError):
    """410: the resource version is too old; list again."""


class Invalid(ApiError):
    """400 or 422: the API server does not accept the object."""


_ERRORS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
}


@dataclass(frozen=True, slots=True)
class Event:
    """One change. SYNC says that a whole list has been given; its object is `{"resourceVersion": ...}`."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNC"]
    object: Object


def error_of(method: str, path: str, status: int, text: str) -> ApiError:
    """The typed error for an answer with `status` >= 300 and body `text`."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    reason = answer.get("reason") or ""
    message = answer.get("message") or text.strip()[:400] or f"HTTP status {status}"
    kind = AlreadyExists if reason == "AlreadyExists" else _ERRORS.get(status, ApiError)
    return kind(message, status=status, reason=reason, details={"method": method, "path": path, **answer})


def _socket(address: Any) -> socket.socket:
    """A socket on which a silent peer is noticed in seconds, not in the kernel's default quarter of an hour."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKNOWLEDGED * 1000))
    return made


class ApiClient:
    """One identity at one API server. Paths begin with `/api` or `/apis`; bodies and answers are dicts.

    `ca`, `certificate` and `key` are paths of PEM files. Close it when done, inside the same event loop.
    """

    def __init__(self, server: str, ca: str, certificate: str, key: str, *, connections: int = 16) -> None:
        self.server = server.rstrip("/")
        self._tls = ssl.create_default_context(cafile=ca)
        self._tls.load_cert_chain(certificate, key)
        self._connections = connections
        self._short: aiohttp.ClientSession | None = None
        self._long: aiohttp.ClientSession | None = None

    async def get(self, path: str, *, query: Mapping[str, str] | None = None, **options: Any) -> Object:
        """Read one object or one list."""
        return await self.request("GET", path, query=query, **options)

    async def post(self, path: str, body: Object, **options: Any) -> Object:
        """Create an object; AlreadyExists if there is one."""
        return await self.request("POST", path, body, **options)

    async def put(self, path: str, body: Object, **options: Any) -> Object:
        """Replace an object; Conflict if its resourceVersion is not the newest."""
        return await self.request("PUT", path, body, **options)

    async def patch(
        self,
        path: str,
        body: Object | list[Object],
        *,
        kind: Literal["merge", "strategic", "json"] = "merge",
        **options: Any,
    ) -> Object:
        """Patch an object. A merge patch replaces lists whole, a strategic one merges them by their keys."""
        return await self.request("PATCH", path, body, content_type=PATCH_TYPES[kind], **options)

    async def delete(self, path: str, body: Object | None = None, **options: Any) -> Object:
        """Delete an object; `body` is DeleteOptions."""
        return await self.request("DELETE", path, body, **options)

    async def request(
        self,
        method: str,
        path: str,
        body: Object | list[Object] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout: float = REQUEST_TIMEOUT,
        urgent: bool = False,
    ) -> Object:
        """Send one request and return the decoded answer; raises a subclass of ApiError.

        An `urgent` one does not wait behind others for a free connection.
        """
        try:
            async with self._session_for(urgent).request(
                method,
                self.server + path,
                params=query,
                data=None if body is None else json.dumps(body, separators=(",", ":")).encode(),
                headers={"Content-Type": content_type, "Accept": "application/json"},
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                text = await response.text()
                if response.status >= 300:
                    raise error_of(method, path, response.status, text)
                return json.loads(text) if text else {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            what = str(error) or type(error).__name__
            raise Unreachable(f"{method} {path} got no answer from {self.server}: {what}.") from error

    async def list_and_watch(
        self,
        path: str,
        *,
        field_selector: str | None = None,
        label_selector: str | None = None,
    ) -> AsyncIterator[Event]:
        """Every object as ADDED, then SYNC, then changes, for ever; after any break the same again.

        After a break only what differs is given: unknown objects as ADDED, changed ones as MODIFIED, vanished
        ones as DELETED (with their last metadata alone), then SYNC. `managedFields` are left out throughout.
        Errors are logged nowhere and retried with a pause: a node outlives its API server.
        """
        selectors = {"fieldSelector": field_selector, "labelSelector": label_selector}
        query = {name: value for name, value in selectors.items() if value}
        known: dict[str, Object] = {}
        pause = RETRY_FIRST
        while True:
            try:
                version, events = self._difference(known, await self._list(path, query))
                for event in events:
                    yield event
                yield Event("SYNC", {"resourceVersion": version})
                pause = RETRY_FIRST
                async for event in self._watch(path, query, version):
                    metadata = event.object["metadata"]
                    if event.type == "DELETED":
                        known.pop(metadata["uid"], None)
                    else:
                        known[metadata["uid"]] = metadata
                    yield event
            except (ApiError, aiohttp.ClientError, OSError, ValueError, TimeoutError):
                pass
            await pause_async(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, RETRY_LONGEST)

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._short, self._long):
            if session:
                await session.close()
        self._short = self._long = None

    def _session_for(self, urgent: bool) -> aiohttp.ClientSession:
        """The session with a limited number of connections, or the one for heartbeats and watches, without."""
        if urgent:
            self._long = self._long or self._session(0)
            return self._long
        self._short = self._short or self._session(self._connections)
        return self._short

    def _session(self, limit: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=self._tls, limit=limit, socket_factory=_socket, keepalive_timeout=30, use_dns_cache=False
        )
        return aiohttp.ClientSession(connector=connector, auto_decompress=True)

    async def _list(self, path: str, query: Mapping[str, str]) -> Object:
        answer = await self.get(path, query=query, timeout=60)
        kind = answer.get("kind", "").removesuffix("List")
        for item in answer.get("items") or []:
            # Members of a list carry neither; a watch's objects do.
            item.setdefault("kind", kind)
            item.setdefault("apiVersion", answer.get("apiVersion"))
            item["metadata"].pop("managedFields", None)
        return answer

    @staticmethod
    def _difference(known: dict[str, Object], answer: Object) -> tuple[str, list[Event]]:
        """The resource version of a list, and how it differs from `known` (UID -> metadata), which it updates."""
        events: list[Event] = []
        listed: set[str] = set()
        for item in answer.get("items") or []:
            metadata = item["metadata"]
            listed.add(metadata["uid"])
            before = known.get(metadata["uid"])
            known[metadata["uid"]] = metadata
            if before is None:
                events.append(Event("ADDED", item))
            elif before["resourceVersion"] != metadata["resourceVersion"]:
                events.append(Event("MODIFIED", item))
        vanished = [Event("DELETED", {"metadata": known.pop(uid)}) for uid in list(known) if uid not in listed]
        # A successor of the same name may have been listed: its predecessor must go first.
        return answer["metadata"]["resourceVersion"], vanished + events

    async def _watch(self, path: str, query: Mapping[str, str], version: str) -> AsyncIterator[Event]:
        query = {**query, "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=WATCH_SILENCE)
        async with self._session_for(True).get(
            self.server + path, params=query, timeout=timeout, headers={"Accept": "application/json"}
        ) as response:
            if response.status >= 300:
                raise error_of("WATCH", path, response.status, await response.text())
            async for line in _lines(response.content):
                event = json.loads(line)
                changed = event["object"]
                if event["type"] == "BOOKMARK":
                    continue
                if event["type"] == "ERROR":
                    raise error_of("WATCH", path, changed.get("code", 500), json.dumps(changed))
                changed["metadata"].pop("managedFields", None)
                yield Event(event["type"], changed)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a stream, of any length (aiohttp's own iterator refuses long ones)."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        rest += chunk
        if b"\n" in chunk:
            *lines, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            for line in lines:
                if line:
                    yield line
