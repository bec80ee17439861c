"""Node ports on the host: `http://127.0.0.1:30080` reaches the Service whose node port is 30080; and load balancers:
at a Service's own address of the loopback network its own ports are open.

The nodes live in a network of their own, which the host cannot reach. So the supervisor listens on the host's
loopback for each node port and passes connections on to one of the nodes through the backbone.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any, Protocol

from podlab.network.load_balancers import address_of, admits
from podlab.network.relay import Door, MakeSocket, dial_tcp, local_socket
from podlab.network.relay_udp import DatagramDoor
from podlab.network.watching import SERVICES_PATH, Api, Key

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
#: Seconds for one attempt at a node (they are a cable apart), and for which a silent one is asked last.
_ATTEMPT, _AVOID = 1.0, 10.0
#: Seconds between two attempts to get a port that somebody else has.
_RETRY = 15.0

#: Address on the host, protocol and number.
HostPort = tuple[str, str, int]
_KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}


class EventApi(Api, Protocol):
    """An Api that can also create objects."""

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]: ...


def openings(service: Mapping[str, Any], host: str = HOST, balancers: IPv4Network | None = None) -> dict[HostPort, int]:
    """What is to be open on the host for a Service, and the node port that each leads to.

    Load balancers have node ports, too, and their own ports at their address among `balancers`.
    """
    spec = service.get("spec", {})
    if spec.get("type") not in ("NodePort", "LoadBalancer"):
        return {}
    address = address_of(service, balancers) if balancers else None
    found: dict[HostPort, int] = {}
    for port in spec.get("ports") or []:
        protocol, number = port.get("protocol", "TCP"), port.get("nodePort")
        if number and protocol in _KINDS:
            found[host, protocol, number] = number
            if address:
                found[address, protocol, port["port"]] = number
    return found


class NodePorts:
    """Keeps one listener on the host per node port. `nodes()` gives the addresses of the nodes that run now.

    `make` makes sockets in the nodes' network (`Backbone.socket`); `balancers` are the addresses of load balancers.
    """

    def __init__(
        self,
        make: MakeSocket,
        nodes: Callable[[], Sequence[str]],
        host: str = HOST,
        balancers: IPv4Network | None = None,
    ) -> None:
        self._make = make
        self._nodes = nodes
        self._host = host
        self._balancers = balancers
        self._wanted: dict[Key, tuple[dict[str, Any], dict[HostPort, int]]] = {}
        self._doors: dict[HostPort, Door | DatagramDoor] = {}
        self._leads: dict[HostPort, int] = {}
        self._refused: dict[HostPort, str] = {}
        self._silent: dict[str, float] = {}
        self._turn = itertools.count()
        self._wake = asyncio.Event()
        #: Set while every wanted port has been opened or refused.
        self.settled = asyncio.Event()

    async def run(self, api: EventApi) -> None:
        """Follow the Services for ever; closes all listeners when cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(api), name="watch of node ports")
                group.create_task(self._keep(api), name="node ports")
        finally:
            await self.close()

    def notes(self) -> list[str]:
        """One sentence for each node port that the host could not give."""
        return [self._sentence(port) for port in sorted(self._refused)]

    def ports(self) -> list[HostPort]:
        """The ports that are open on the host."""
        return sorted(self._doors)

    async def close(self) -> None:
        """Close all listeners and their connections."""
        doors, self._doors = self._doors, {}
        await asyncio.gather(*(door.close() for door in doors.values()))

    async def _follow(self, api: Api) -> None:
        async for event in api.list_and_watch(SERVICES_PATH):
            if event.type == "SYNC":
                continue
            metadata = event.object["metadata"]
            key = (metadata["namespace"], metadata["name"])
            ports = {} if event.type == "DELETED" else openings(event.object, self._host, self._balancers)
            if ports:
                self._wanted[key] = (event.object, ports)
            elif self._wanted.pop(key, None) is None:
                continue
            self.settled.clear()
            self._wake.set()

    async def _keep(self, api: EventApi) -> None:
        while True:
            self._wake.clear()
            await self._arrange(api)
            if not self._wake.is_set():
                self.settled.set()
            try:
                async with asyncio.timeout(_RETRY if self._refused else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _arrange(self, api: EventApi) -> None:
        """Close what is wanted no more, open what is missing."""
        wanted = {port: (service, to) for service, ports in self._wanted.values() for port, to in ports.items()}
        for port in [port for port in self._doors if port not in wanted or wanted[port][1] != self._leads[port]]:
            await self._doors.pop(port).close()
        for port in self._refused.keys() - wanted.keys():
            del self._refused[port]
        for port in wanted.keys() - self._doors.keys():
            try:
                self._doors[port] = await self._open(port, wanted[port][1])
                self._leads[port] = wanted[port][1]
                self._refused.pop(port, None)
            except OSError as error:
                if port not in self._refused:
                    self._refused[port] = os.strerror(error.errno or 0)
                    if error.errno == errno.EADDRINUSE:
                        self._refused[port] = "another program has it"
                    if error.errno == errno.EACCES:
                        self._refused[port] = "ports below 1024 need root on this machine; choose a higher one"
                    log.warning("%s", self._sentence(port))
                    await self._tell(api, wanted[port][0], self._sentence(port))

    async def _open(self, port: HostPort, node_port: int) -> Door | DatagramDoor:
        address, protocol, number = port
        bound = local_socket(socket.AF_INET, _KINDS[protocol])
        name = f"node port {number}/{protocol.lower()}"
        door: Door | DatagramDoor
        try:
            if protocol == "TCP":
                # Without it, a port whose Service was deleted a moment ago could not be had for a minute.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind((address, number))
                door = Door(bound, lambda: self._dial(node_port), name, lambda client: self._admits(port, client))
            else:
                bound.bind((address, number))
                door = DatagramDoor(
                    bound, lambda: self._connect(node_port), name, lambda client: self._admits(port, client)
                )
            await door.start()
        except BaseException:
            bound.close()
            raise
        return door

    def _admits(self, port: HostPort, client: str) -> bool:
        """Whether a client may come in: node ports are open to all, a load balancer to those whom its Service names."""
        services = (service for service, ports in self._wanted.values() if port in ports)
        return port[0] == self._host or all(admits(service, client) for service in services)

    def _order(self) -> list[str]:
        """The nodes in turn, those last that were silent a moment ago."""
        nodes = list(self._nodes())
        if not nodes:
            raise OSError(errno.EHOSTUNREACH, "no node runs")
        first = next(self._turn) % len(nodes)
        now = time.monotonic()
        turned = nodes[first:] + nodes[:first]
        return sorted(turned, key=lambda address: self._silent.get(address, 0.0) > now)

    async def _dial(self, port: int) -> socket.socket:
        """A connection to the port on some node: the next one in turn, the others if it does not answer.

        A node may be cut off, or have no backend and be forbidden to use those of others.
        """
        last: OSError | None = None
        for address in self._order():
            try:
                made = await dial_tcp(self._make, address, port, _ATTEMPT)
            except TimeoutError as error:
                self._silent[address] = time.monotonic() + _AVOID
                last = error
            except OSError as error:
                last = error
            else:
                self._silent.pop(address, None)
                return made
        assert last is not None
        raise last

    def _connect(self, port: int) -> socket.socket:
        made = self._make(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.connect((self._order()[0], port))
        except BaseException:
            made.close()
            raise
        return made

    def _sentence(self, port: HostPort) -> str:
        address, protocol, number = port
        kind = "Node port" if address == self._host else "The load balancer's port"
        why = self._refused[port]
        return f"{kind} {number} ({protocol}) is not open on {address}: {why}. Inside the cluster it works."

    async def _tell(self, api: EventApi, service: Mapping[str, Any], message: str) -> None:
        """Write an Event at the Service, for `kubectl describe`; nothing depends on it."""
        metadata = service["metadata"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name'][:200]}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Service",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata.get("uid", ""),
            },
            "type": "Warning",
            "reason": "HostPortTaken",
            "message": message,
            "source": {"component": "podlab-node-ports"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await api.post(f"/api/v1/namespaces/{metadata['namespace']}/events", event)
        except Exception as error:
            log.debug("the Event could not be written: %s", error)
