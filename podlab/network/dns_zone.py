"""The records of a cluster's DNS, made from Services and EndpointSlices. Pure.

The specification: https://github.com/kubernetes/dns/blob/master/docs/specification.md (version 1.1.0), and what
CoreDNS does where it leaves a choice.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podlab.network import addresses
from podlab.network.dns_message import (
    Code,
    Record,
    Type,
    encode_a,
    encode_name,
    encode_soa,
    encode_srv,
    encode_txt,
)
from podlab.network.services import is_ipv4
from podlab.network.watching import Key

Object = Mapping[str, Any]
#: Type and data of the records of one name.
Data = tuple[Type, bytes]
Names = dict[str, list[Data]]

#: Seconds that an answer may be kept, also a negative one. CoreDNS's value for clusters.
TTL = 5
SCHEMA_VERSION = "1.1.0"
_POD_NAME = re.compile(r"(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.pod")
#: The reverse zones of the cluster's own networks; other addresses are somebody else's to name.
_REVERSE_ZONES = ("96.10.in-addr.arpa", "244.10.in-addr.arpa")


@dataclass(frozen=True)
class Answer:
    """What a question comes to. With `foreign` that name is not the cluster's: the one asked for, or its alias."""

    code: Code = Code.NOERROR
    records: Sequence[Record] = ()
    authorities: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    foreign: str | None = None


def reverse_name(address: str) -> str:
    """`4.3.2.10.in-addr.arpa` for 10.2.3.4."""
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def service_names(service: Object, slices: Iterable[Object], domain: str) -> Names:
    """All names that one Service with its EndpointSlices adds to the DNS, and their data."""
    spec = service.get("spec", {})
    metadata = service["metadata"]
    name = f"{metadata['name']}.{metadata['namespace']}.svc.{domain}"
    if spec.get("type") == "ExternalName":
        target = (spec.get("externalName") or "").rstrip(".").lower()
        try:
            return {name: [(Type.CNAME, encode_name(target))]} if target else {}
        except ValueError:
            return {}
    backends = _backends(service, slices)
    cluster_ip = spec.get("clusterIP")
    if is_ipv4(cluster_ip):
        names = _cluster_ip_names(name, cluster_ip, spec)
        _add_hostnames(names, name, [each for each in backends if each.named])
        return names
    return _headless_names(name, backends)


@dataclass(frozen=True)
class _Backend:
    address: str
    hostname: str
    named: bool
    ports: tuple[tuple[str, str, int], ...]


def _backends(service: Object, slices: Iterable[Object]) -> list[_Backend]:
    """The ready endpoints with their names and ports, each address once."""
    unready_too = bool(service.get("spec", {}).get("publishNotReadyAddresses"))
    found: dict[str, _Backend] = {}
    for each in slices:
        if each.get("addressType") != "IPv4":
            continue
        ports = tuple(
            (port["name"], port.get("protocol", "TCP").lower(), port["port"])
            for port in each.get("ports") or []
            if port.get("name") and port.get("port")
        )
        for endpoint in each.get("endpoints") or []:
            ready = (endpoint.get("conditions") or {}).get("ready") is not False
            for address in endpoint.get("addresses") or []:
                if (ready or unready_too) and is_ipv4(address):
                    hostname = endpoint.get("hostname") or address.replace(".", "-")
                    before = found.get(address)
                    known = ports + (before.ports if before else ())
                    made = _Backend(address, hostname, bool(endpoint.get("hostname")), tuple(dict.fromkeys(known)))
                    found[address] = made
    return list(found.values())


def _cluster_ip_names(name: str, cluster_ip: str, spec: Object) -> Names:
    names: Names = {name: [(Type.A, encode_a(cluster_ip))]}
    for port in spec.get("ports") or []:
        if port.get("name"):
            protocol = port.get("protocol", "TCP").lower()
            data = encode_srv(0, 100, port["port"], name)
            names.setdefault(f"_{port['name']}._{protocol}.{name}", []).append((Type.SRV, data))
            names.setdefault(f"_{protocol}.{name}", [])
    names[reverse_name(cluster_ip)] = [(Type.PTR, encode_name(name))]
    return names


def _headless_names(name: str, backends: list[_Backend]) -> Names:
    """Without a ready endpoint there is no such name (specification, 2.4.1)."""
    names: Names = {}
    for backend in backends:
        names.setdefault(name, []).append((Type.A, encode_a(backend.address)))
    _add_hostnames(names, name, backends)
    weight = max(1, 100 // max(1, len(backends)))
    for backend in backends:
        target = f"{backend.hostname}.{name}"
        names.setdefault(reverse_name(backend.address), []).append((Type.PTR, encode_name(target)))
        for port, protocol, number in backend.ports:
            data = encode_srv(0, weight, number, target)
            names.setdefault(f"_{port}._{protocol}.{name}", []).append((Type.SRV, data))
            names.setdefault(f"_{protocol}.{name}", [])
    return names


def _add_hostnames(names: Names, name: str, backends: Iterable[_Backend]) -> None:
    for backend in backends:
        data = (Type.A, encode_a(backend.address))
        listed = names.setdefault(f"{backend.hostname}.{name}", [])
        if data not in listed:
            listed.append(data)


@dataclass
class Zone:
    """All names of a cluster. `update` takes one Service in; `answer` looks a question up."""

    domain: str = addresses.CLUSTER_DOMAIN
    server: str = addresses.DNS_SERVICE
    shuffle: Callable[[list[Record]], None] = random.shuffle
    _names: dict[str, dict[Key, list[Data]]] = field(default_factory=dict)
    _of: dict[Key, list[str]] = field(default_factory=dict)
    _serial: int = 1
    _fixed: Names = field(init=False)

    def __post_init__(self) -> None:
        domain = self.domain
        self._fixed = {
            f"ns.dns.{domain}": [(Type.A, encode_a(self.server))],
            f"dns-version.{domain}": [(Type.TXT, encode_txt(SCHEMA_VERSION))],
            # Names without records of their own, but with others below them.
            **{name: [] for name in (f"dns.{domain}", f"svc.{domain}", f"pod.{domain}", *_REVERSE_ZONES)},
        }

    def update(self, key: Key, service: Object | None, slices: Iterable[Object] = ()) -> None:
        """Take in the Service `key` as it is now; None if it is gone."""
        for name in self._of.pop(key, ()):
            owners = self._names[name]
            del owners[key]
            if not owners:
                del self._names[name]
        self._serial += 1
        if service is None:
            return
        made = service_names(service, slices, self.domain)
        # The namespace is a name, too, while something is in it.
        made.setdefault(f"{key[0]}.svc.{self.domain}", [])
        self._of[key] = list(made)
        for name, data in made.items():
            self._names.setdefault(name, {})[key] = data

    def answer(self, name: str, kind: int) -> Answer:
        """The answer to a question for `name` (lower case, no final dot) and a type."""
        if not self.owns(name):
            return Answer(foreign=name)
        data = self._look_up(name)
        if data is None:
            return Answer(Code.NXDOMAIN, authorities=(self._soa(name),))
        records = [Record(name, type_, content, TTL) for type_, content in data if kind in (type_, Type.ANY)]
        if not records:
            alias = [content for type_, content in data if type_ == Type.CNAME]
            if alias:
                return self._alias(name, alias[0], kind)
            return Answer(authorities=(self._soa(name),))
        self.shuffle(records)
        return Answer(records=records, additional=self._additional(records))

    def owns(self, name: str) -> bool:
        """Whether the cluster is the authority for a name."""
        return any(name == zone or name.endswith("." + zone) for zone in (self.domain, *_REVERSE_ZONES))

    def _look_up(self, name: str) -> list[Data] | None:
        if (owners := self._names.get(name)) is not None:
            return [each for data in owners.values() for each in data]
        if name == self.domain:
            return [(Type.SOA, self._soa(name).data), (Type.NS, encode_name(f"ns.dns.{self.domain}"))]
        if (fixed := self._fixed.get(name)) is not None:
            return fixed
        match = _POD_NAME.fullmatch(name.removesuffix("." + self.domain))
        if match and is_ipv4(address := ".".join(match.groups()[:4])):
            return [(Type.A, encode_a(address))]
        return None

    def _soa(self, name: str) -> Record:
        """The start of the zone that a name belongs to: a resolver refuses that of another one."""
        domain = self.domain
        names = (f"ns.dns.{domain}", f"hostmaster.{domain}")
        zone = next((each for each in _REVERSE_ZONES if name.endswith(each)), domain)
        return Record(zone, Type.SOA, encode_soa(*names, self._serial, 7200, 1800, 86400, TTL), TTL)

    def _alias(self, name: str, target: bytes, kind: int) -> Answer:
        record = Record(name, Type.CNAME, target, TTL)
        other = _text_of(target)
        # One step is enough: an alias within the cluster that leads to another alias is a mistake.
        if not self.owns(other):
            return Answer(records=(record,), foreign=other)
        inner = self.answer(other, kind) if other != name else None
        if inner is None or any(each.type == Type.CNAME for each in inner.records):
            return Answer(records=(record,))
        return Answer(records=(record, *inner.records), authorities=inner.authorities)

    def _additional(self, records: Iterable[Record]) -> list[Record]:
        """The addresses of the targets of SRV records, which the client will ask for next."""
        found: dict[str, None] = {}
        for record in records:
            if record.type == Type.SRV:
                found.setdefault(_text_of(record.data[6:]))
        return [
            Record(name, Type.A, content, TTL)
            for name in found
            for type_, content in self._look_up(name) or []
            if type_ == Type.A
        ]


def _text_of(encoded: bytes) -> str:
    labels = []
    offset = 0
    while length := encoded[offset]:
        labels.append(encoded[offset + 1 : offset + 1 + length])
        offset += 1 + length
    return b".".join(labels).decode("utf-8", "surrogateescape")
