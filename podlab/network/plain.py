"""The network of a machine without network namespaces: addresses are a fiction (fiction.py) over loopback.

What the kernel's packet filter does for other nodes is done by the sockets of clients here, from a table that the
agent of each node writes: Services, node ports and host ports. Network policies cannot be enforced.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from podlab.errors import ClusterError, EnvironmentUnsuitable
from podlab.network import host_ports, services
from podlab.network.dns import Ask, ClusterDns
from podlab.network.fiction import ANY_NODE, Fiction, Tables, entry, socket_class
from podlab.network.health_checks import HealthChecks
from podlab.network.services import Refusal, ServicePort
from podlab.network.watching import Api, Key, ServiceTable
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
#: Seconds for which changes are gathered before the table is written.
DEBOUNCE = 0.03
#: Numbers that a cluster may have in the second byte of its loopback addresses, the first free one is taken.
NUMBERS = range(244, 99, -1)
#: A port of the backbone's address that is held for as long as the cluster runs: who has it has the number.
HELD_PORT = 6442
#: Where a node's DNS listens: port 53 is for the administrator of the machine.
DNS_PORT = 10053

Table = dict[str, list[list[Any]]]


def entries(port: ServicePort, node: str) -> Table:
    """Where one port of a Service leads, as the node with the address `node` sees it."""
    made: Table = {}

    def add(host: str, number: int, target: services.Target) -> None:
        backends = [] if isinstance(target, Refusal) else [[each.address, each.port] for each in target]
        made[entry(port.protocol, host, number)] = backends
        if port.affinity:
            made[entry(f"sticky {port.protocol}", host, number)] = [[port.affinity]]

    add(port.cluster_ip, port.port, port.internal)
    for address in port.external_ips:
        add(address, port.port, port.external)
    if port.node_port:
        add(node, port.node_port, port.external)
        add(ANY_NODE, port.node_port, port.external)
    return made


class PlainNodeNetwork:
    """Services, DNS and host ports of one node; in the place of podlab.network.node.NodeNetwork."""

    def __init__(
        self, api: Api, name: str, address: str, path: Path, *, dns: str, domain: str, zone: str | None, ask: Ask | None
    ) -> None:
        self._api, self._name, self._address, self._path, self._zone = api, name, address, path, zone
        self.table = ServiceTable()
        self.dns = ClusterDns(self.table, address=dns, domain=domain, ask=ask)
        self.health_checks = HealthChecks(self.table, name, address)
        self._services: dict[Key, Table] = {}
        self._host_ports: dict[str, Table] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        self.table.subscribe(self._changed)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.table.run(self._api), name="watch of services")
                group.create_task(self.dns.start(), name="start of DNS")
                group.create_task(self._keep(), name="table of services")
                group.create_task(self.health_checks.run(), name="health checks of services")
        finally:
            await self.dns.close()

    async def _keep(self) -> None:
        await self.table.synced.wait()
        while True:
            self._wake.clear()
            self.write()
            await self._wake.wait()
            await pause_async(DEBOUNCE)

    def write(self) -> None:
        """Replace the table that sockets read."""
        whole: Table = {}
        for part in (*self._services.values(), *self._host_ports.values()):
            whole |= part
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(whole))
        new.replace(self._path)

    def _changed(self, key: Key) -> None:
        service = self.table.services.get(key)
        self._services[key] = {}
        if service is None:
            del self._services[key]
        else:
            for port in services.service_ports(service, self.table.slices(key), self._name, self._zone):
                self._services[key] |= entries(port, self._address)
        self._wake.set()

    def adopt(self, pod: Object, address: str) -> None:
        """Take in a pod that was found running."""
        self._take(pod, address)

    async def settle(self) -> None:
        """Write what is known of adopted pods."""
        self._wake.set()

    async def pod_up(self, pod: Object, address: str) -> None:
        """Open the host ports of a pod."""
        self._take(pod, address)

    async def pod_down(self, uid: str) -> None:
        """Forget a pod, whose address will be another's."""
        if self._host_ports.pop(uid, None):
            self._wake.set()

    def _take(self, pod: Object, address: str) -> None:
        if pod["spec"].get("hostNetwork"):
            return
        found = host_ports.mappings(pod, address, self._address)
        if found:
            self._host_ports[pod["metadata"]["uid"]] = {
                entry(protocol, host, port): [list(to)] for (host, protocol, port), to in found.items()
            }
            self._wake.set()


class PlainBackbone:
    """The supervisor's sockets into the fiction; in the place of podlab.network.backbone.Backbone.

    `tables()` gives the paths of the nodes' tables.
    """

    def __init__(self, tables: Callable[[], Sequence[str]]) -> None:
        self._tables = tables
        self._held: socket.socket | None = None
        self._class: type[socket.socket] = socket.socket
        #: The cluster's number, from `start` on.
        self.loopback = 0

    def start(self) -> None:
        """Take a number that no other cluster of this machine has."""
        for number in NUMBERS:
            held = socket.socket()
            try:
                held.bind((f"127.{number}.0.1", HELD_PORT))
            except OSError as error:
                held.close()
                if error.errno == errno.EADDRINUSE:
                    continue
                raise EnvironmentUnsuitable(
                    f"No socket can be bound to 127.{number}.0.1: {error.strerror}.",
                    hint="The plain runtime needs the whole loopback network 127.0.0.0/8, as Linux has it.",
                ) from error
            self._held, self.loopback = held, number
            self._class = socket_class(socket.socket, Fiction(number, tables=Tables(self._tables)))
            return
        raise EnvironmentUnsuitable("Every number for a cluster is taken.", hint="`podlab cluster list` shows yours.")

    def socket(self, family: int, kind: int) -> socket.socket:
        """A new non-blocking socket that knows the cluster's addresses."""
        return self._class(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def attach(self, name: str, index: int, machine_pid: int) -> None:
        """Nothing to connect: every node is on this machine's loopback."""

    def detach(self, name: str) -> None:
        """Nothing to disconnect."""

    def set_link(self, name: str, up: bool) -> None:
        """There is no cable to pull."""
        if not up:
            raise ClusterError(
                f"{name} cannot be isolated: the plain runtime has no network of its own.",
                hint="Pause or kill the node instead, or use the sandbox runtime or kind.",
            )

    def stop(self) -> None:
        """Give the number back."""
        if self._held:
            self._held.close()
            self._held = None


def fixed(loopback: int, index: int, dns: str) -> list[list[Any]]:
    """Places with a translation of their own on node `index`: its DNS."""
    return [[dns, 53, f"127.{loopback}.0.{10 + index}", DNS_PORT]]
