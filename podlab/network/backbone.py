"""The network between the nodes of one cluster: a namespace of the supervisor's, and a link to each machine.

    supervisor's thread (the backbone)                       machine (a node's own namespace)
    lo 172.18.0.1/32                                         lo 172.18.0.11/32, 10.96.0.10/32, 127.0.0.1/8
    n-1 <---------------- veth pair -----------------------> eth0 172.18.0.11/32, default via 172.18.0.1

The machine's routes leave by eth0; the backbone forwards between machines by one route for the node's address
and one for its pods. Neighbours are permanent on both sides, so no address resolution is ever waited for.
An isolated machine's routes lead into a cable without an end, so that packets vanish as in a real partition
instead of being answered with "unreachable".
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from podlab.errors import ClusterError, EnvironmentUnsuitable
from podlab.network import addresses
from podlab.network.namespaces import NetworkThread, set_sysctl
from podlab.network.netlink import Netlink

T = TypeVar("T")

#: Settings of the backbone's namespace and of each machine's. Reverse-path filters are inherited from the
#: host, where they may be anything; so they are set before any link is made, which copies the default.
_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}
#: The largest packet of a virtual cable, like that of the loopback link (65,536). With Ethernet's 1,500 bytes a
#: stream between two pods was half as fast as over loopback, with this about equally fast.
MTU = 65535
_SINK, _SINK_END = "sink", "sink-end"


@dataclass(frozen=True)
class Attachment:
    """A machine's place in the backbone: `link` is the backbone's end of its cable."""

    name: str
    index: int
    link: str
    up: bool = True

    @property
    def address(self) -> str:
        return addresses.node_address(self.index)


def hardware_address(address: str) -> str:
    """A locally administered hardware address made of an IPv4 address: `0a:58:` and its four bytes."""
    return "0a:58:" + socket.inet_aton(address).hex(":")


class Backbone:
    """Holds the namespace; all methods may be called from any thread and take a millisecond or so."""

    def __init__(self, name: str = "backbone") -> None:
        self._thread = NetworkThread(name)
        self._links: Netlink | None = None
        self._attached: dict[str, Attachment] = {}

    def start(self) -> None:
        """Make the namespace; EnvironmentUnsuitable says what the kernel refused.

        The calling process must have CAP_SYS_ADMIN and CAP_NET_ADMIN in its user namespace.
        """
        try:
            self._thread.start()
            self._thread.call(self._prepare)
        except OSError as error:
            self.stop()
            raise _unsuitable(error) from error

    def socket(self, family: int, kind: int) -> socket.socket:
        """A new non-blocking socket in the backbone; it may be used in any thread and any event loop."""
        return self._thread.socket(family, kind)

    def attach(self, name: str, index: int, machine_pid: int) -> None:
        """Connect the machine whose first process is `machine_pid` as node `index`, and set up both ends.

        A machine of that name that is attached already is detached first. ClusterError if it is gone.
        """
        self.detach(name)
        attachment = Attachment(name, index, f"n-{index}")
        try:
            namespace = os.open(f"/proc/{machine_pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ClusterError(
                f"The machine {name} (process {machine_pid}) is gone: {error.strerror}.",
                hint="Look at the machine's log.",
            ) from error
        try:
            self._network(lambda links: _plug(links, attachment, namespace))
            self._inside(namespace, lambda: _configure_machine(attachment.address))
            self._network(lambda links: _route(links, attachment))
        except OSError as error:
            self._unplug(attachment)
            raise ClusterError(f"The machine {name} could not be connected: {_said(error)}.") from error
        finally:
            os.close(namespace)
        self._attached[name] = attachment

    def detach(self, name: str) -> None:
        """Remove the machine's link and routes; a machine that is not attached is fine."""
        if attachment := self._attached.pop(name, None):
            self._unplug(attachment)

    def set_link(self, name: str, up: bool) -> None:
        """Plug the machine's cable in or out; while it is out, packets to and from it vanish in silence."""
        attachment = self._attached.get(name)
        if attachment is None:
            raise ClusterError(f"The machine {name} is not connected.")
        self._attached[name] = attachment = Attachment(name, attachment.index, attachment.link, up)
        self._network(lambda links: _switch(links, attachment))

    def attached(self) -> Mapping[str, Attachment]:
        """The connected machines by name."""
        return dict(self._attached)

    def inside(self, machine_pid: int, action: Callable[[], T]) -> T:
        """Return `action()`, run in the network namespace of a process (short work: it blocks the backbone)."""
        namespace = os.open(f"/proc/{machine_pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._inside(namespace, action)
        finally:
            os.close(namespace)

    def stop(self) -> None:
        """End the backbone and all links; its namespace is freed with the last socket made in it."""
        if self._links:
            for name in list(self._attached):
                self.detach(name)
            self._links.close()
            self._links = None
        self._thread.stop()

    def _prepare(self) -> None:
        _set_sysctls()
        self._links = Netlink()
        self._links.set_up("lo")
        self._links.add_address("lo", f"{addresses.BACKBONE}/32")
        self._links.add_veth(_SINK, _SINK_END)
        self._links.set_up(_SINK)

    def _network(self, action: Callable[[Netlink], None]) -> None:
        links = self._links
        if links is None:
            raise ClusterError("The backbone does not run.")
        self._thread.call(lambda: action(links))

    def _inside(self, namespace: int, action: Callable[[], T]) -> T:
        return self._thread.visit(namespace, action)

    def _unplug(self, attachment: Attachment) -> None:
        def unplug(links: Netlink) -> None:
            # The cable vanishes with the machine's namespace, which may be a moment ago or a moment hence.
            _ignoring(errno.ENODEV, lambda: links.delete_link(attachment.link))
            for destination in _destinations(attachment):
                _ignoring(errno.ESRCH, partial(links.delete_route, destination))

        self._network(unplug)


def _plug(links: Netlink, attachment: Attachment, namespace: int) -> None:
    """Lay the cable between the backbone and the machine's namespace and switch this end on."""
    _ignoring(errno.ENODEV, lambda: links.delete_link(attachment.link))
    links.add_veth(
        attachment.link,
        "eth0",
        peer_namespace=namespace,
        address=hardware_address(addresses.BACKBONE),
        peer_address=hardware_address(attachment.address),
        mtu=MTU,
    )
    links.set_up(attachment.link)


def _switch(links: Netlink, attachment: Attachment) -> None:
    """Switch the backbone's end of the cable on or off; off takes its routes away, so they are laid anew."""
    if attachment.up:
        links.set_up(attachment.link)
    else:
        links.set_down(attachment.link)
    _route(links, attachment)


def _route(links: Netlink, attachment: Attachment) -> None:
    """Lead packets for the node and its pods into its cable, or into the one without an end."""
    link = attachment.link if attachment.up else _SINK
    node, pods = _destinations(attachment)
    links.add_neighbour(link, attachment.address, hardware_address(attachment.address))
    links.add_route(node, link)
    links.add_route(pods, link, via=attachment.address)


def _destinations(attachment: Attachment) -> tuple[str, str]:
    return f"{attachment.address}/32", addresses.pod_cidr(attachment.index)


def _configure_machine(address: str) -> None:
    """Addresses and routes of a machine, in whose namespace the calling thread is."""
    _set_sysctls()
    # A host port is open at 127.0.0.1 of the node, too, from where the way leads out to the pod.
    set_sysctl("net/ipv4/conf/all/route_localnet", "1")
    with Netlink() as links:
        links.set_up("lo")
        # First on lo: the kernel takes it as the source of what the node sends into links without addresses,
        # which those of its pods are. Otherwise probes would come from the address of the DNS.
        links.add_address("lo", f"{address}/32")
        links.add_address("lo", f"{addresses.DNS_SERVICE}/32")
        links.add_address("eth0", f"{address}/32")
        links.set_up("eth0")
        links.add_neighbour("eth0", addresses.BACKBONE, hardware_address(addresses.BACKBONE))
        links.add_route(f"{addresses.BACKBONE}/32", "eth0")
        links.add_route("default", "eth0", via=addresses.BACKBONE, source=address)
        # A route for the output hook, which rewrites Service addresses only after routing has accepted them.
        links.add_route(str(addresses.SERVICES), "lo", source=address)


def _set_sysctls() -> None:
    for name, value in _SYSCTLS.items():
        set_sysctl(name, value)


def _ignoring(number: int, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        if error.errno != number:
            raise


def _said(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _unsuitable(error: OSError) -> EnvironmentUnsuitable:
    hint = "`podlab doctor` shows what this machine offers."
    if error.errno in (errno.EPERM, errno.EACCES):
        hint = "The process needs a user namespace of its own; some containers and desktops forbid them."
    elif error.errno in (errno.EOPNOTSUPP, errno.ENODEV):
        hint = "The kernel lacks virtual cables: `sudo modprobe veth`."
    return EnvironmentUnsuitable(f"The network between the nodes could not be made: {_said(error)}.", hint=hint)
