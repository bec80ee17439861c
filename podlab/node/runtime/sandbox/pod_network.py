"""A pod's namespaces and its way to the node: made by the zygote's builder, held by descriptors.

The link is a veth pair, point to point: `eth0` in the pod with its /32 address and a permanent neighbour
169.254.1.1 as its next hop; the other end in the node, with a /32 route to the pod. There is no bridge and no
masquerading, so every packet keeps its source address.
"""

from __future__ import annotations

import os
import socket

from podlab.network import netlink
from podlab.node.runtime.sandbox import kernel

#: Hardware address of the node's end of every pod's link.
NODE_HARDWARE = "ee:ee:ee:ee:ee:ee"
GATEWAY = "169.254.1.1"
#: Bytes of a packet: the most that a veth takes. No wire is on the way, and 1500 would halve the throughput.
_MTU = 65535

#: Settings of a pod's network namespace, as container runtimes make them: any user may listen on port 80 and
#: send pings; no link-local IPv6 addresses, which would only cost time in a network that speaks IPv4.
_SYSCTLS = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 {last_group}",
    "net/ipv6/conf/all/addr_gen_mode": "1",
    "net/ipv6/conf/default/addr_gen_mode": "1",
}

#: Which sysctls belong to a pod's namespaces and so may be asked for (kubelet's safe and unsafe sets).
_NAMESPACED = ("net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


def make_sandbox(order: dict, node: netlink.Netlink) -> list[int]:
    """Make the namespaces of a sandbox spec (contract.SandboxSpec as a dict) and return their descriptors.

    In the order net, uts, ipc; with host_network only ipc. `node` speaks for the node's network namespace.
    Leaves this process inside the new namespaces, also when it fails (OSError says at what).
    """
    spec = order["spec"]
    if spec["host_network"]:
        kernel.unshare(kernel.CLONE_NEWIPC)
        _apply(spec["sysctls"])
        return [kernel.open_namespace("ipc")]
    kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC)
    kernel.set_host_name(spec["hostname"])
    own = [kernel.open_namespace(name) for name in ("net", "uts", "ipc")]
    try:
        for name, value in _SYSCTLS.items():
            _write(name, value.format(last_group=order["last_group"]), missing_is_fine=True)
        with netlink.Netlink() as pod:
            pod.set_up("lo")
            if spec["address"]:
                _connect(node, pod, own[0], order["link"], spec["address"])
        _apply(spec["sysctls"])
    except BaseException:
        for descriptor in own:
            os.close(descriptor)
        raise
    return own


def _connect(node: netlink.Netlink, pod: netlink.Netlink, namespace: int, link: str, address: str) -> None:
    node.add_veth(link, "eth0", peer_namespace=namespace, address=NODE_HARDWARE, mtu=_MTU)
    inside = socket.if_nametoindex("eth0")
    pod.add_address(inside, f"{address}/32")
    pod.set_up(inside)
    pod.add_route(f"{GATEWAY}/32", inside)
    pod.add_neighbour(inside, GATEWAY, NODE_HARDWARE)
    pod.add_route("default", inside, via=GATEWAY)
    outside = node.index(link)
    node.set_up(outside)
    node.add_route(f"{address}/32", outside)


def forget_route(address: str) -> None:
    """Delete the node's route to a pod, so that its address answers no more; the link goes with its namespace."""
    try:
        with netlink.Netlink() as node:
            node.delete_route(f"{address}/32")
    except OSError:
        pass  # another pod has the address by now, or the route went with the link


def _apply(sysctls: dict[str, str]) -> None:
    for name, value in sysctls.items():
        if not name.startswith(_NAMESPACED):
            raise OSError(1, "it belongs to the whole machine, not to a pod", f"sysctl {name}")
        _write(name.replace(".", "/"), value)


def _write(name: str, value: str, missing_is_fine: bool = False) -> None:
    try:
        descriptor = os.open(f"/proc/sys/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if missing_is_fine:
            return
        raise OSError(error.errno, "there is no such setting", f"sysctl {name.replace('/', '.')}") from error
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        if missing_is_fine:
            return
        raise OSError(error.errno, error.strerror, f"sysctl {name.replace('/', '.')} = {value}") from error
    finally:
        os.close(descriptor)
