"""DNS and rules of a node together, asked by the C library's own resolver."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from inside import in_namespaces
from world import Event, World, ask, endpoint, endpoint_slice, refusal, service

from podlab.network import addresses
from podlab.network.dns import ClusterDns
from podlab.network.netlink import Netlink
from podlab.network.node import NodeNetwork
from podlab.network.watching import SERVICES_PATH
from podlab.node.configuration import NodeConfiguration

pytestmark = pytest.mark.sandbox

_BIND = 4096


def resolve_like_a_pod() -> None:
    """Give this process (in its own mount namespace) the resolv.conf of a pod in namespace `default`."""
    text = (
        f"nameserver {addresses.DNS_SERVICE}\n"
        "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:2 attempts:2\n"
    )
    with tempfile.NamedTemporaryFile("w", delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.path.realpath("/etc/resolv.conf").encode()
    if libc.mount(file.name.encode(), target, None, ctypes.c_ulong(_BIND), None):
        raise OSError(ctypes.get_errno(), "mount", "/etc/resolv.conf")
    Path(file.name).unlink()


async def found(place: Any, name: str) -> set[str]:
    """The addresses of a name, asked from the network namespace of a thread; empty if there are none."""

    def look_up() -> set[str]:
        try:
            answers = socket.getaddrinfo(name, None, socket.AF_UNSPEC, socket.SOCK_STREAM)
        except socket.gaierror as error:
            assert error.errno in (socket.EAI_NONAME, socket.EAI_NODATA), error
            return set()
        return {str(answer[4][0]) for answer in answers}

    return await asyncio.to_thread(place.call, look_up)


@in_namespaces
async def test_pods_and_nodes_find_services_by_name() -> None:
    resolve_like_a_pod()
    world = World(2)
    one, two, client = world.pod(1), world.pod(2), world.pod(1)
    await world.serve(world.pods[one], 8080, "one")
    await world.proxy()
    servers = []
    for index, machine in world.machines.items():
        server = ClusterDns(world.tables[index], make=machine.socket)
        await server.start()
        servers.append(server)
    # The DNS has a Service object, too; it has no endpoints, since each node answers for itself.
    world.service(name="kube-dns", cluster_ip=addresses.DNS_SERVICE, protocol="UDP", port=53)
    world.service()
    world.endpoints(endpoint(one))
    world.service(name="db", cluster_ip="None")
    named = [endpoint(address) | {"hostname": f"db-{number}"} for number, address in enumerate((one, two))]
    world.endpoints(*named, name="db")
    await world.settle()

    for place in (world.pods[client], world.pods[two], world.machines[1]):
        assert await found(place, "web") == {"10.96.0.50"}
        assert await found(place, "web.default") == {"10.96.0.50"}
        assert await found(place, "web.default.svc.cluster.local.") == {"10.96.0.50"}
        assert await found(place, "db") == {one, two}
        assert await found(place, "db-1.db") == {two}
        assert await found(place, "missing") == set()
    name = await asyncio.to_thread(world.pods[client].call, lambda: socket.gethostbyaddr(one)[0])
    assert name == "db-0.db.default.svc.cluster.local"
    (address,) = await found(world.pods[client], "web")
    assert await ask(world.pods[client], address, 80) == ("one", client)
    for server in servers:
        await server.close()
    await world.close()


class Api:
    """An API server's watch of fixed objects, to which the test adds."""

    def __init__(self) -> None:
        self.queues: dict[str, asyncio.Queue[Event]] = {}

    async def list_and_watch(self, path: str) -> AsyncIterator[Event]:
        queue = self.queues.setdefault(path, asyncio.Queue())
        made = [service(), service(name="kube-dns", cluster_ip=addresses.DNS_SERVICE)]
        slices = [endpoint_slice({"addresses": [addresses.node_address(1)], "nodeName": "node-1"})]
        for each in made if path == SERVICES_PATH else slices:
            yield Event("ADDED", each)
        yield Event("SYNC", {"resourceVersion": "1"})
        while True:
            yield await queue.get()


@in_namespaces
async def test_a_whole_node_network_serves_and_its_rules_outlive_it() -> None:
    resolve_like_a_pod()
    address = addresses.node_address(1)
    with Netlink() as links:
        links.set_up("lo")
        for each in (address, addresses.DNS_SERVICE):
            links.add_address("lo", f"{each}/32")
        links.add_route(str(addresses.SERVICES), "lo", source=address)
    paths = dict.fromkeys(
        ("cluster_ca", "certificate", "key", "proxy_certificate", "proxy_key", "serving_certificate",
         "serving_key", "api_client_name", "runtime_socket", "folder", "image_store"),
        "",
    )  # fmt: skip
    configuration = NodeConfiguration("node-1", 1, address, addresses.pod_cidr(1), "https://x", **paths)
    api = Api()
    network = NodeNetwork(api, configuration)
    running = asyncio.create_task(network.run())
    await asyncio.wait_for(network.table.synced.wait(), 5)
    await asyncio.wait_for(network.proxy.settled.wait(), 5)

    class Here:
        @staticmethod
        def socket(family: int, kind: int) -> socket.socket:
            made = socket.socket(family, kind)
            made.setblocking(False)
            return made

        @staticmethod
        def call(action: Any) -> Any:
            return action()

    world = World(0)
    await world.serve(Here, 8080, "host network", address)  # type: ignore[arg-type]
    assert await found(Here, "web") == {"10.96.0.50"}
    reader, writer = await asyncio.open_connection("10.96.0.50", 80)
    assert await reader.readline() == f"host network {address}\n".encode()
    writer.close()
    api.queues[SERVICES_PATH].put_nowait(Event("ADDED", service(name="late", cluster_ip="10.96.0.51")))
    async with asyncio.timeout(60):
        while not await found(Here, "late"):
            await asyncio.sleep(0)
    assert await refusal(Here, "10.96.0.51", 80) == "refused"  # type: ignore[arg-type]

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    reader, writer = await asyncio.open_connection("10.96.0.50", 80)
    assert (await reader.readline()).startswith(b"host network")
    writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection(addresses.DNS_SERVICE, 53)
    await world.close()
