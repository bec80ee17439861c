"""From the ports of Services to the rules of one table. Pure.

    prerouting, output (nat)      -> services: one look-up of (address, protocol, port) in a verdict map
                                     -> "service ...": a random backend by one map      (cluster IPs)
                                     -> "external ...": marked for a new source, then the same  (node ports)
    postrouting (nat)             marked, and pods that reach themselves: the node's address as source
    input, forward, output        -> refusals: ports without backends are rejected or dropped; then the rest
                                     of the Service network is rejected, so that nothing waits in vain

A connection passes the nat chains once, with its first packet: what it costs does not depend on the number of
Services. Further tables (network policy) can hook in beside this one without touching it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from podlab.network import addresses, nftables
from podlab.network.nftables import (
    DROP,
    R0,
    R1,
    R2,
    RETURN,
    AnonymousMap,
    Ct,
    Expression,
    Meta,
    Rule,
    Verdict,
    goto,
    jump,
    rule,
)
from podlab.network.nftables_messages import TYPE_ADDRESS, TYPE_ENDPOINT, TYPE_PAIR, Hook, HookPoint, SetType
from podlab.network.rulesets import Chain, Ruleset, Set
from podlab.network.services import Backend, Refusal, ServicePort, Target

TABLE = "podlab-services"
_NUMBERS = {"TCP": nftables.TCP, "UDP": nftables.UDP}
#: The mark that kube-proxy uses, too: this connection needs the node's address as its source.
_MARK = 0x4000
_BEFORE_ROUTING, _FILTER, _AFTER_ROUTING = -100, 0, 100

_LOCATION = SetType(12, TYPE_ENDPOINT, verdicts=True)
_PAIR = SetType(8, TYPE_PAIR)


@dataclass(frozen=True)
class NodeView:
    """What the rules have to know of their node. `own`: addresses of the Service network served by the node."""

    address: str
    own: tuple[str, ...] = (addresses.DNS_SERVICE,)
    pods: str = str(addresses.PODS)
    services: str = str(addresses.SERVICES)


@dataclass(frozen=True)
class Part:
    """What one port of a Service adds to the table."""

    chains: Mapping[str, Chain] = field(default_factory=dict)
    sets: Mapping[str, Set] = field(default_factory=dict)
    services: Mapping[bytes, Verdict] = field(default_factory=dict)
    refusals: Mapping[bytes, Verdict] = field(default_factory=dict)
    hairpins: frozenset[bytes] = frozenset()


def location(address: str, protocol: str, port: int) -> bytes:
    """The key of the verdict maps."""
    return nftables.address(address) + nftables.protocol(_NUMBERS[protocol]) + nftables.port(port)


def part(port: ServicePort, node: NodeView) -> Part:
    """The chains, sets and elements of one port of a Service."""
    if port.cluster_ip in node.own:
        return Part()
    chains: dict[str, Chain] = {}
    sets: dict[str, Set] = {}
    services: dict[bytes, Verdict] = {}
    refusals: dict[bytes, Verdict] = {}

    def target(kind: str, backends: Target) -> Verdict | None:
        """A verdict that leads to the backends; None if there are none."""
        if isinstance(backends, Refusal):
            return None
        chain = f"{kind} {port.title}"
        if chain not in chains:
            chains[chain] = _balance(port, backends, chains, sets)
        return goto(chain)

    def lead(where: bytes, to: Verdict | None, backends: Target) -> None:
        if to:
            services[where] = to
        if isinstance(backends, Refusal):
            refusals[where] = DROP if backends is Refusal.DROP else goto(_REFUSE)

    internal_kind = "service" if port.internal == port.cluster else "local"
    here = location(port.cluster_ip, port.protocol, port.port)
    lead(here, target(internal_kind, port.internal), port.internal)

    outside = [location(address, port.protocol, port.port) for address in port.external_ips]
    if port.node_port:
        outside.append(location(node.address, port.protocol, port.node_port))
    if outside:
        external_kind = "service" if port.external == port.cluster else "local"
        rules = _external(port, node, target("service", port.cluster), target(external_kind, port.external))
        if rules:
            chains[f"external {port.title}"] = Chain(rules)
        for where in outside:
            lead(where, goto(f"external {port.title}") if rules else None, port.external)
    reached = {each for target_ in (port.internal, port.external, port.cluster) for each in _listed(target_)}
    hairpins = frozenset(nftables.address(backend.address) * 2 for backend in reached if backend.local)
    return Part(chains, sets, services, refusals, hairpins)


def _listed(target: Target) -> tuple[Backend, ...]:
    return () if isinstance(target, Refusal) else target


def _external(port: ServicePort, node: NodeView, cluster: Verdict | None, external: Verdict | None) -> tuple[Rule, ...]:
    """The rules for connections from outside: their source is replaced, unless the policy keeps it."""
    if not port.external_local:
        return (rule(_mark(), external),) if external else ()
    rules = []
    if cluster:
        # Pods and the node itself are no outsiders: for them the policy does not count.
        rules.append(rule(nftables.match_source(node.pods), cluster))
        rules.append(rule(nftables.match_source(node.address), _mark(), cluster))
    if external:
        rules.append(rule(external))
    return tuple(rules)


def _mark() -> tuple[bytes, ...]:
    load, store = nftables.meta(Meta.MARK), nftables.set_meta(Meta.MARK)
    bit = nftables.native(_MARK)
    return load, nftables.mask(nftables.native(~_MARK & 0xFFFF_FFFF), bit), store


def _to(backend: Backend) -> tuple[bytes, ...]:
    return (
        nftables.immediate(nftables.address(backend.address), R0),
        nftables.immediate(nftables.port(backend.port), R1),
        nftables.translate_destination(R0, R1),
    )


def _balance(port: ServicePort, backends: tuple[Backend, ...], chains: dict[str, Chain], sets: dict[str, Set]) -> Chain:
    """A chain that leads to one of `backends`; further chains and sets that it needs are added."""
    if port.affinity is not None:
        return _sticky(port, backends, port.affinity, chains, sets)
    if len(backends) == 1:
        return Chain((rule(nftables.counter(), _to(backends[0]), comment=port.title),))
    choices = tuple(
        (nftables.native(number), nftables.address(backend.address) + nftables.port(backend.port))
        for number, backend in enumerate(backends)
    )
    choose: tuple[Expression, ...] = (
        nftables.counter(),
        nftables.random_number(len(backends), R0),
        AnonymousMap(R0, choices, R0),
        nftables.translate_destination(R0, R1),
    )
    return Chain((Rule(choose, port.title),))


def _sticky(
    port: ServicePort,
    backends: tuple[Backend, ...],
    seconds: int,
    chains: dict[str, Chain],
    sets: dict[str, Set],
) -> Chain:
    """One set of clients per backend: whoever is in it goes there again; others go by chance and are put in."""
    known: list[Rule] = []
    choices: list[tuple[bytes, Verdict]] = []
    for number, backend in enumerate(backends):
        name = f"{port.title} {backend.address}:{backend.port}"
        # The time-out is part of the name, because that of an existing set cannot be changed.
        clients = f"clients {name} {seconds}s"
        sets[clients] = Set(SetType(4, TYPE_ADDRESS, timeout=float(seconds), dynamic=True))
        remember = (nftables.source_address(R2), nftables.update(clients, R2, float(seconds)))
        chains[f"endpoint {name}"] = Chain((rule(nftables.counter(), remember, _to(backend)),))
        known.append(rule(nftables.source_address(R0), nftables.lookup(clients, R0), goto(f"endpoint {name}")))
        choices.append((nftables.native(number), goto(f"endpoint {name}")))
    chance = rule(
        nftables.counter(),
        nftables.random_number(len(backends), R0),
        AnonymousMap(R0, tuple(choices)),
        comment=port.title,
    )
    return Chain((*known, chance))


_REFUSE = "refuse"


def table(parts: Iterable[Part], node: NodeView) -> Ruleset:
    """The whole table. Where two Services claim one external address and port, the first has it."""
    chains = _fixed_chains(node)
    sets: dict[str, Set] = {}
    services: dict[bytes, Verdict] = {}
    refusals: dict[bytes, Verdict] = {}
    hairpins: set[bytes] = set()
    for each in parts:
        chains.update(each.chains)
        sets.update(each.sets)
        for where in each.services.keys() | each.refusals.keys():
            if where not in services and where not in refusals:
                if where in each.services:
                    services[where] = each.services[where]
                if where in each.refusals:
                    refusals[where] = each.refusals[where]
        hairpins |= each.hairpins
    sets["services"] = Set(_LOCATION, services)
    sets["refusals"] = Set(_LOCATION, refusals)
    sets["hairpins"] = Set(_PAIR, dict.fromkeys(hairpins))
    return Ruleset(TABLE, chains, sets)


def _load_location() -> tuple[bytes, ...]:
    return nftables.destination_address(R0), nftables.meta(Meta.L4PROTO, R1), nftables.destination_port(R2)


def _fixed_chains(node: NodeView) -> dict[str, Chain]:
    node_source = (nftables.immediate(nftables.address(node.address)), nftables.translate_source())
    check = rule(nftables.match_bits(nftables.ct(Ct.STATE), nftables.NEW), jump("refusals"))
    invalid = nftables.match_bits(nftables.ct(Ct.STATE), nftables.INVALID)
    own = tuple(rule(nftables.match_destination(address), RETURN) for address in node.own)
    return {
        "services": Chain((rule(_load_location(), nftables.verdict_lookup("services")),)),
        "refusals": Chain(
            (
                *own,
                rule(_load_location(), nftables.verdict_lookup("refusals")),
                rule(nftables.match_destination(node.services), goto(_REFUSE)),
            )
        ),
        _REFUSE: Chain(
            (
                rule(nftables.match_protocol(nftables.TCP), nftables.counter(), nftables.reject_tcp()),
                rule(nftables.counter(), nftables.reject_icmp()),
            )
        ),
        "prerouting": Chain((rule(jump("services")),), Hook("nat", HookPoint.PREROUTING, _BEFORE_ROUTING)),
        "output": Chain((rule(jump("services")),), Hook("nat", HookPoint.OUTPUT, _BEFORE_ROUTING)),
        "postrouting": Chain(
            (
                rule(nftables.match_bits(nftables.meta(Meta.MARK), _MARK), nftables.counter(), node_source),
                rule(
                    nftables.match_bits(nftables.ct(Ct.STATUS), nftables.DESTINATION_TRANSLATED),
                    nftables.source_address(R0),
                    nftables.destination_address(R1),
                    nftables.lookup("hairpins"),
                    nftables.counter(),
                    node_source,
                ),
            ),
            Hook("nat", HookPoint.POSTROUTING, _AFTER_ROUTING),
        ),
        "filter-input": Chain((check,), Hook("filter", HookPoint.INPUT, _FILTER)),
        # A packet that fits no connection, let through, would reach a client under the pod's own address.
        "filter-forward": Chain(
            (rule(invalid, nftables.counter(), DROP), check), Hook("filter", HookPoint.FORWARD, _FILTER)
        ),
        "filter-output": Chain((check,), Hook("filter", HookPoint.OUTPUT, _FILTER)),
    }
