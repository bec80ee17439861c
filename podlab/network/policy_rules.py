"""From the restrictions of network policies to the rules of one table. Pure.

    forward, input   -> "egress": by source, to the chain of an isolated pod; each of its policies may accept,
                        the end of the chain drops
    forward          -> "ingress": the same by destination, once egress has let the packet pass

Packets of connections that exist are let through first, so that a policy never cuts one. Connections from the node
itself do not pass these hooks: probes always arrive. A pod reaches itself, also through a Service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from podlab.network import nftables
from podlab.network.nftables import ACCEPT, DROP, ESTABLISHED, R0, R1, R2, RELATED, Ct, Meta, Rule, goto, jump, rule
from podlab.network.nftables_messages import TYPE_ADDRESS, TYPE_ENDPOINT, TYPE_PAIR, Hook, HookPoint, SetType
from podlab.network.policies import EGRESS, INGRESS, PROTOCOLS, Allowance, Block, Ports, Restriction
from podlab.network.rulesets import Chain, Ruleset, Set

TABLE = "podlab-policy"
#: After the service proxy's own filters, and ingress after egress.
_FIRST, _SECOND = 10, 20
_ADDRESS = SetType(4, TYPE_ADDRESS)
_PAIR = SetType(8, TYPE_PAIR)
_LOCATION = SetType(12, TYPE_ENDPOINT)
_POD_MAP = SetType(4, TYPE_ADDRESS, verdicts=True)
#: The hooks of each direction: name of the chain, where, and when.
_HOOKS = {
    EGRESS: (("egress-forward", HookPoint.FORWARD, _FIRST), ("egress-input", HookPoint.INPUT, _FIRST)),
    INGRESS: (("ingress-forward", HookPoint.FORWARD, _SECOND),),
}

Match = tuple[bytes, ...]


def table(restrictions: Iterable[Restriction]) -> Ruleset:
    """The whole table; a direction in which no pod is isolated costs a packet nothing."""
    chains: dict[str, Chain] = {}
    sets: dict[str, Set] = {}
    own: set[str] = set()
    by_direction: dict[str, list[Restriction]] = {INGRESS: [], EGRESS: []}
    for each in restrictions:
        by_direction[each.direction].append(each)
        own |= each.pods
        chains[_policy_chain(each)] = Chain(tuple(_rules(each, sets)))
    if own:
        sets["own"] = Set(_PAIR, dict.fromkeys(nftables.address(pod) * 2 for pod in own))
    for direction, found in by_direction.items():
        pods = sorted({pod for each in found for pod in each.pods})
        if not pods:
            continue
        for pod in pods:
            policies = tuple(rule(jump(_policy_chain(each))) for each in found if pod in each.pods)
            chains[f"{direction} {pod}"] = Chain((*policies, rule(nftables.counter(), DROP)))
        sets[direction] = Set(_POD_MAP, {nftables.address(pod): goto(f"{direction} {pod}") for pod in pods})
        for name, point, priority in _HOOKS[direction]:
            chains[name] = Chain(_entry(direction), Hook("filter", point, priority))
    return Ruleset(TABLE, chains, sets)


def _policy_chain(restriction: Restriction) -> str:
    # Not its name: with its namespace that may be longer than the kernel's limit.
    return f"{restriction.direction} policy {restriction.uid}"


def _entry(direction: str) -> tuple[Rule, ...]:
    known = nftables.match_bits(nftables.ct(Ct.STATE), ESTABLISHED | RELATED)
    both = (nftables.source_address(R0), nftables.destination_address(R1), nftables.lookup("own"))
    pod = nftables.source_address() if direction == EGRESS else nftables.destination_address()
    return (rule(known, ACCEPT), rule(both, ACCEPT), rule(pod, nftables.verdict_lookup(direction)))


def _rules(restriction: Restriction, sets: dict[str, Set]) -> Iterator[Rule]:
    for number, allowance in enumerate(restriction.allowances):
        name = f"{restriction.direction} {restriction.uid} {number}"
        for match in _matches(allowance, restriction.direction, name, sets):
            yield rule(match, nftables.counter(), ACCEPT, comment=restriction.title)


def _matches(allowance: Allowance, direction: str, name: str, sets: dict[str, Set]) -> Iterator[Match]:
    """What a packet has to match for an allowance to hold: one of these."""
    peers = list(_peers(allowance, direction, name, sets))
    ports: list[Match] = [()] if allowance.anything else [_port(each) for each in allowance.ports]
    named: list[Match] = []
    if allowance.locations:
        sets[f"ports {name}"] = Set(_LOCATION, {_location(*each): None for each in sorted(allowance.locations)})
        load = (nftables.destination_address(R0), nftables.meta(Meta.L4PROTO, R1), nftables.destination_port(R2))
        named = [(*load, nftables.lookup(f"ports {name}"))]
    if direction == EGRESS:
        yield from named
    else:
        ports += named
    yield from ((*peer, *port) for peer in peers for port in ports)


def _peers(allowance: Allowance, direction: str, name: str, sets: dict[str, Set]) -> Iterator[Match]:
    load = nftables.source_address() if direction == INGRESS else nftables.destination_address()
    if allowance.anyone:
        yield ()
        return
    if allowance.pods:
        sets[f"pods {name}"] = Set(_ADDRESS, {nftables.address(each): None for each in sorted(allowance.pods)})
        yield load, nftables.lookup(f"pods {name}")
    for block in allowance.blocks:
        yield tuple(_block(load, block))


def _block(load: bytes, block: Block) -> Sequence[bytes]:
    made = list(nftables.match_network(load, block.network))
    for each in block.excepted:
        made += nftables.match_network(load, each, equal=False)
    return made


def _port(ports: Ports) -> Match:
    protocol = nftables.match_protocol(PROTOCOLS[ports.protocol])
    if ports.all:
        return protocol
    return *protocol, nftables.destination_port(), *nftables.between(ports.first, ports.last)


def _location(address: str, protocol: str, port: int) -> bytes:
    return nftables.address(address) + nftables.protocol(PROTOCOLS[protocol]) + nftables.port(port)
