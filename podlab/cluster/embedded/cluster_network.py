"""The supervisor's part of the network: the backbone, the control plane's doors in it, egress, and node ports."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from podlab.network import addresses
from podlab.network.backbone import Backbone
from podlab.network.egress import ConnectServer, dial_outside, dialer, serve_connect
from podlab.network.load_balancers import LoadBalancers, pool
from podlab.network.node_ports import NodePorts
from podlab.network.plain import PlainBackbone
from podlab.network.relay import Door, dial_tcp, local_socket
from podlab.node.api import ApiClient
from podlab.waiting import pause_async

log = logging.getLogger(__name__)


class ClusterNetwork:
    """Made once per supervisor. `ports` are those of the control plane on this host's loopback, by component.

    `nodes` (live) gives node addresses by name for the egress proxy.
    """

    def __init__(
        self,
        backbone: Backbone | PlainBackbone,
        ports: Mapping[str, int],
        egress: Path,
        outside: Path,
        nodes: Mapping[str, str],
    ) -> None:
        self.backbone = backbone
        self._ports = ports
        self._egress_path, self._outside_path = egress, outside
        self._nodes = nodes
        self._doors: list[Door] = []
        self._egress: ConnectServer | None = None
        self._outside: ConnectServer | None = None
        self._node_ports: NodePorts | None = None
        self._balancers = pool(ports["kube-apiserver"])
        self._following: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Make the backbone, open the control plane's doors in it, the egress proxy and the agents' way outside."""
        self.backbone.start()
        for component, number in addresses.DOORS.items():
            listening = self.backbone.socket(socket.AF_INET, socket.SOCK_STREAM)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((addresses.BACKBONE, number))
            dial = partial(dial_tcp, local_socket, "127.0.0.1", self._ports[component])
            self._doors.append(Door(listening, dial, f"door to {component}"))
            await self._doors[-1].start()
        self._egress = await serve_connect(self._egress_path, dialer(self.backbone.socket, self._nodes))
        self._outside = await serve_connect(self._outside_path, dial_outside)

    def open_node_ports(self, api: ApiClient, nodes: Callable[[], Sequence[str]]) -> None:
        """Serve the cluster's node ports on this host's loopback from now on; owns `api`.

        `nodes()` gives the addresses of the nodes that can be asked now.
        """
        self._node_ports = ports = NodePorts(self.backbone.socket, nodes, balancers=self._balancers)
        self._follow("node ports", lambda: ports.run(api), api)

    def serve_load_balancers(self, api: ApiClient) -> None:
        """Give Services of the type LoadBalancer their addresses from now on; owns `api`."""
        self._follow("load balancers", LoadBalancers(api, self._balancers).run, api)

    def _follow(self, what: str, work: Callable[[], Awaitable[None]], api: ApiClient) -> None:
        self._following.append(asyncio.create_task(_for_ever(what, work, api), name=what))

    def notes(self) -> list[str]:
        """What is out of the ordinary, in words."""
        return self._node_ports.notes() if self._node_ports else []

    async def stop(self) -> None:
        """Close the doors and end the backbone."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        for server in (self._egress, self._outside, *self._doors):
            if server:
                await server.close()
        self.backbone.stop()


async def _for_ever(what: str, work: Callable[[], Awaitable[None]], api: ApiClient) -> None:
    """Run it for ever: a mistake in it must not cost the cluster its node ports."""
    try:
        while True:
            try:
                await work()
            except Exception:
                log.exception("%s", what)
            await pause_async(1.0)
    finally:
        await api.close()
