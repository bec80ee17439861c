"""A small cluster network in one process: a backbone, machines and pods, each a thread in its own namespace."""

from __future__ import annotations

import asyncio
import errno
import itertools
import select
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from podlab.network import addresses
from podlab.network.backbone import Backbone
from podlab.network.namespaces import NetworkThread
from podlab.network.netfilter import Netfilter
from podlab.network.netlink import Netlink
from podlab.network.policy_guard import NAMESPACES_PATH, PODS_PATH, POLICIES_PATH, PolicyGuard
from podlab.network.proxy import ServiceProxy
from podlab.network.watching import SERVICES_PATH, SLICES_PATH, ServiceTable
from podlab.waiting import until_async

_HARDWARE = "ee:ee:ee:ee:ee:ee"
Place = Backbone | NetworkThread

#: Seconds after which nothing will come any more; what must come is waited for much longer.
SILENCE = 2.0


@dataclass
class Event:
    type: str
    object: dict[str, Any]


class World:
    """A backbone with machines numbered from 1, and pods as a node's runtime wires them."""

    def __init__(self, machines: int = 2) -> None:
        self.backbone = Backbone()
        self.backbone.start()
        self.machines: dict[int, NetworkThread] = {}
        self.pods: dict[str, NetworkThread] = {}
        self.tables: dict[int, ServiceTable] = {}
        self.proxies: dict[int, ServiceProxy] = {}
        self.guards: dict[int, PolicyGuard] = {}
        self._objects: dict[str, dict[str, dict[str, Any]]] = {PODS_PATH: {}, NAMESPACES_PATH: {}, POLICIES_PATH: {}}
        self._changes: list[tuple[str, asyncio.Queue[Event]]] = []
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        for index in range(1, machines + 1):
            thread = NetworkThread(f"machine-{index}")
            thread.start()
            self.machines[index] = thread
            self.backbone.attach(f"node-{index}", index, thread.task)

    def links(self) -> set[str]:
        with self.backbone._thread.call(Netlink) as links:
            return {link.name for link in links.links()}

    def pod(self, machine: int) -> str:
        """Make a pod on a machine and return its address."""
        number = next(self._numbers)
        address = f"10.244.{machine}.{number + 1}"
        pod = NetworkThread(f"pod-{number}")
        pod.start()
        namespace = pod.call(lambda: open(f"/proc/{pod.task}/ns/net"))  # noqa: PTH123, SIM115
        with namespace, self.machines[machine].call(Netlink) as node:
            node.add_veth(f"pod{number}", "eth0", peer_namespace=namespace.fileno(), address=_HARDWARE)
            with pod.call(Netlink) as inside:
                inside.set_up("lo")
                inside.add_address("eth0", f"{address}/32")
                inside.set_up("eth0")
                inside.add_route(f"{addresses.POD_GATEWAY}/32", "eth0")
                inside.add_neighbour("eth0", addresses.POD_GATEWAY, _HARDWARE)
                inside.add_route("default", "eth0", via=addresses.POD_GATEWAY)
            node.set_up(f"pod{number}")
            node.add_route(f"{address}/32", f"pod{number}")
        self.pods[address] = pod
        return address

    async def proxy(self) -> None:
        """Run a service proxy on every machine."""
        for index, machine in self.machines.items():
            table = ServiceTable()
            self.tables[index] = table
            self.proxies[index] = ServiceProxy(
                table, f"node-{index}", addresses.node_address(index), netfilter=lambda m=machine: m.call(Netfilter)
            )
            self._tasks.append(asyncio.create_task(self.proxies[index].run()))
            for path in (SERVICES_PATH, SLICES_PATH):
                table.apply(path, Event("SYNC", {}))
        await self.settle()

    def service(self, event: str = "ADDED", **fields: Any) -> None:
        for table in self.tables.values():
            table.apply(SERVICES_PATH, Event(event, service(**fields)))

    def endpoints(self, *endpoints: dict[str, Any], event: str = "MODIFIED", **fields: Any) -> None:
        for table in self.tables.values():
            table.apply(SLICES_PATH, Event(event, endpoint_slice(*endpoints, **fields)))

    async def settle(self) -> None:
        async with asyncio.timeout(60):
            for proxy in self.proxies.values():
                await proxy.settled.wait()
        assert [proxy.status.error for proxy in self.proxies.values()] == [""] * len(self.proxies)

    async def guard(self) -> None:
        """Enforce network policies on every machine."""
        for index, machine in self.machines.items():
            made = PolicyGuard(_Watches(self), f"node-{index}", netfilter=lambda m=machine: m.call(Netfilter))
            self.guards[index] = made
            self._tasks.append(asyncio.create_task(made.run()))
        await self.guarded()

    def declare(self, path: str, made: dict[str, Any], event: str = "ADDED") -> None:
        """Tell the guards of an object."""
        key = made["metadata"]["uid"]
        if event == "DELETED":
            self._objects[path].pop(key)
        else:
            self._objects[path][key] = made
        for watched, queue in self._changes:
            if watched == path:
                queue.put_nowait(Event(event, made))

    async def guarded(self) -> None:
        """Return when what was declared is in force."""

        async def in_force() -> bool:
            heard = all(queue.empty() for _, queue in self._changes)
            known = all(guard._policies.keys() == self._objects[POLICIES_PATH].keys() for guard in self.guards.values())
            return heard and known and all(guard.settled.is_set() for guard in self.guards.values())

        await until_async(in_force, "the policies being in force", timeout=60, interval=0.01)
        assert [guard.error for guard in self.guards.values()] == [""] * len(self.guards)

    def netfilter(self, index: int) -> Netfilter:
        return self.machines[index].call(Netfilter)

    async def serve(self, place: Place, port: int, word: str, address: str = "0.0.0.0") -> None:
        """Answer each TCP connection with `word`, the client's address, and an echo until its end."""
        listener = listening(stream(place), address, port)
        listener.setblocking(False)
        self._tasks.append(asyncio.create_task(_accept(listener, word)))

    async def serve_udp(self, place: Place, port: int, word: str) -> None:
        """Answer each datagram with `word` and the client's address."""
        made = place.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("0.0.0.0", port))
        self._tasks.append(asyncio.create_task(_answer(made, word)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.backbone.stop()


class _Watches:
    """Stands for the API server towards the guards."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def list_and_watch(self, path: str) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._world._changes.append((path, queue))
        for made in list(self._world._objects[path].values()):
            yield Event("ADDED", made)
        yield Event("SYNC", {})
        while True:
            yield await queue.get()


async def _accept(listener: socket.socket, word: str) -> None:
    loop = asyncio.get_running_loop()
    held = set()

    async def talk(connection: socket.socket, peer: str) -> None:
        with connection:
            await loop.sock_sendall(connection, f"{word} {peer}\n".encode())
            while data := await loop.sock_recv(connection, 65536):
                await loop.sock_sendall(connection, data)

    with listener:
        while True:
            connection, (peer, _) = await loop.sock_accept(listener)
            task = asyncio.create_task(talk(connection, peer))
            held.add(task)
            task.add_done_callback(held.discard)


async def _answer(made: socket.socket, word: str) -> None:
    loop = asyncio.get_running_loop()
    with made:
        while True:
            _, peer = await loop.sock_recvfrom(made, 65536)
            await loop.sock_sendto(made, f"{word} {peer[0]}".encode(), peer)


async def ask(place: Place, address: str, port: int, timeout: float = 60) -> tuple[str, str]:
    """(word, the address that the server saw) from a server of `serve`; OSError or TimeoutError."""
    loop = asyncio.get_running_loop()
    client = stream(place)
    with client:
        async with asyncio.timeout(timeout):
            await loop.sock_connect(client, (address, port))
            text = b""
            while not text.endswith(b"\n"):
                piece = await loop.sock_recv(client, 100)
                if not piece:
                    raise ConnectionError(f"{address}:{port} ended the connection after {text!r}")
                text += piece
    word, peer = text.decode().split()
    return word, peer


async def refusal(place: Place, address: str, port: int, patience: float = 60) -> str:
    """How a connection fails: "refused", "silence" (nothing for `patience` seconds), or "answered"."""
    try:
        await ask(place, address, port, patience)
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silence"
    return "answered"


def service(
    name: str = "web",
    cluster_ip: str = "10.96.0.50",
    port: int = 80,
    protocol: str = "TCP",
    node_port: int = 0,
    **spec: Any,
) -> dict[str, Any]:
    port_ = {"name": "main", "port": port, "protocol": protocol, "nodePort": node_port}
    return {
        "metadata": {"namespace": "default", "name": name, "uid": name},
        "spec": {"type": "NodePort" if node_port else "ClusterIP", "clusterIP": cluster_ip, "ports": [port_], **spec},
    }


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    """An endpoint on the node that the address of its pod tells."""
    ready = {"ready": True, "serving": True, "terminating": False} | conditions
    return {"addresses": [address], "conditions": ready, "nodeName": f"node-{address.split('.')[2]}"}


def endpoint_slice(
    *endpoints: dict[str, Any], name: str = "web", port: int = 8080, protocol: str = "TCP"
) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "default",
            "name": f"{name}-1",
            "uid": f"{name}-1",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "main", "port": port, "protocol": protocol}],
        "endpoints": list(endpoints),
    }


def listening(made: socket.socket, address: str, port: int) -> socket.socket:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(512)
    made.settimeout(60)
    return made


def stream(place: Place) -> socket.socket:
    return place.socket(socket.AF_INET, socket.SOCK_STREAM)


def connects(client: socket.socket, address: str, port: int, timeout: float = 60) -> str:
    """The error of a connection attempt, "" if it succeeds, "silence" if there is no answer at all."""
    client.setblocking(False)
    if client.connect_ex((address, port)) == errno.EINPROGRESS:
        if not select.select([], [client], [], timeout)[1]:
            return "silence"
        return errno.errorcode.get(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "")
    return ""
