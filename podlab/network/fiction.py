"""Addresses of the cluster on a machine without network namespaces: fiction outside, loopback inside.

Where the kernel refuses namespaces (the plain runtime), pods and nodes keep the addresses of addresses.py in every
object of the API, and their sockets are at addresses of the loopback network 127.0.0.0/8:

    10.244.i.n       pod n of node i    127.K.i.n
    172.18.0.(10+i)  node i             127.K.0.(10+i)      K is a number of the cluster
    10.96.x.y:port   a Service          a ready backend, picked by the client from a table that the agent writes

`socket_class` makes a socket type that translates in both directions. It is what agent and supervisor use, and what
Python programs in pods get (podlab.node.runtime.plain.inside). No packet is ever sent to a fictional address: what
has no translation is refused. Standard library only, and no other module of podlab: pods load it by its path.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

_PODS, _NODES, _SERVICES = "10.244.", "172.18.0.", "10.96."
_LOCAL = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "")
_MAPPED = "::ffff:"
#: Stands for every node in a table: a node port is open on all of them.
ANY_NODE = "*"
#: ip(7): pick the source port at connect, when the destination is known, so that many connections find one.
_BIND_ADDRESS_NO_PORT = 24

HostPort = tuple[str, int]


def real_host(host: str, loopback: int) -> str:
    """The loopback address of a pod or node; any other host as it is."""
    if host.startswith(_PODS):
        return f"127.{loopback}.{host.removeprefix(_PODS)}"
    if host.startswith(_NODES):
        return f"127.{loopback}.0.{host.removeprefix(_NODES)}"
    return host


def shown_host(host: str, loopback: int) -> str:
    """The reverse of `real_host`."""
    prefix = f"127.{loopback}."
    if not host.startswith(prefix):
        return host
    rest = host.removeprefix(prefix)
    return _NODES + rest.removeprefix("0.") if rest.startswith("0.") else _PODS + rest


def entry(protocol: str, host: str, port: int) -> str:
    """The name of a place in a table of Services: `tcp 10.96.0.1:443`."""
    return f"{protocol.lower()} {host}:{port}"


class Tables:
    """Where Services lead: JSON files {entry: [[host, port], ...]}, read again when they have changed."""

    def __init__(self, paths: Callable[[], Sequence[str]]) -> None:
        self._paths = paths
        self._read: dict[str, tuple[int, dict[str, list[list[Any]]]]] = {}

    def find(self, name: str) -> list[list[Any]] | None:
        """The backends of an entry, None if no table has it."""
        for path in self._paths():
            try:
                changed = os.stat(path).st_mtime_ns
                if self._read.get(path, (0, {}))[0] != changed:
                    with open(path, encoding="utf-8") as file:
                        self._read[path] = changed, json.load(file)
            except OSError:
                continue
            found = self._read[path][1].get(name)
            if found is not None:
                return found
        return None


@dataclass
class Fiction:
    """Translates for one process. `own` is the fictional address that its connections come from.

    `pod`: its localhost is its own address, as in a network namespace of its own; but not the places in `kept`.
    `fixed` are places with a translation of their own (the DNS, whose port 53 may be refused).
    """

    loopback: int
    own: str = ""
    pod: bool = False
    fixed: dict[HostPort, HostPort] = field(default_factory=dict)
    kept: frozenset[HostPort] = frozenset()
    tables: Tables = field(default_factory=lambda: Tables(lambda: ()))
    #: The tables of all nodes, for what is open at their addresses; without them `tables` has to do.
    nodes: Tables | None = None
    clock: Callable[[], float] = time.monotonic
    _before: dict[str, tuple[list[Any] | None, float]] = field(default_factory=dict)
    _turn: Any = field(default_factory=lambda: itertools.count(os.getpid()))

    @property
    def source(self) -> str:
        """The loopback address of this process, or none."""
        return real_host(self.own, self.loopback) if self.own else ""

    def target(self, host: str, port: int, protocol: str = "tcp") -> HostPort:
        """Where to connect to; ConnectionRefusedError where nothing in the cluster answers."""
        if (host, port) in self.fixed:
            return self.fixed[host, port]
        if (host, port) in self.kept:
            return host, port
        if self.pod and host in _LOCAL:
            if not self.own.startswith(_NODES):
                return self.source, port
            host = self.own  # the node's own network: what is open on the node is open on its loopback
        if host.startswith((_SERVICES, _NODES)):
            tables = self.nodes if self.nodes and host.startswith(_NODES) else self.tables
            backends = tables.find(entry(protocol, host, port))
            if backends is None and host.startswith(_NODES):
                backends = self.tables.find(entry(protocol, ANY_NODE, port))
            if backends:
                sticky = tables.find(entry(f"sticky {protocol}", host, port))
                if sticky:
                    chosen, number = self._same(entry(protocol, host, port), backends, sticky[0][0])
                else:
                    chosen, number = backends[next(self._turn) % len(backends)]
                return real_host(chosen, self.loopback), number
            if host.startswith(_SERVICES) or backends is not None:
                raise ConnectionRefusedError(errno.ECONNREFUSED, f"no endpoint is behind {host}:{port}")
        return real_host(host, self.loopback), port

    def _same(self, name: str, backends: list[list[Any]], seconds: float) -> list[Any]:
        """The backend of a client that stays with one, until it has been away for `seconds`.

        At first it is told by the client's address, so that other programs of the pod find the same one.
        """
        now = self.clock()
        last, when = self._before.get(name, (None, 0.0))
        if last is None:
            last = backends[zlib.crc32(self.own.encode()) % len(backends)]
        elif last not in backends or now - when > seconds:
            last = backends[next(self._turn) % len(backends)]
        self._before[name] = last, now
        return last

    def place(self, host: str, port: int) -> HostPort:
        """Where to listen."""
        if (host, port) in self.fixed:
            return self.fixed[host, port]
        if self.pod and (host in _LOCAL or host == self.own):
            return self.source, port
        return real_host(host, self.loopback), port

    def shown(self, host: str, port: int) -> HostPort:
        """The fictional form of a real place."""
        for fictional, real in self.fixed.items():
            if real == (host, port):
                return fictional
        return shown_host(host, self.loopback), port


def socket_class(base: type[socket.socket], fiction: Fiction) -> type[socket.socket]:
    """A subclass of `base` (socket.socket) whose addresses are those of the fiction."""

    def inward(translate: Callable[..., HostPort], made: socket.socket, address: Any) -> Any:
        if made.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
            return address
        host, port = address[:2]
        if not isinstance(host, str):
            return address
        plain = host.removeprefix(_MAPPED)
        if not (plain in _LOCAL or ":" in plain or plain.startswith("<") or plain.replace(".", "").isdigit()):
            plain = socket.gethostbyname(plain)  # the system's own look-up, later, would know no name of the cluster
        options = ("udp",) if made.type == socket.SOCK_DGRAM and translate == fiction.target else ()
        real, number = translate(plain, port, *options)
        if made.family == socket.AF_INET or ":" in real:
            return (real, number, *address[2:])
        if real == plain and not host.startswith(_MAPPED):
            return address
        base.setsockopt(made, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        return (_MAPPED + real, number, *address[2:])

    def outward(address: Any) -> Any:
        if not (isinstance(address, tuple) and len(address) >= 2 and isinstance(address[0], str)):
            return address
        prefix = _MAPPED if address[0].startswith(_MAPPED) else ""
        host, port = fiction.shown(address[0].removeprefix(_MAPPED), address[1])
        return (prefix + host, port, *address[2:])

    def prepare(made: socket.socket, address: Any) -> Any:
        """The real address to connect to; the socket gets this process's own address as its source."""
        real = inward(fiction.target, made, address)
        ours = isinstance(real, tuple) and str(real[0]).startswith(f"127.{fiction.loopback}.")
        if fiction.own and ours and made.family == socket.AF_INET and base.getsockname(made) == ("0.0.0.0", 0):
            if made.type == socket.SOCK_STREAM:
                base.setsockopt(made, socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            base.bind(made, (fiction.source, 0))
        return real

    class FictionalSocket(base):  # type: ignore[misc,valid-type]
        """A socket that knows the cluster's addresses."""

        def connect(self, address: Any) -> None:
            base.connect(self, prepare(self, address))

        def connect_ex(self, address: Any) -> int:
            try:
                return base.connect_ex(self, prepare(self, address))
            except OSError as error:
                return error.errno or errno.ECONNREFUSED

        def bind(self, address: Any) -> None:
            base.bind(self, inward(fiction.place, self, address))

        def sendto(self, data: Any, *rest: Any) -> int:
            return base.sendto(self, data, *rest[:-1], prepare(self, rest[-1]))  # type: ignore[call-overload]

        def recvfrom(self, *sizes: Any) -> Any:
            data, address = base.recvfrom(self, *sizes)
            return data, outward(address)

        def recvfrom_into(self, *options: Any) -> Any:
            count, address = base.recvfrom_into(self, *options)
            return count, outward(address)

        def getsockname(self) -> Any:
            return outward(base.getsockname(self))

        def getpeername(self) -> Any:
            return outward(base.getpeername(self))

        def accept(self) -> Any:
            made, address = base.accept(self)
            return made, outward(address)

    return FictionalSocket


def install(fiction: Fiction) -> None:
    """Let every socket that this process makes from now on be one of the fiction's."""
    socket.socket = socket_class(socket.socket, fiction)  # type: ignore[misc]
