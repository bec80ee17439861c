"""Node ports, with addresses of the loopback network in the place of nodes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

import pytest

from podlab.network import node_ports
from podlab.network.node_ports import NodePorts
from podlab.network.relay import local_socket
from podlab.network.relay_udp import DatagramDoor
from podlab.waiting import until_async

NODES = ["127.0.0.2", "127.0.0.3"]


@dataclass
class Event:
    type: str
    object: dict[str, Any]


class FakeApi:
    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.posted: list[dict[str, Any]] = []

    async def list_and_watch(self, path: str) -> AsyncIterator[Event]:
        assert path == "/api/v1/services"
        while True:
            yield await self.events.get()

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/default/events"
        self.posted.append(body)
        return body


def service(port: int, name: str = "web", kind: str = "NodePort", protocol: str = "TCP") -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": name, "uid": "1"},
        "spec": {"type": kind, "ports": [{"port": 80, "nodePort": port, "protocol": protocol}]},
    }


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def running(api: FakeApi, nodes: list[str], balancers: IPv4Network | None = None) -> AsyncIterator[NodePorts]:
    ports = NodePorts(local_socket, lambda: nodes, balancers=balancers)
    task = asyncio.create_task(ports.run(api))
    yield ports
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ports.ports() == []


async def put(ports: NodePorts, api: FakeApi, kind: str, made: dict[str, Any]) -> None:
    await asyncio.wait_for(ports.settled.wait(), 5)
    ports.settled.clear()
    api.events.put_nowait(Event(kind, made))
    await asyncio.wait_for(ports.settled.wait(), 5)


async def node(address: str, port: int) -> asyncio.Server:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(address.encode())
        writer.close()

    return await asyncio.start_server(serve, address, port)


async def ask(port: int, host: str = "127.0.0.1", client: str = "127.0.0.1") -> str:
    reader, writer = await asyncio.open_connection(host, port, local_addr=(client, 0))
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer.decode()


async def test_connections_go_to_the_nodes_in_turn_and_stop_with_the_service() -> None:
    api, port = FakeApi(), free_port()
    servers = [await node(address, port) for address in NODES]
    async with running(api, NODES) as ports:
        await put(ports, api, "ADDED", service(port))
        assert ports.ports() == [("127.0.0.1", "TCP", port)]
        assert sorted([await ask(port) for _ in range(4)]) == ["127.0.0.2"] * 2 + ["127.0.0.3"] * 2
        await put(ports, api, "MODIFIED", service(port, kind="ClusterIP"))
        assert ports.ports() == []
        with pytest.raises(ConnectionRefusedError):
            await ask(port)
        await put(ports, api, "ADDED", service(port, kind="LoadBalancer"))
        assert await ask(port) in NODES
        await put(ports, api, "DELETED", service(port))
        assert ports.ports() == []
    for server in servers:
        server.close()


async def test_a_node_that_refuses_or_is_gone_is_passed_over() -> None:
    api, port = FakeApi(), free_port()
    server = await node(NODES[1], port)
    nodes = list(NODES)
    async with running(api, nodes) as ports:
        await put(ports, api, "ADDED", service(port))
        assert [await ask(port) for _ in range(4)] == ["127.0.0.3"] * 4
        nodes.clear()
        with pytest.raises(ConnectionResetError):
            await ask(port)
        nodes.append(NODES[1])
        assert await ask(port) == "127.0.0.3"
    server.close()


async def test_a_silent_node_is_asked_once_and_then_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_ports, "_ATTEMPT", 0.2)
    api, port = FakeApi(), free_port()
    server = await node(NODES[1], port)
    # A listener whose queue is full answers nothing: packets for it are dropped.
    silent = socket.socket()
    silent.bind((NODES[0], port))
    silent.listen(0)
    crowd = [local_socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(4)]
    for each in crowd:
        each.connect_ex((NODES[0], port))
    dialled: list[str] = []
    original = node_ports.dial_tcp

    async def dial(make: Any, address: str, port: int, timeout: float) -> socket.socket:
        dialled.append(address)
        return await original(make, address, port, timeout)

    monkeypatch.setattr(node_ports, "dial_tcp", dial)
    async with running(api, NODES) as ports:
        await put(ports, api, "ADDED", service(port))
        assert [await ask(port) for _ in range(5)] == ["127.0.0.3"] * 5
        assert dialled.count("127.0.0.2") == 1
    for each in (*crowd, silent):
        each.close()
    server.close()


async def test_a_taken_port_is_reported_and_had_when_it_becomes_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_ports, "_RETRY", 0.05)
    api, other = FakeApi(), free_port()
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    servers = [await node(NODES[0], port), await node(NODES[0], other)]
    async with running(api, NODES[:1]) as ports:
        await put(ports, api, "ADDED", service(port))
        await put(ports, api, "ADDED", service(other, name="other"))
        assert ports.ports() == [("127.0.0.1", "TCP", other)]
        (note,) = ports.notes()
        assert note.startswith(f"Node port {port} (TCP) is not open on 127.0.0.1: another program has it.")
        assert [event["reason"] for event in api.posted] == ["HostPortTaken"]
        assert api.posted[0]["involvedObject"]["name"] == "web" and api.posted[0]["message"] == note
        assert await ask(other) == "127.0.0.2"
        taken.close()

        async def both() -> bool:
            return len(ports.ports()) == 2

        await until_async(both, "both ports are open", timeout=60)
        assert await ask(port) == "127.0.0.2"
        assert ports.notes() == []
        assert len(api.posted) == 1
    for server in servers:
        server.close()


async def test_udp_clients_get_their_own_answers() -> None:
    api, port = FakeApi(), free_port(socket.SOCK_DGRAM)
    loop = asyncio.get_running_loop()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, sender: Any) -> None:
            self.transport.sendto(b"you said " + data, sender)

    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=(NODES[0], port))
    async with running(api, NODES[:1]) as ports:
        await put(ports, api, "ADDED", service(port, protocol="UDP"))
        clients = []
        for number in range(5):
            client = local_socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.connect(("127.0.0.1", port))
            clients.append((client, number))
        for _ in range(2):
            for client, number in clients:
                client.send(str(number).encode())
            for client, number in clients:
                answer = await asyncio.wait_for(loop.sock_recv(client, 100), 60)
                assert answer == f"you said {number}".encode()
        door = ports._doors["127.0.0.1", "UDP", port]
        assert isinstance(door, DatagramDoor) and door.clients == 5
        for client, _ in clients:
            client.close()
    server.close()


def test_only_tcp_and_udp_ports_of_the_right_types_count() -> None:
    assert node_ports.openings(service(30080)) == {("127.0.0.1", "TCP", 30080): 30080}
    udp = service(30080, kind="LoadBalancer", protocol="UDP")
    assert node_ports.openings(udp) == {("127.0.0.1", "UDP", 30080): 30080}
    assert node_ports.openings(service(30080, protocol="SCTP")) == {}
    assert node_ports.openings(service(30080, kind="ClusterIP")) == {}
    assert node_ports.openings(service(0)) == {}


async def test_a_load_balancer_has_its_own_port_at_its_own_address() -> None:
    api, first, second, own = FakeApi(), free_port(), free_port(), free_port()
    made = service(first, kind="LoadBalancer")
    made["spec"]["ports"][0]["port"] = own
    made["status"] = {"loadBalancer": {"ingress": [{"ip": "127.64.9.1"}]}}
    foreign = {**made, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    servers = [await node(NODES[0], port) for port in (first, second)]
    async with running(api, NODES[:1], IPv4Network("127.64.9.0/24")) as ports:
        await put(ports, api, "ADDED", foreign)
        assert ports.ports() == [("127.0.0.1", "TCP", first)]
        await put(ports, api, "MODIFIED", made)
        assert ports.ports() == [("127.0.0.1", "TCP", first), ("127.64.9.1", "TCP", own)]
        assert await ask(own, "127.64.9.1") == "127.0.0.2"
        moved = {**made, "spec": {**made["spec"], "ports": [{"port": own, "nodePort": second}]}}
        servers.pop(0).close()
        await put(ports, api, "MODIFIED", moved)
        assert await ask(own, "127.64.9.1") == "127.0.0.2"
    for server in servers:
        server.close()


async def test_a_load_balancer_is_open_to_those_whom_its_service_names_and_the_node_port_to_all() -> None:
    api, port, own = FakeApi(), free_port(), free_port()
    made = service(port, kind="LoadBalancer")
    made["spec"] |= {"loadBalancerSourceRanges": ["127.0.0.8/31", "2001:db8::/32"]}
    made["spec"]["ports"][0]["port"] = own
    made["status"] = {"loadBalancer": {"ingress": [{"ip": "127.64.9.1"}]}}
    server = await node(NODES[0], port)
    async with running(api, NODES[:1], IPv4Network("127.64.9.0/24")) as ports:
        await put(ports, api, "ADDED", made)
        assert await ask(own, "127.64.9.1", client="127.0.0.9") == "127.0.0.2"
        with pytest.raises(ConnectionResetError):
            await ask(own, "127.64.9.1", client="127.0.0.10")
        assert await ask(port, client="127.0.0.10") == "127.0.0.2"
        opened = {**made, "spec": {**made["spec"], "loadBalancerSourceRanges": []}}
        await put(ports, api, "MODIFIED", opened)
        assert await ask(own, "127.64.9.1", client="127.0.0.10") == "127.0.0.2"
    server.close()


async def test_a_load_balancer_takes_no_datagrams_of_others() -> None:
    api, port, own = FakeApi(), free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    made = service(port, kind="LoadBalancer", protocol="UDP")
    made["spec"] |= {"loadBalancerSourceRanges": ["127.0.0.9/32"]}
    made["spec"]["ports"][0]["port"] = own
    made["status"] = {"loadBalancer": {"ingress": [{"ip": "127.64.9.1"}]}}
    loop = asyncio.get_running_loop()
    server = local_socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((NODES[0], port))
    refused, named = (local_socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    refused.bind(("127.0.0.10", 0))
    named.bind(("127.0.0.9", 0))
    async with running(api, NODES[:1], IPv4Network("127.64.9.0/24")) as ports:
        await put(ports, api, "ADDED", made)
        for client, text in ((refused, b"refused"), (named, b"named")):
            await loop.sock_sendto(client, text, ("127.64.9.1", own))
        assert await asyncio.wait_for(loop.sock_recv(server, 100), 60) == b"named"
    for each in (server, refused, named):
        each.close()
