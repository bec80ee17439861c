"""Load balancers of the type that needs no cloud: an address of this host's loopback for each Service that asks.

`node_ports` opens the Service's own ports at that address. Each cluster has 254 addresses, told apart by the port of
its API server, so that clusters on one machine do not take each other's: 127.64-127.A.1 to .254.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any, Protocol

from podlab.network.watching import SERVICES_PATH, Api, Key
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
#: What a Service may name as its loadBalancerClass; without one it is served as well.
CLASS = "podlab.dev/loopback"
RULES = [
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["services/status"], "verbs": ["patch"]},
]
_FIRST = 64
#: Pauses before an address is written again, doubled from the first to the longest (seconds).
RETRY_FIRST, RETRY_LONGEST = 0.5, 10.0
#: What the API server says of the object itself: it is gone, has changed, or may not be like that.
_ANSWERS = (404, 409, 422)


class StatusApi(Api, Protocol):
    """An Api that can also change objects."""

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]: ...


def pool(api_port: int) -> IPv4Network:
    """The addresses of the cluster whose API server has this port."""
    return IPv4Network(f"127.{_FIRST + (api_port >> 8) % _FIRST}.{api_port & 255}.0/24")


def address_of(service: Object, addresses: IPv4Network) -> str | None:
    """The load balancer's address of a Service, None unless it is one of ours."""
    spec = service.get("spec", {})
    if spec.get("type") != "LoadBalancer":
        return None
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    own = (each["ip"] for each in ingress if each.get("ip"))
    return next((ip for ip in own if _is_within(ip, addresses)), None)


def wants_address(service: Object, addresses: IPv4Network) -> bool:
    """Whether a Service waits for an address: of no other class, and nobody has given it one that counts here."""
    spec = service["spec"]
    if spec.get("type") != "LoadBalancer" or spec.get("loadBalancerClass", CLASS) != CLASS:
        return False
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    # An address of loopback outside of the pool was given when the API server had another port.
    return all(_is_within(each.get("ip", ""), _ALL) and not _is_within(each["ip"], addresses) for each in ingress)


def admits(service: Object, client: str) -> bool:
    """Whether a Service's load balancer is open to a client with this address (loadBalancerSourceRanges)."""
    ranges = service["spec"].get("loadBalancerSourceRanges")
    return not ranges or any(ip_address(client) in ip_network(text.strip(), strict=False) for text in ranges)


def free_address(taken: Iterable[str], addresses: IPv4Network) -> str | None:
    """The lowest address that no Service has, None if all are taken."""
    used = set(taken)
    return next((str(host) for host in addresses.hosts() if str(host) not in used), None)


_ALL = IPv4Network(f"127.{_FIRST}.0.0/10")


def _is_within(ip: str, addresses: IPv4Network) -> bool:
    try:
        return IPv4Network(ip).subnet_of(addresses)
    except ValueError:
        return False


class LoadBalancers:
    """Gives each Service of the type LoadBalancer its address."""

    def __init__(self, api: StatusApi, addresses: IPv4Network) -> None:
        self._api = api
        self._addresses = addresses
        self._given: dict[Key, str] = {}
        self._writing: dict[Key, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow the Services for ever. What stands in their status is known before a new address is given."""
        waiting: dict[Key, Object] = {}
        synced = False
        # Each in a task of its own: one that is refused again and again does not hold up the others.
        async with asyncio.TaskGroup() as group:
            async for event in self._api.list_and_watch(SERVICES_PATH):
                if event.type == "SYNC":
                    synced = True
                else:
                    self._see(event.type, event.object, waiting)
                if synced:
                    for key, service in list(waiting.items()):
                        del waiting[key]
                        self._give(key, service, group)

    def _see(self, kind: str, service: Object, waiting: dict[Key, Object]) -> None:
        key = (service["metadata"]["namespace"], service["metadata"]["name"])
        waiting.pop(key, None)
        if writing := self._writing.pop(key, None):
            writing.cancel()  # this event says what has become of it
        address = None if kind == "DELETED" else address_of(service, self._addresses)
        if address:
            self._given[key] = address
            return
        self._given.pop(key, None)
        if kind != "DELETED" and wants_address(service, self._addresses):
            waiting[key] = service

    def _give(self, key: Key, service: Object, group: asyncio.TaskGroup) -> None:
        address = free_address(self._given.values(), self._addresses)
        if address is None:
            log.warning("no address is left for the load balancer of %s/%s", *key)
            return
        self._given[key] = address
        self._writing[key] = group.create_task(self._write(key, service, address))

    async def _write(self, key: Key, service: Object, address: str) -> None:
        """Write a Service's address into its status; again with a pause while there is no answer about the Service.

        The address stays given in any case: a write without an answer may have been done. The next event decides.
        """
        # Proxy: nodes are not to answer for an address that only the host has.
        ingress = [{"ip": address, "ipMode": "Proxy"}]
        path = f"/api/v1/namespaces/{key[0]}/services/{key[1]}/status"
        version = service["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "status": {"loadBalancer": {"ingress": ingress}}}
        pause = RETRY_FIRST
        while True:
            try:
                await self._api.patch(path, body)
                return
            except Exception as error:
                log.info("the load balancer of %s/%s got no address: %s", *key, error)
                if getattr(error, "status", 0) in _ANSWERS:
                    return
            await pause_async(pause)
            pause = min(pause * 2, RETRY_LONGEST)
