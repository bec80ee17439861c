"""Ports of pods at the address of their node (`hostPort`): one table of translations, changed with each such pod.

prerouting, output (nat)   (address, protocol, port) -> the pod's own; before Services are looked at
postrouting (nat)          what comes from the node's loopback, and a pod that reaches itself, gets the
                           node's address as its source; all others keep theirs
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from podlab.network import nftables
from podlab.network.netfilter import Netfilter
from podlab.network.nftables import R0, R1, R2, Ct, Meta, Rule, jump, rule
from podlab.network.nftables_messages import TYPE_ENDPOINT, TYPE_PAIR, Hook, HookPoint, SetType
from podlab.network.policies import PROTOCOLS
from podlab.network.rulesets import Chain, Ruleset, Set, change, creation
from podlab.network.services import is_ipv4

TABLE = "podlab-host-ports"
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
_BEFORE_SERVICES, _AFTER_ROUTING = -101, 99
_MAP = SetType(12, TYPE_ENDPOINT, value_length=8)
_PAIR = SetType(8, TYPE_PAIR)

#: Address, protocol and port on the node -> address and port of the pod.
Mappings = Mapping[tuple[str, str, int], tuple[str, int]]


def mappings(pod: Mapping[str, Any], address: str, node: str) -> dict[tuple[str, str, int], tuple[str, int]]:
    """The host ports of a pod with `address` on the node with the address `node`.

    Without a hostIP a port is open at the node's address and, for the node itself, on its loopback.
    """
    made = {}
    for asked, protocol, number, port in declared(pod["spec"]):
        for place in (node, LOOPBACK) if asked == EVERYWHERE else (asked,):
            if protocol in PROTOCOLS and is_ipv4(place):
                made[place, protocol, number] = (address, port)
    return made


def declared(spec: Mapping[str, Any]) -> list[tuple[str, str, int, int]]:
    """(address on the node, protocol, port on the node, port of the pod) of each host port of a pod's spec."""
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    return [
        (port.get("hostIP") or EVERYWHERE, port.get("protocol", "TCP"), port["hostPort"], port["containerPort"])
        for container in (*sidecars, *(spec.get("containers") or ()))
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def table(known: Mappings, node: str) -> Ruleset:
    """The whole table; empty without mappings."""
    if not known:
        return Ruleset(TABLE)
    elements: dict[bytes, Any] = {
        nftables.address(place) + nftables.protocol(PROTOCOLS[protocol]) + nftables.port(number): nftables.address(
            address
        )
        + nftables.port(port)
        for (place, protocol, number), (address, port) in known.items()
    }
    hairpins = {nftables.address(address) * 2: None for address, _ in known.values()}
    translated = nftables.match_bits(nftables.ct(Ct.STATUS), nftables.DESTINATION_TRANSLATED)
    node_source = (nftables.immediate(nftables.address(node)), nftables.translate_source())
    itself = (nftables.source_address(R0), nftables.destination_address(R1), nftables.lookup("hairpins"))
    return Ruleset(
        TABLE,
        {
            "lead": Chain((_lead(),)),
            "prerouting": Chain((rule(jump("lead")),), Hook("nat", HookPoint.PREROUTING, _BEFORE_SERVICES)),
            "output": Chain((rule(jump("lead")),), Hook("nat", HookPoint.OUTPUT, _BEFORE_SERVICES)),
            "postrouting": Chain(
                (
                    rule(translated, nftables.match_source("127.0.0.0/8"), node_source),
                    rule(translated, itself, node_source),
                ),
                Hook("nat", HookPoint.POSTROUTING, _AFTER_ROUTING),
            ),
        },
        {"ports": Set(_MAP, elements), "hairpins": Set(_PAIR, dict(hairpins))},
    )


def _lead() -> Rule:
    load = (nftables.destination_address(R0), nftables.meta(Meta.L4PROTO, R1), nftables.destination_port(R2))
    return rule(load, nftables.lookup("ports", R0, R0), nftables.counter(), nftables.translate_destination(R0, R1))


class HostPorts:
    """The host ports of one node's pods. What an earlier agent left is replaced by the first `write`."""

    def __init__(self, node: str, *, netfilter: Callable[[], Netfilter] = Netfilter) -> None:
        self._node = node
        self._open = netfilter
        self._netfilter: Netfilter | None = None
        self._pods: dict[str, Mappings] = {}
        self._applied: Ruleset | None = None
        self._turn = asyncio.Lock()

    def take(self, pod: Mapping[str, Any], address: str) -> bool:
        """Note the ports of a pod; whether it has any, so that they have to be written."""
        found = {} if pod["spec"].get("hostNetwork") else mappings(pod, address, self._node)
        if found:
            self._pods[pod["metadata"]["uid"]] = found
        return bool(found)

    def drop(self, uid: str) -> bool:
        """Forget the ports of a pod that has gone; whether it had any."""
        return self._pods.pop(uid, None) is not None

    async def write(self) -> None:
        """Bring the kernel up to date; NetfilterError if it refuses."""
        async with self._turn:
            new = table({key: value for each in self._pods.values() for key, value in each.items()}, self._node)
            await asyncio.to_thread(self._commit, new)

    def _commit(self, new: Ruleset) -> None:
        self._netfilter = self._netfilter or self._open()
        old, self._applied = self._applied, None
        self._netfilter.commit_all(creation(new) if old is None else change(old, new))
        self._applied = new
