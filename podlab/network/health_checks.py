"""Where a node says whether it has endpoints of a Service (`healthCheckNodePort`): what load balancers before it ask.

Only Services of type LoadBalancer with externalTrafficPolicy Local have such a port. The answer is kube-proxy's: status
200 or 503, and the number of ready endpoints on this node (k8s.io/kubernetes/pkg/proxy/healthcheck).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterable

from podlab.network.relay import Listener, MakeSocket, local_socket
from podlab.network.watching import Key, Object, ServiceTable
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Seconds after which a port that could not be had is tried again, and that a client may take to ask.
RETRY, PATIENCE = 2.0, 5.0
#: Bytes of a request's head, and connections to one port at a time.
_HEAD_MAX, _CONNECTIONS_MAX = 8192, 64


def port_of(service: Object | None) -> int:
    """The port of a Service's health check, 0 if it has none."""
    spec = (service or {}).get("spec") or {}
    asked = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    return (spec.get("healthCheckNodePort") or 0) if asked else 0


def ready_here(slices: Iterable[Object], node: str) -> int:
    """How many endpoints in a Service's slices are on this node and ready: those that only still serve do not count."""
    found = set()
    for each in slices:
        for endpoint in each.get("endpoints") or ():
            if endpoint.get("nodeName") == node and (endpoint.get("conditions") or {}).get("ready") is not False:
                found.update(endpoint["addresses"][:1])
    return len(found)


def answer(key: Key, count: int) -> bytes:
    """The whole HTTP answer for a Service with so many endpoints on this node."""
    service = {"namespace": key[0], "name": key[1]}
    body = json.dumps({"service": service, "localEndpoints": count, "serviceProxyHealthy": True}, indent=1).encode()
    head = (
        f"HTTP/1.1 {'200 OK' if count else '503 Service Unavailable'}",
        "Content-Type: application/json",
        "X-Content-Type-Options: nosniff",
        f"X-Load-Balancing-Endpoint-Weight: {count}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join([*head, "", ""]).encode() + body


class HealthChecks:
    """The health checks of one node, called `node`, at its `address`, for the Services of a table."""

    def __init__(self, table: ServiceTable, node: str, address: str, *, make: MakeSocket = local_socket) -> None:
        self._table, self._node, self._address, self._make = table, node, address, make
        self._open: dict[Key, tuple[int, Listener]] = {}
        self._changed: set[Key] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Answer until cancelled."""
        self._table.subscribe(self._look)
        try:
            await self._table.synced.wait()
            while True:
                self._wake.clear()
                await self._synchronise()
                if self._changed:
                    await pause_async(RETRY)
                else:
                    await self._wake.wait()
        finally:
            for key in list(self._open):
                await self._close(key)

    def _look(self, key: Key) -> None:
        if self._open.get(key, (0,))[0] != port_of(self._table.services.get(key)):
            self._changed.add(key)
            self._wake.set()

    async def _synchronise(self) -> None:
        """Close what is not asked for any more, then open what is; what could not be opened stays to be done."""
        changed, self._changed = self._changed, set()
        wanted = {key: port_of(self._table.services.get(key)) for key in changed}
        for key in changed & self._open.keys():
            await self._close(key)
        for key, port in wanted.items():
            if not port:
                continue
            try:
                await self._serve(key, port)
            except OSError as error:
                log.warning("the health check of %s/%s cannot have port %d: %s", *key, port, error)
                self._changed.add(key)

    async def _serve(self, key: Key, port: int) -> None:
        made = self._make(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((self._address, port))
            listener = Listener(made, lambda connection: self._answer(key, connection), "health check")
            await listener.start()
        except OSError:
            made.close()
            raise
        self._open[key] = port, listener

    async def _close(self, key: Key) -> None:
        _, listener = self._open.pop(key)
        await listener.close()

    async def _answer(self, key: Key, connection: socket.socket) -> None:
        loop, head = asyncio.get_running_loop(), b""
        with connection:
            if key not in self._open or self._open[key][1].connections > _CONNECTIONS_MAX:
                return
            try:
                async with asyncio.timeout(PATIENCE):
                    while b"\r\n\r\n" not in head and len(head) < _HEAD_MAX:
                        piece = await loop.sock_recv(connection, _HEAD_MAX)
                        if not piece:
                            return
                        head += piece
                    count = ready_here(self._table.slices(key), self._node)
                    await loop.sock_sendall(connection, answer(key, count))
            except (OSError, TimeoutError):
                return
