"""From Services and EndpointSlices to where each port of each Service leads, seen from one node. Pure.

The rules are kube-proxy's: https://kubernetes.io/docs/reference/networking/virtual-ips/ and KEP-1669 (terminating
endpoints), KEP-2086 (internal traffic policy), KEP-4444 and KEP-3015 (traffic distribution).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import AddressValueError, IPv4Address
from typing import Any

Object = Mapping[str, Any]

#: Labels with which a Service asks other proxies than ours to serve it.
_FOREIGN_LABELS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
_AFFINITY_SECONDS = 10800
_PROTOCOLS = ("TCP", "UDP")


class Refusal(Enum):
    """What happens to a connection that leads nowhere."""

    #: The Service has no endpoint at all: the client is told at once.
    REJECT = "reject"
    #: There are endpoints, but the traffic policy keeps this node from using them: silence.
    DROP = "drop"


@dataclass(frozen=True, order=True)
class Backend:
    """One address and port behind a Service; `local`: on this node."""

    address: str
    port: int
    local: bool = False


#: Where connections go: backends with equal chances, or nowhere.
Target = tuple[Backend, ...] | Refusal


@dataclass(frozen=True)
class ServicePort:
    """One port of a Service and its targets by the origin of a connection.

    `internal` is for connections to the cluster IP, `external` for those to a node port or an external
    address, `cluster` for external ones that come from pods or the node itself (they know no policy).
    """

    namespace: str
    service: str
    name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int
    external_ips: tuple[str, ...]
    affinity: int | None
    internal: Target
    external: Target
    cluster: Target
    external_local: bool

    @property
    def title(self) -> str:
        """A name that is unique in a cluster: `namespace/service/tcp/port`."""
        return f"{self.namespace}/{self.service}/{self.protocol.lower()}/{self.name or self.port}"


@dataclass(frozen=True)
class _Endpoint:
    backend: Backend
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str]
    nodes: frozenset[str]


def is_proxied(service: Object) -> bool:
    """Whether a service proxy has anything to do for a Service: it has a cluster IP and is not for others."""
    spec = service.get("spec", {})
    labels = service["metadata"].get("labels") or {}
    if spec.get("type") == "ExternalName" or any(label in labels for label in _FOREIGN_LABELS):
        return False
    return is_ipv4(spec.get("clusterIP"))


def is_ipv4(text: object) -> bool:
    """Whether `text` is an IPv4 address in the usual notation."""
    try:
        IPv4Address(text if isinstance(text, str) else "")
    except (AddressValueError, ValueError):
        return False
    return True


def service_ports(service: Object, slices: Iterable[Object], node: str, zone: str | None = None) -> list[ServicePort]:
    """The ports of one Service, given its own EndpointSlices, as the node called `node` sees them."""
    if not is_proxied(service):
        return []
    listed = list(slices)
    spec = service["spec"]
    made = []
    for port in spec.get("ports") or []:
        if port.get("protocol", "TCP") in _PROTOCOLS:
            endpoints = _endpoints(listed, port.get("name") or "", port.get("protocol", "TCP"), node)
            made.append(_service_port(service, port, endpoints, node, zone))
    return made


def _service_port(
    service: Object, port: Object, endpoints: Sequence[_Endpoint], node: str, zone: str | None
) -> ServicePort:
    spec = service["spec"]
    cluster, local, any_usable = targets(endpoints, node, zone)
    none: Target = Refusal.DROP if any_usable else Refusal.REJECT
    external_local = spec.get("externalTrafficPolicy") == "Local"
    internal_local = spec.get("internalTrafficPolicy") == "Local"
    return ServicePort(
        namespace=service["metadata"]["namespace"],
        service=service["metadata"]["name"],
        name=port.get("name") or "",
        protocol=port.get("protocol", "TCP"),
        cluster_ip=spec["clusterIP"],
        port=port["port"],
        node_port=port.get("nodePort") or 0,
        external_ips=_external_ips(service),
        affinity=_affinity(spec),
        internal=(local if internal_local else cluster) or none,
        external=(local if external_local else cluster) or none,
        cluster=cluster or none,
        external_local=external_local,
    )


def _affinity(spec: Object) -> int | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    configured = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    return configured or _AFFINITY_SECONDS


def _external_ips(service: Object) -> tuple[str, ...]:
    """External addresses, and those of load balancers that want the node to answer for them (mode VIP)."""
    found = dict.fromkeys(service["spec"].get("externalIPs") or [])
    if service["spec"].get("type") == "LoadBalancer":
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        found.update(dict.fromkeys(each["ip"] for each in ingress if each.get("ip") and each.get("ipMode") != "Proxy"))
    return tuple(address for address in found if is_ipv4(address))


def targets(
    endpoints: Sequence[_Endpoint], node: str, zone: str | None
) -> tuple[tuple[Backend, ...], tuple[Backend, ...], bool]:
    """(backends of the whole cluster, those on this node, whether the Service has any usable one anywhere).

    Ready endpoints are used; where there is none, those which still serve while they terminate.
    """
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    leaving = [endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating]
    local = [each for each in ready if each.backend.local] or [each for each in leaving if each.backend.local]
    cluster = _preferred(ready, node, zone) or leaving
    return _backends(cluster), _backends(local), bool(ready or leaving)


def _backends(endpoints: Iterable[_Endpoint]) -> tuple[Backend, ...]:
    return tuple(sorted({endpoint.backend for endpoint in endpoints}))


def _preferred(ready: list[_Endpoint], node: str, zone: str | None) -> list[_Endpoint]:
    """The endpoints that hints give to this node or zone; all, where a hint is missing or none is for us."""
    if ready and all(endpoint.nodes for endpoint in ready):
        near = [endpoint for endpoint in ready if node in endpoint.nodes]
        if near:
            return near
    if ready and zone and all(endpoint.zones for endpoint in ready):
        near = [endpoint for endpoint in ready if zone in endpoint.zones]
        if near:
            return near
    return ready


def _endpoints(slices: Iterable[Object], name: str, protocol: str, node: str) -> list[_Endpoint]:
    """The endpoints of the port called `name`; one that stands in two slices counts once."""
    found: dict[tuple[str, int], _Endpoint] = {}
    for each in slices:
        if each.get("addressType") != "IPv4":
            continue
        for port in each.get("ports") or []:
            same = (port.get("name") or "") == name and port.get("protocol", "TCP") == protocol
            if not same or not port.get("port"):
                continue
            for endpoint in each.get("endpoints") or []:
                made = _endpoint(endpoint, port["port"], node)
                if made is None:
                    continue
                key = (made.backend.address, made.backend.port)
                # While an endpoint moves between slices it may be seen in both; the usable view of it wins.
                if key not in found or made.ready > found[key].ready:
                    found[key] = made
    return list(found.values())


def _endpoint(endpoint: Object, port: int, node: str) -> _Endpoint | None:
    addresses = endpoint.get("addresses") or []
    if not addresses or not is_ipv4(addresses[0]):
        return None
    conditions = endpoint.get("conditions") or {}
    hints = endpoint.get("hints") or {}
    return _Endpoint(
        backend=Backend(addresses[0], port, endpoint.get("nodeName") == node),
        # Unknown counts as ready and serving, as the API says.
        ready=conditions.get("ready") is not False,
        serving=conditions.get("serving", conditions.get("ready")) is not False,
        terminating=conditions.get("terminating") is True,
        zones=frozenset(each["name"] for each in hints.get("forZones") or []),
        nodes=frozenset(each["name"] for each in hints.get("forNodes") or []),
    )
