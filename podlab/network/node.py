"""Everything that one node's agent does for the network: Services, DNS, network policies, host ports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from podlab.network.dns import ClusterDns, asking
from podlab.network.health_checks import HealthChecks
from podlab.network.host_ports import HostPorts
from podlab.network.netfilter import NetfilterError
from podlab.network.policy_guard import PolicyGuard
from podlab.network.proxy import RETRY, ServiceProxy
from podlab.network.watching import Api, ServiceTable
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
#: What a node's network may read, beside what every kube-proxy may.
RULES: list[dict[str, list[str]]] = [
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"]},
]
ZONE_LABEL = "topology.kubernetes.io/zone"


class Configuration(Protocol):
    """The part of podlab.node.configuration.NodeConfiguration that is used here."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def dns_service(self) -> str: ...

    @property
    def cluster_domain(self) -> str: ...

    @property
    def outside(self) -> str: ...

    @property
    def resolver(self) -> Sequence[Any]: ...

    @property
    def labels(self) -> Mapping[str, str]: ...


class NodeNetwork:
    """The service proxy and the DNS of a node over one shared watch; network policies and host ports of its pods.

        network = NodeNetwork(ApiClient(..., proxy_certificate, proxy_key), configuration)
        await network.run()          # for ever; cancel it to stop. The kernel's rules stay.

    `api` must be allowed to list and watch Services and EndpointSlices (`system:kube-proxy` is), and network
    policies, pods and namespaces (RULES).
    """

    def __init__(self, api: Api, configuration: Configuration) -> None:
        self._api = api
        self.table = ServiceTable()
        self.proxy = ServiceProxy(
            self.table, configuration.name, configuration.address, zone=configuration.labels.get(ZONE_LABEL)
        )
        self.health_checks = HealthChecks(self.table, configuration.name, configuration.address)
        self.guard = PolicyGuard(api, configuration.name)
        self.host_ports = HostPorts(configuration.address)
        self.dns = ClusterDns(
            self.table,
            address=configuration.dns_service,
            domain=configuration.cluster_domain,
            ask=asking(configuration.outside, configuration.resolver),
        )

    async def run(self) -> None:
        """Serve until cancelled. What cannot be had (the DNS's port, a packet filter) is logged and tried again.

        Each part works without the other: headless Services need no rules, addresses need no DNS.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.table.run(self._api), name="watch of services")
                group.create_task(_until_it_works(self.dns.start, "the cluster's DNS"), name="start of DNS")
                group.create_task(_until_it_works(self.proxy.run, "the service proxy"), name="service proxy")
                group.create_task(_until_it_works(self.guard.run, "network policy"), name="network policies")
                group.create_task(self.health_checks.run(), name="health checks of services")
        finally:
            await self.dns.close()

    def adopt(self, pod: Object, address: str) -> None:
        """Take in a pod that was found running; `settle` makes it count."""
        self.guard.adopt(pod, address)
        self.host_ports.take(pod, address)

    async def settle(self) -> None:
        """Put what is known of adopted pods in the place of what an earlier agent had written."""
        try:
            await self.host_ports.write()
        except NetfilterError as error:
            log.error("host ports: %s", error)

    async def pod_up(self, pod: Object, address: str) -> None:
        """Do what has to be done before a pod with `address` starts; NetfilterError if it has to wait."""
        if self.host_ports.take(pod, address):
            await self.host_ports.write()
        await self.guard.place(pod, address)

    async def pod_down(self, uid: str) -> None:
        """Forget a pod, whose address will be another's."""
        self.guard.forget(uid)
        if self.host_ports.drop(uid):
            await self.settle()


async def _until_it_works(action: Callable[[], Awaitable[None]], what: str) -> None:
    said = ""
    while True:
        try:
            await action()
            return
        except (OSError, NetfilterError) as error:
            if str(error) != said:
                said = str(error)
                log.error("%s does not run on this node: %s", what, said)
            await pause_async(RETRY)
