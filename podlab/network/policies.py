"""From NetworkPolicies to what the pods of one node may receive and send. Pure.

The semantics: https://kubernetes.io/docs/concepts/services-networking/network-policies/. Where that leaves a choice:
pods of the host network are neither selected nor peers, a named port of an ipBlock matches nothing, and the DNS of
the nodes counts as the pod `k8s-app=kube-dns` of the namespace kube-system, where other clusters have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Any

from podlab.network import addresses
from podlab.network.services import is_ipv4

Object = Mapping[str, Any]

INGRESS, EGRESS = "ingress", "egress"
_TERMINAL = ("Succeeded", "Failed")
#: Protocols whose ports can be named in a policy, and their numbers in IP.
PROTOCOLS: Mapping[str, int] = {"TCP": 6, "UDP": 17, "SCTP": 132}
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class PodPort:
    """A port that a pod declares with a name."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True)
class PodFact:
    """What policies have to know of a pod that has an address of its own; `local`: it is on this node."""

    namespace: str
    labels: tuple[tuple[str, str], ...]
    address: str
    local: bool
    ports: tuple[PodPort, ...] = ()


#: Address, protocol and port of a destination.
Location = tuple[str, str, int]


@dataclass(frozen=True)
class Block:
    """A range of addresses and the ranges in it that are left out."""

    network: str
    excepted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ports:
    """The destination ports from `first` to `last` of a protocol."""

    protocol: str
    first: int = 0
    last: int = _HIGHEST_PORT

    @property
    def all(self) -> bool:
        """Whether every port of the protocol is meant."""
        return self.first == 0 and self.last == _HIGHEST_PORT


@dataclass(frozen=True)
class Allowance:
    """One rule of a policy: traffic with one of the peers, at one of the ports or named locations.

    `anyone`: every peer; `anything`: every port and protocol. The locations of an egress rule say the peer, too.
    """

    anyone: bool = False
    pods: frozenset[str] = frozenset()
    blocks: tuple[Block, ...] = ()
    anything: bool = False
    ports: tuple[Ports, ...] = ()
    locations: frozenset[Location] = frozenset()


@dataclass(frozen=True)
class Restriction:
    """One direction of one policy: it isolates the local pods with these addresses, but for the allowances."""

    uid: str
    title: str
    direction: str
    pods: frozenset[str]
    allowances: tuple[Allowance, ...]


#: What stands for the DNS that every node serves itself.
DNS_POD = PodFact(
    "kube-system",
    (("k8s-app", "kube-dns"),),
    addresses.DNS_SERVICE,
    local=False,
    ports=(PodPort("dns", "UDP", 53), PodPort("dns-tcp", "TCP", 53)),
)


def pod_fact(pod: Object, node: str, address: str | None = None) -> PodFact | None:
    """What policies have to know of a pod; None if it has no address of its own (any more).

    `address` is the one that this node has given it, before the API server knows.
    """
    spec, status = pod.get("spec", {}), pod.get("status") or {}
    address = address or status.get("podIP")
    if spec.get("hostNetwork") or status.get("phase") in _TERMINAL or not is_ipv4(address):
        return None
    ports = [
        PodPort(port["name"], port.get("protocol", "TCP"), port["containerPort"])
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
        for port in container.get("ports") or ()
        if port.get("name")
    ]
    labels = tuple(sorted((pod["metadata"].get("labels") or {}).items()))
    return PodFact(pod["metadata"]["namespace"], labels, str(address), spec.get("nodeName") == node, tuple(ports))


def selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; one without any condition matches everything, None nothing."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False


def restrictions(
    policies: Iterable[Object], pods: Iterable[PodFact], namespaces: Mapping[str, Mapping[str, str]]
) -> list[Restriction]:
    """What the policies forbid the local pods among `pods`; `namespaces` gives the labels of each by name."""
    known = [*pods, DNS_POD]
    made: list[Restriction] = []
    for policy in policies:
        spec, metadata = policy.get("spec") or {}, policy["metadata"]
        namespace = metadata["namespace"]
        selected = [
            pod
            for pod in known
            if pod.local and pod.namespace == namespace and selects(spec.get("podSelector") or {}, dict(pod.labels))
        ]
        if not selected:
            continue
        for direction in _directions(spec):
            rules = spec.get(direction) or ()
            allowances = tuple(_allowance(rule, direction, namespace, selected, known, namespaces) for rule in rules)
            title = f"{namespace}/{metadata['name']}"
            local = frozenset(pod.address for pod in selected)
            made.append(Restriction(metadata["uid"], title, direction, local, allowances))
    return made


def _directions(spec: Object) -> tuple[str, ...]:
    types = spec.get("policyTypes")
    if types is None:
        types = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return tuple(direction for direction in (INGRESS, EGRESS) if direction.capitalize() in types)


def _allowance(
    rule: Object,
    direction: str,
    namespace: str,
    selected: Sequence[PodFact],
    known: Sequence[PodFact],
    namespaces: Mapping[str, Mapping[str, str]],
) -> Allowance:
    listed = rule.get("from" if direction == INGRESS else "to") or ()
    peers = [pod for pod in known if not listed or any(_is_peer(pod, peer, namespace, namespaces) for peer in listed)]
    ports, names = _ports(rule.get("ports") or ())
    destinations = selected if direction == INGRESS else peers
    return Allowance(
        anyone=not listed,
        pods=frozenset(pod.address for pod in peers) if listed else frozenset(),
        blocks=tuple(block for peer in listed if (block := _block(peer.get("ipBlock")))),
        anything=not rule.get("ports"),
        ports=ports,
        locations=frozenset(
            (pod.address, port.protocol, port.number)
            for pod in destinations
            for port in pod.ports
            if (port.name, port.protocol) in names
        ),
    )


def _is_peer(pod: PodFact, peer: Object, namespace: str, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a pod is meant by an entry of `from` or `to` in a policy of `namespace`."""
    if peer.get("ipBlock"):
        return False
    of_namespaces, of_pods = peer.get("namespaceSelector"), peer.get("podSelector")
    if of_namespaces is None:
        return pod.namespace == namespace and selects(of_pods, dict(pod.labels))
    if not selects(of_namespaces, namespaces.get(pod.namespace, {})):
        return False
    return of_pods is None or selects(of_pods, dict(pod.labels))


def _block(written: Object | None) -> Block | None:
    """An ipBlock of IPv4; None for one that is none."""
    network = _network((written or {}).get("cidr"))
    if written is None or network is None:
        return None
    excepted = (_network(each) for each in written.get("except") or ())
    return Block(network, tuple(each for each in excepted if each))


def _network(text: object) -> str | None:
    try:
        return str(IPv4Network(str(text), strict=False))
    except (AddressValueError, NetmaskValueError, ValueError):
        return None


def _ports(listed: Iterable[Object]) -> tuple[tuple[Ports, ...], frozenset[tuple[str, str]]]:
    """Ranges of ports, and (name, protocol) of those that are given by name."""
    ranges: list[Ports] = []
    names: set[tuple[str, str]] = set()
    for each in listed:
        protocol, port = each.get("protocol", "TCP"), each.get("port")
        if protocol not in PROTOCOLS:
            continue
        if isinstance(port, str):
            names.add((port, protocol))
        elif port is None:
            ranges.append(Ports(protocol))
        else:
            ranges.append(Ports(protocol, port, each.get("endPort") or port))
    return tuple(ranges), frozenset(names)
