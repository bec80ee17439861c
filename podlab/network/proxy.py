"""The service proxy of one node: keeps the kernel's rules equal to what Services and EndpointSlices say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from podlab.network import service_rules, services
from podlab.network.netfilter import Flow, Netfilter, NetfilterError
from podlab.network.nftables import UDP
from podlab.network.nftables_messages import Message
from podlab.network.rulesets import Ruleset, change, creation
from podlab.network.service_rules import NodeView, Part
from podlab.network.services import Refusal, ServicePort
from podlab.network.watching import Key, ServiceTable
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Seconds for which changes are gathered: a roll-out changes one EndpointSlice many times in a row.
DEBOUNCE = 0.03
#: Seconds after which a refused change is tried again, from scratch.
RETRY = 2.0


@dataclass
class ProxyStatus:
    """How the proxy is doing: `seconds` is the duration of the last change, `error` why the last one failed."""

    changes: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class _Entry:
    ports: tuple[ServicePort, ...]
    parts: tuple[Part, ...]


_EMPTY = _Entry((), ())

#: Address and port where clients send to -> those of the backends that may answer.
Answerers = dict[tuple[str, int], frozenset[tuple[str, int]]]


class ServiceProxy:
    """Follows a ServiceTable and writes one nf_tables table in its own network namespace."""

    def __init__(
        self,
        table: ServiceTable,
        node: str,
        address: str,
        *,
        zone: str | None = None,
        netfilter: Callable[[], Netfilter] = Netfilter,
    ) -> None:
        self._table = table
        self._node = node
        self._zone = zone
        self._open = netfilter
        self._view = NodeView(address)
        self._entries: dict[Key, _Entry] = {}
        self._dirty: set[Key] = set()
        self._wake = asyncio.Event()
        self._applied: Ruleset | None = None
        self.status = ProxyStatus()
        #: Set while the kernel has what the table says.
        self.settled = asyncio.Event()

    async def run(self) -> None:
        """Follow for ever; NetfilterError if the kernel has no usable packet filter.

        Rules of an earlier life stay in force until the table is complete, and are then replaced at once.
        """
        try:
            opened = self._open()
        except NetfilterError as error:
            self.status.error = str(error)
            raise
        with opened as netfilter:
            self._table.subscribe(self._changed)
            await self._table.synced.wait()
            while True:
                self._wake.clear()
                try:
                    await self._synchronise(netfilter)
                except NetfilterError as error:
                    self.status.error = str(error)
                    log.error("the rules of Services could not be changed: %s", error)
                    self._applied = None
                    await pause_async(RETRY)
                    continue
                if not self._dirty:
                    self.settled.set()
                await self._wake.wait()
                await pause_async(DEBOUNCE)

    def _changed(self, key: Key) -> None:
        self._dirty.add(key)
        self.settled.clear()
        self._wake.set()

    async def _synchronise(self, netfilter: Netfilter) -> None:
        """Bring the kernel up to date with the table."""
        began = time.monotonic()
        stale = self._refresh()
        new = service_rules.table(
            (part for key in sorted(self._entries) for part in self._entries[key].parts), self._view
        )
        batches: Sequence[Sequence[Message]]
        batches = creation(new) if self._applied is None else change(self._applied, new)
        if batches:
            # In a thread: thousands of rules take the kernel a while, in which DNS and heartbeats go on.
            await asyncio.to_thread(netfilter.commit_all, batches)
            self.status.changes += 1
        self._applied = new
        if stale:
            await asyncio.to_thread(self._forget_stale, netfilter, stale)
        self.status.seconds = time.monotonic() - began
        self.status.error = ""

    def _refresh(self) -> Answerers:
        """Render the changed Services anew; return their UDP locations and who may answer there now."""
        dirty, self._dirty = self._dirty, set()
        stale: Answerers = {}
        for key in dirty:
            before = self._entries.pop(key, _EMPTY)
            now = self._render(key, before)
            if now.ports:
                self._entries[key] = now
            if now is not before:
                stale |= dict.fromkeys(_udp_answerers(before.ports, self._view), frozenset())
                stale |= _udp_answerers(now.ports, self._view)
        return stale

    def _render(self, key: Key, before: _Entry) -> _Entry:
        service = self._table.services.get(key)
        if service is None:
            return _EMPTY
        try:
            ports = tuple(services.service_ports(service, self._table.slices(key), self._node, self._zone))
            # Equal ports keep their rendered parts, which makes the comparison with the kernel's state quick.
            if ports == before.ports:
                return before
            return _Entry(ports, tuple(service_rules.part(port, self._view) for port in ports))
        except Exception:
            # One odd Service must not cost the others their rules.
            log.exception("the Service %s/%s has no rules on this node", *key)
            return _EMPTY

    @staticmethod
    def _forget_stale(netfilter: Netfilter, stale: Answerers) -> None:
        """Forget UDP flows to backends that are gone: a client that never pauses would send there for ever."""

        def is_stale(flow: Flow) -> bool:
            return flow.destination in stale and flow.answerer not in stale[flow.destination]

        try:
            count = netfilter.forget(UDP, is_stale)
        except NetfilterError as error:
            log.warning("stale UDP flows could not be forgotten: %s", error)
        else:
            if count:
                log.info("forgot %d UDP flows to backends that are gone", count)


def _udp_answerers(ports: Iterable[ServicePort], view: NodeView) -> Answerers:
    found: Answerers = {}
    for port in ports:
        if port.protocol != "UDP":
            continue
        backends = frozenset(
            (backend.address, backend.port)
            for target in (port.internal, port.external, port.cluster)
            if not isinstance(target, Refusal)
            for backend in target
        )
        locations = [(address, port.port) for address in (port.cluster_ip, *port.external_ips)]
        if port.node_port:
            locations.append((view.address, port.node_port))
        found |= dict.fromkeys(locations, backends)
    return found
