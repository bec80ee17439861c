"""Links, addresses, routes and neighbours by raw rtnetlink: no `ip` command, standard library only.

    with Netlink() as links:
        links.add_veth("pod7", "eth0", peer_namespace=descriptor)
        links.set_up("pod7")
        links.add_route("10.244.1.7/32", "pod7")

A Netlink belongs to the network namespace in which it was made, for ever; `Netlink(namespace=descriptor)`
makes one that belongs to another. Links are given by name or by index; only IPv4 is spoken.
Message layouts: linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import namedtuple
from ipaddress import IPv4Interface, IPv4Network

_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_REPLACE, _EXCLUSIVE, _CREATE = 0x100, 0x200, 0x400
_ERROR, _DONE = 2, 3

_NEW_LINK, _DELETE_LINK, _GET_LINK = 16, 17, 18
_NEW_ADDRESS, _DELETE_ADDRESS = 20, 21
_NEW_ROUTE, _DELETE_ROUTE = 24, 25
_NEW_NEIGHBOUR, _DELETE_NEIGHBOUR = 28, 29

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_NDA_DST, _NDA_LLADDR = 1, 2

_IFF_UP = 1
_TABLE_MAIN, _PROTO_BOOT, _TYPE_UNICAST = 254, 3, 1
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST = 0, 253, 254
_NUD_PERMANENT = 0x80

#: Length of the longest link name (IFNAMSIZ less the final zero byte).
NAME_MAX = 15


class Link(namedtuple("Link", "index name up address mtu")):
    """One network interface: `address` is its hardware address, `up` whether it is switched on."""

    __slots__ = ()


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute: length, kind, value, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in `data` by kind (flag bits of the kind removed); ends quietly at a malformed one."""
    found = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4 or offset + length > len(data):
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def hardware_address(text: str) -> bytes:
    """The six bytes of `ee:ee:ee:00:00:01`."""
    parts = bytes(int(part, 16) for part in text.split(":"))
    if len(parts) != 6:
        raise ValueError(f"{text!r} is not a hardware address")
    return parts


def _name(text: str) -> bytes:
    raw = text.encode()
    if not 1 <= len(raw) <= NAME_MAX or b"/" in raw or any(byte <= 32 for byte in raw):
        raise ValueError(f"{text!r} is no name for a link (1 to {NAME_MAX} bytes, no blank, no slash)")
    return raw + b"\0"


def _link_header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BBHiII", socket.AF_UNSPEC, 0, 0, index, flags, change)


class Netlink:
    """A connection to rtnetlink. Every method raises OSError whose `filename` says what was tried."""

    def __init__(self, namespace: int | None = None) -> None:
        """Belong to this thread's network namespace, or to that of the descriptor `namespace`."""

        def make() -> socket.socket:
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)

        if namespace is None:
            self._socket = make()
        else:
            # Imported here, because a zygote that never enters another namespace has no use for threads.
            from podlab.network.namespaces import in_network

            self._socket = in_network(namespace, make)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what was made stays."""
        self._socket.close()

    # Links

    def links(self) -> list[Link]:
        """Every link of the namespace, by rising index."""
        found = [self._parse(body) for body in self._ask(_GET_LINK, _DUMP, _link_header(), "list links")]
        return sorted(found, key=lambda link: link.index)

    def link(self, name: str) -> Link | None:
        """The link of that name, or None."""
        body = _link_header() + attribute(_IFLA_IFNAME, _name(name))
        try:
            answers = self._ask(_GET_LINK, _ACK, body, f"look up link {name}")
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return self._parse(answers[0])

    def index(self, link: str | int) -> int:
        """The index of a link given by name (an index is given back); OSError ENODEV if there is none."""
        if isinstance(link, int):
            return link
        found = self.link(link)
        if found is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), f"link {link}")
        return found.index

    def add_veth(
        self,
        name: str,
        peer: str,
        *,
        peer_namespace: int | None = None,
        address: str | None = None,
        peer_address: str | None = None,
        mtu: int | None = None,
    ) -> None:
        """Make a pair of links: `name` here, `peer` in the namespace of a descriptor (or here, too)."""

        def own(link: str, hardware: str | None) -> bytes:
            parts = attribute(_IFLA_IFNAME, _name(link))
            if hardware:
                parts += attribute(_IFLA_ADDRESS, hardware_address(hardware))
            if mtu:
                parts += attribute(_IFLA_MTU, struct.pack("=I", mtu))
            return parts

        other = _link_header() + own(peer, peer_address)
        if peer_namespace is not None:
            other += attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        kind = attribute(_IFLA_INFO_KIND, b"veth\0") + attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, other))
        body = _link_header() + own(name, address) + attribute(_IFLA_LINKINFO, kind)
        self._ask(_NEW_LINK, _ACK | _CREATE | _EXCLUSIVE, body, f"add veth {name} with peer {peer}")

    def delete_link(self, link: str | int) -> None:
        """Delete a link (of a veth pair both ends)."""
        self._ask(_DELETE_LINK, _ACK, _link_header(self.index(link)), f"delete link {link}")

    def set_up(self, link: str | int) -> None:
        """Switch a link on."""
        self._ask(_NEW_LINK, _ACK, _link_header(self.index(link), _IFF_UP, _IFF_UP), f"set link {link} up")

    def set_down(self, link: str | int) -> None:
        """Switch a link off: nothing passes, its routes are gone."""
        self._ask(_NEW_LINK, _ACK, _link_header(self.index(link), 0, _IFF_UP), f"set link {link} down")

    def set_address(self, link: str | int, address: str) -> None:
        """Set the hardware address."""
        body = _link_header(self.index(link)) + attribute(_IFLA_ADDRESS, hardware_address(address))
        self._ask(_NEW_LINK, _ACK, body, f"set link {link} address {address}")

    def set_name(self, link: str | int, name: str) -> None:
        """Rename a link (most kernels want it switched off)."""
        body = _link_header(self.index(link)) + attribute(_IFLA_IFNAME, _name(name))
        self._ask(_NEW_LINK, _ACK, body, f"rename link {link} to {name}")

    def set_mtu(self, link: str | int, mtu: int) -> None:
        """Set the largest packet size in bytes."""
        body = _link_header(self.index(link)) + attribute(_IFLA_MTU, struct.pack("=I", mtu))
        self._ask(_NEW_LINK, _ACK, body, f"set link {link} mtu {mtu}")

    def move(self, link: str | int, namespace: int) -> None:
        """Move a link into the network namespace of a descriptor; it loses its addresses and is off there."""
        body = _link_header(self.index(link)) + attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
        self._ask(_NEW_LINK, _ACK, body, f"move link {link} to another namespace")

    # Addresses, routes, neighbours

    def add_address(self, link: str | int, address: str) -> None:
        """Give a link an address with its prefix length, such as `172.18.0.11/16` (again: no error)."""
        body = self._address(link, address)
        self._ask(_NEW_ADDRESS, _ACK | _CREATE | _REPLACE, body, f"add address {address} to {link}")

    def delete_address(self, link: str | int, address: str) -> None:
        """Take an address from a link."""
        self._ask(_DELETE_ADDRESS, _ACK, self._address(link, address), f"delete address {address} of {link}")

    def add_route(
        self,
        destination: str,
        link: str | int | None = None,
        *,
        via: str | None = None,
        source: str | None = None,
    ) -> None:
        """Route `destination` (`10.244.2.0/24`, or `default`) over a link, or via a neighbour; replaces."""
        body = self._route(destination, link, via, source)
        what = _route_text(destination, link, via)
        self._ask(_NEW_ROUTE, _ACK | _CREATE | _REPLACE, body, f"add route {what}")

    def delete_route(self, destination: str, link: str | int | None = None, *, via: str | None = None) -> None:
        """Delete the route to `destination`; OSError ESRCH if there is none."""
        body = self._route(destination, link, via, None, delete=True)
        self._ask(_DELETE_ROUTE, _ACK, body, f"delete route {_route_text(destination, link, via)}")

    def add_neighbour(self, link: str | int, address: str, hardware: str) -> None:
        """Say for good which hardware address answers for `address` on a link (no ARP); replaces."""
        body = self._neighbour(link, address) + attribute(_NDA_LLADDR, hardware_address(hardware))
        self._ask(_NEW_NEIGHBOUR, _ACK | _CREATE | _REPLACE, body, f"add neighbour {address} on {link}")

    def delete_neighbour(self, link: str | int, address: str) -> None:
        """Forget what `add_neighbour` said."""
        body = self._neighbour(link, address)
        self._ask(_DELETE_NEIGHBOUR, _ACK, body, f"delete neighbour {address} on {link}")

    # The messages

    def _address(self, link: str | int, text: str) -> bytes:
        interface = IPv4Interface(text)
        scope = _SCOPE_HOST if interface.ip.is_loopback else _SCOPE_UNIVERSE
        head = struct.pack("=BBBBi", socket.AF_INET, interface.network.prefixlen, 0, scope, self.index(link))
        packed = interface.ip.packed
        return head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)

    def _route(
        self,
        destination: str,
        link: str | int | None,
        via: str | None,
        source: str | None,
        delete: bool = False,
    ) -> bytes:
        network = IPv4Network("0.0.0.0/0" if destination == "default" else destination)
        # When deleting, scope 255 ("nowhere") matches a route of any scope.
        scope = 255 if delete else _SCOPE_UNIVERSE if via else _SCOPE_LINK
        head = struct.pack(
            "=BBBBBBBBI",
            socket.AF_INET,
            network.prefixlen,
            0,
            0,
            _TABLE_MAIN,
            0 if delete else _PROTO_BOOT,
            scope,
            0 if delete else _TYPE_UNICAST,
            0,
        )
        body = head
        if network.prefixlen:
            body += attribute(_RTA_DST, network.network_address.packed)
        if link is not None:
            body += attribute(_RTA_OIF, struct.pack("=i", self.index(link)))
        if via:
            body += attribute(_RTA_GATEWAY, socket.inet_aton(via))
        if source:
            body += attribute(_RTA_PREFSRC, socket.inet_aton(source))
        return body

    def _neighbour(self, link: str | int, address: str) -> bytes:
        head = struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, self.index(link), _NUD_PERMANENT, 0, 0)
        return head + attribute(_NDA_DST, socket.inet_aton(address))

    @staticmethod
    def _parse(body: bytes) -> Link:
        _, _, _, index, flags, _ = struct.unpack_from("=BBHiII", body)
        found = attributes(body[16:])
        return Link(
            index=index,
            name=found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(),
            up=bool(flags & _IFF_UP),
            address=found.get(_IFLA_ADDRESS, b"").hex(":"),
            mtu=struct.unpack("=I", found[_IFLA_MTU])[0] if _IFLA_MTU in found else 0,
        )

    def _ask(self, kind: int, flags: int, body: bytes, what: str) -> list[bytes]:
        """Send one request and return the bodies of its answers; the kernel's error becomes an OSError."""
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, self._sequence, 0)
        self._socket.send(header + body)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 16)
            for answer, sequence, content in _messages(data):
                if sequence != self._sequence:
                    continue  # the rest of an answer that an exception cut short
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    if code:
                        raise OSError(code, os.strerror(code), what)
                    return found
                if answer == _DONE:
                    return found
                found.append(content)


def _messages(data: bytes):
    """(type, sequence, body) of each netlink message in `data`."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
        if length < 16:
            return
        yield kind, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _route_text(destination: str, link: str | int | None, via: str | None) -> str:
    return " ".join(part for part in (destination, f"via {via}" if via else "", f"dev {link}" if link else "") if part)
