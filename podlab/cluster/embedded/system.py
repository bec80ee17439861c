"""All parts of one running cluster, as its supervisor holds them; and their end, in order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from podlab.cluster.embedded import addons
from podlab.cluster.embedded.cluster_network import ClusterNetwork
from podlab.cluster.embedded.components import TABLE
from podlab.cluster.embedded.control_plane import ControlPlane
from podlab.cluster.embedded.nodes import Nodes
from podlab.cluster.embedded.nursery import Nursery
from podlab.cluster.embedded.processes import Kept
from podlab.cluster.embedded.steps import Step
from podlab.cluster.embedded.storage import Provisioner
from podlab.cluster.embedded.usage import usage
from podlab.cluster.provider import ComponentStatus
from podlab.errors import ClusterError
from podlab.network.backbone import Backbone
from podlab.network.plain import PlainBackbone
from podlab.node.api import ApiClient
from podlab.node.metrics_api import MetricsApi


class System:
    """Made once per supervisor around its control plane; starts nothing."""

    def __init__(self, plane: ControlPlane, nursery: Nursery | None) -> None:
        self.plane = plane
        self.nursery = nursery
        self.folder = folder = plane.folder
        self.record = record = plane.record
        self.began = time.time()
        addresses: dict[str, str] = {}
        backbone = PlainBackbone(self._tables) if record.runtime == "plain" else Backbone()
        self.network = ClusterNetwork(
            backbone, record.ports, self.plane.context.egress_socket, folder.outside, addresses
        )
        self.nodes = Nodes(folder, record, self.network.backbone, addresses, nursery)
        self._api: ApiClient | None = None
        self._metrics: MetricsApi | None = None
        self._storage: Provisioner | None = None

    def _tables(self) -> list[str]:
        """The tables of Services that the nodes of the plain runtime write."""
        return [str(node.services) for node in self.nodes.all()]

    @property
    def api(self) -> ApiClient:
        """A client with the administrator's rights, for bring-up and for adding and removing nodes."""
        if self._api is None:
            raise ClusterError("The API server is not up yet.")
        return self._api

    def open_api(self) -> None:
        """Make the client; the certificates must be there."""
        self._api = self._client("admin")

    def open_node_ports(self) -> None:
        """Serve the cluster's node ports on this host's loopback, with kube-proxy's rights; a guarded one has none."""
        if not self.record.guarded:
            self.network.open_node_ports(self._client("kube-proxy"), self._reachable)

    async def serve_load_balancers(self) -> None:
        """Give Services of the type LoadBalancer an address of this host's loopback, with rights for that alone."""
        await addons.register_load_balancers(self.api)
        self.network.serve_load_balancers(self._client("load-balancers"))

    async def serve_metrics(self) -> None:
        """Serve the metrics API with its own rights, then register it; a repetition only registers it again."""
        pki = self.folder.pki
        if self._metrics is None:
            self._metrics = await addons.serve_metrics(self.network.backbone, pki, self._client("metrics-server"))
        await addons.register_metrics(self.api, pki)

    async def serve_storage(self) -> None:
        """Make volumes for claims, with the provisioner's own rights."""
        await addons.register_storage(self.api)
        self._storage = Provisioner(self._client("local-provisioner"), self._root_of)
        self._storage.start()

    def _root_of(self, node: str) -> Path | None:
        """The folder that a node sees as `/` for its own files, if it is one of the cluster's."""
        return self.folder.node(node) / "host" if node in {known.name for known in self.nodes.all()} else None

    async def stop_services(self) -> None:
        """End what the supervisor itself serves."""
        for served in (self._metrics, self._storage):
            if served:
                await served.stop()
        await self.network.stop()

    def _client(self, identity: str) -> ApiClient:
        certificate, key = self.plane.context.certificate, self.plane.context.key
        return ApiClient(self.plane.server, certificate("ca"), certificate(identity), key(identity), connections=4)

    def _reachable(self) -> list[str]:
        return [node.address for node in self.nodes.all() if node.machine.state == "running" and not node.isolated]

    def kept(self) -> list[Kept]:
        """Every process that is kept running."""
        return [
            *self.plane.kept.values(),
            *(kept for node in self.nodes.all() for kept in (node.machine, node.agent)),
        ]

    def status(self) -> list[dict]:
        """Each process as ComponentStatus in plain form; numbers are the supervisor's own."""
        used = {kept.name: usage([kept.pid]) for kept in self.plane.kept.values() if kept.pid}
        for node in self.nodes.all():
            used |= node.usage()
        number = os.getpid()
        resident, cpu = usage([number])
        own = ComponentStatus("supervisor", "running", number, 0, self.began, resident, cpu)
        return [asdict(own), *(asdict(_status(kept, used)) for kept in self.kept())]

    def notes(self) -> list[str]:
        """What is out of the ordinary, in words."""
        nodes = list(self.nodes.all())
        return [
            *(f"{node.name} is isolated: its network cable is out." for node in nodes if node.isolated),
            *(f"{node.name} is slowed: its processes stand still most of the time." for node in nodes if node.slowed),
            *self.network.notes(),
        ]


def _status(kept: Kept, used: Mapping[str, tuple[int, float]]) -> ComponentStatus:
    resident, cpu = used.get(kept.name, (0, 0.0))
    return ComponentStatus(kept.name, kept.state, kept.pid, kept.restarts, kept.since, resident, cpu, kept.message)


async def _end_pods(system: System) -> None:
    """The agents first: an agent would start again what is ended under its eyes. A frozen node is thawed."""
    for node in system.nodes.all():
        await node.fast()
        if node.machine.state == "paused":
            node.resume()
    await asyncio.gather(*(node.agent.stop(5.0) for node in system.nodes.all()))
    await asyncio.gather(*(node.end_pods() for node in system.nodes.all()))
    await asyncio.gather(*(node.machine.stop(0) for node in system.nodes.all()))


async def _end_network(system: System) -> None:
    await system.stop_services()


def _end_component(name: str) -> Step[System]:
    async def end(system: System) -> None:
        # etcd hangs for ever on SIGTERM if a client has not gone; its data survive SIGKILL.
        await system.plane.stop(name, 5.0)

    return Step(f"End {name}", end)


def _in_a_row(steps: list[Step[System]]) -> tuple[Step[System], ...]:
    first, *rest = steps
    before = [first, *rest]
    return (first, *(Step(s.name, s.action, (b.name,)) for b, s in zip(before, rest, strict=False)))


#: Shut-down: pods and nodes, then the control plane in the reverse order of its start, etcd last.
SHUT_DOWN: tuple[Step[System], ...] = _in_a_row(
    [
        Step("End pods and nodes", _end_pods),
        *(_end_component(component.name) for component in reversed(TABLE)),
        Step("End network", _end_network),
    ]
)
