"""Network policies in force, seen by real connections between namespaces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from inside import in_namespaces
from world import SILENCE, World, ask, connects, endpoint, refusal, stream

from podlab.network import addresses
from podlab.network.policy_guard import NAMESPACES_PATH, PODS_PATH, POLICIES_PATH
from podlab.network.policy_rules import TABLE

pytestmark = pytest.mark.sandbox


def declared(world: World, address: str, namespace: str = "shop", **labels: str) -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8080}]
    made = {
        "metadata": {"namespace": namespace, "name": address, "uid": address, "labels": labels},
        "spec": {"nodeName": f"node-{address.split('.')[2]}", "containers": [{"ports": ports}]},
        "status": {"podIP": address, "phase": "Running"},
    }
    world.declare(PODS_PATH, made)
    return made


def policy(name: str, selector: dict[str, str], namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    types = [each.capitalize() for each in spec]
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": name},
        "spec": {"podSelector": {"matchLabels": selector}, "policyTypes": types, **spec},
    }


async def shop(world: World) -> tuple[str, str, str]:
    """A server, a friend on the other machine and a stranger on the same one; everything allowed."""
    server, friend, stranger = world.pod(1), world.pod(2), world.pod(1)
    for port in (8080, 9090, 9100):
        await world.serve(world.pods[server], port, "server")
    await world.serve(world.pods[friend], 8080, "friend")
    for name in ("shop", "bank"):
        labels = {"kubernetes.io/metadata.name": name}
        world.declare(NAMESPACES_PATH, {"metadata": {"name": name, "uid": name, "labels": labels}})
    declared(world, server, app="server")
    declared(world, friend, app="friend")
    declared(world, stranger, "bank", app="stranger")
    await world.guard()
    return server, friend, stranger


async def enforce(world: World, *policies: dict[str, Any]) -> None:
    for each in policies:
        world.declare(POLICIES_PATH, each)
    await world.guarded()


@in_namespaces
async def test_ingress_from_some_pods_at_some_ports() -> None:
    world = World()
    server, friend, stranger = await shop(world)
    assert await refusal(world.pods[stranger], server, 8080) == "answered"
    peers = [{"podSelector": {"matchLabels": {"app": "friend"}}}]
    ports = [{"port": "http"}, {"port": 9090, "endPort": 9095}]
    await enforce(world, policy("p", {"app": "server"}, ingress=[{"from": peers, "ports": ports}]))
    answers = [
        [await refusal(world.pods[who], server, port, SILENCE) for port in (8080, 9090, 9100)]
        for who in (friend, stranger)
    ]
    assert answers == [["answered", "answered", "silence"], ["silence"] * 3]
    assert await refusal(world.pods[server], friend, 8080) == "answered", "egress is free"
    assert await refusal(world.machines[1], server, 9100) == "answered", "the node's own probes"
    assert await refusal(world.machines[2], server, 9100, SILENCE) == "silence", "another node is a stranger"
    with world.netfilter(1) as netfilter:
        (dropped,) = netfilter.counters(TABLE, f"ingress {server}")
        assert dropped.packets >= 5
    world.declare(POLICIES_PATH, policy("p", {}), "DELETED")
    await world.guarded()
    assert await refusal(world.pods[stranger], server, 9100) == "answered"
    with world.netfilter(1) as netfilter:
        assert netfilter.chains(TABLE) == []
    await world.close()


@in_namespaces
async def test_connections_that_exist_stay_and_new_ones_are_denied() -> None:
    world = World()
    server, friend, _ = await shop(world)
    await world.proxy()  # with which the kernel begins to track connections
    loop = asyncio.get_running_loop()
    with stream(world.pods[friend]) as held:
        await loop.sock_connect(held, (server, 8080))
        assert await loop.sock_recv(held, 100) == f"server {friend}\n".encode()
        await enforce(world, policy("deny", {}, ingress=[], egress=[]))
        await loop.sock_sendall(held, b"still there?")
        assert await asyncio.wait_for(loop.sock_recv(held, 100), 60) == b"still there?"
    assert await refusal(world.pods[friend], server, 8080, SILENCE) == "silence"
    await world.close()


@in_namespaces
async def test_egress_by_blocks_and_to_the_nodes_dns() -> None:
    world = World()
    server, friend, _ = await shop(world)
    await world.serve(world.machines[2], 8080, "dns", address=addresses.DNS_SERVICE)
    await world.serve(world.machines[2], 8081, "dns", address=addresses.DNS_SERVICE)
    block = {"ipBlock": {"cidr": "10.244.0.0/16", "except": [f"{server}/32"]}}
    await enforce(world, policy("out", {"app": "friend"}, egress=[{"to": [block]}]))
    other = world.pod(2)
    await world.serve(world.pods[other], 8080, "other")
    assert await refusal(world.pods[friend], server, 8080, SILENCE) == "silence"
    assert await refusal(world.pods[friend], other, 8080) == "answered"
    assert connects(stream(world.pods[friend]), addresses.DNS_SERVICE, 8080, 0.5) == "silence"
    dns = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    await enforce(world, policy("dns", {"app": "friend"}, egress=[{"to": [dns], "ports": [{"port": 8080}]}]))
    assert await refusal(world.pods[friend], addresses.DNS_SERVICE, 8080) == "answered"
    assert connects(stream(world.pods[friend]), addresses.DNS_SERVICE, 8081, 0.5) == "silence"
    assert await refusal(world.pods[server], friend, 8080) == "answered", "ingress is free"
    await world.close()


@in_namespaces
async def test_services_lead_to_pods_whose_policies_see_the_client() -> None:
    world = World()
    server, friend, stranger = await shop(world)
    await world.proxy()
    world.service()
    world.endpoints(endpoint(server))
    await world.settle()
    peers = [{"podSelector": {"matchLabels": {"app": "friend"}}}]
    await enforce(world, policy("p", {"app": "server"}, ingress=[{"from": peers}], egress=[]))
    assert await ask(world.pods[friend], "10.96.0.50", 80) == ("server", friend)
    assert await refusal(world.pods[stranger], "10.96.0.50", 80, SILENCE) == "silence"
    assert await refusal(world.pods[server], "10.96.0.50", 80) == "answered", "itself through its own Service"
    await world.close()


@in_namespaces
async def test_a_new_pod_is_isolated_before_it_starts_and_its_address_is_free_after_its_end() -> None:
    world = World()
    _, friend, _ = await shop(world)
    await enforce(world, policy("deny", {"app": "new"}, ingress=[]))
    new = world.pod(1)
    await world.serve(world.pods[new], 8080, "new")
    made = {"metadata": {"namespace": "shop", "name": "new", "uid": "new", "labels": {"app": "new"}}}
    made["spec"] = {"nodeName": "node-1", "containers": []}
    await world.guards[1].place(made, new)
    assert await refusal(world.pods[friend], new, 8080, SILENCE) == "silence"
    # The API server's view, which does not know the address yet, changes nothing.
    world.declare(PODS_PATH, {**made, "status": {"phase": "Pending"}})
    await world.guarded()
    assert await refusal(world.pods[friend], new, 8080, SILENCE) == "silence"
    world.guards[1].forget("new")
    await world.guarded()
    assert await refusal(world.pods[friend], new, 8080) == "answered"
    await world.close()
