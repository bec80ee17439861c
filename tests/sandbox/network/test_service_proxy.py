from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest
from inside import in_namespaces
from world import SILENCE, World, ask, endpoint, refusal

from podlab.network import addresses
from podlab.network.netlink import Netlink
from podlab.network.service_rules import TABLE

pytestmark = pytest.mark.sandbox

WEB = "10.96.0.50"
NODE_1, NODE_2 = addresses.node_address(1), addresses.node_address(2)


async def two_backends(world: World) -> tuple[str, str, str]:
    """A server on each machine behind the Service `web`, and a client; their addresses."""
    one, two, client = world.pod(1), world.pod(2), world.pod(1)
    await world.serve(world.pods[one], 8080, "one")
    await world.serve(world.pods[two], 8080, "two")
    await world.proxy()
    return one, two, client


@in_namespaces
async def test_connections_spread_over_backends_and_keep_the_clients_address() -> None:
    world = World()
    one, two, client = await two_backends(world)
    world.service()
    world.endpoints(endpoint(one), endpoint(two))
    await world.settle()
    answers = [await ask(world.pods[client], WEB, 80) for _ in range(200)]
    spread = Counter(word for word, _ in answers)
    # 200 fair coin tosses fall outside of 60 to 140 less than once in 10,000,000 times.
    assert 60 < spread["one"] < 140, spread
    assert {peer for _, peer in answers} == {client}
    with world.netfilter(1) as netfilter:
        (count,) = netfilter.counters(TABLE, "service default/web/tcp/main")
    assert count.packets == 200 and count.comment == "default/web/tcp/main"
    await world.close()


@in_namespaces
async def test_the_node_itself_and_other_nodes_reach_a_service() -> None:
    world = World()
    one, two, _ = await two_backends(world)
    world.service()
    world.endpoints(endpoint(one), endpoint(two))
    await world.settle()
    for index, machine in world.machines.items():
        answers = {await ask(machine, WEB, 80) for _ in range(40)}
        assert answers == {("one", addresses.node_address(index)), ("two", addresses.node_address(index))}
    await world.close()


@in_namespaces
async def test_a_pod_reaches_itself_through_its_own_service() -> None:
    world = World()
    one, _, _ = await two_backends(world)
    world.service()
    world.endpoints(endpoint(one))
    await world.settle()
    assert await ask(world.pods[one], WEB, 80) == ("one", NODE_1)
    await world.close()


@in_namespaces
async def test_without_endpoints_a_client_is_refused_at_once() -> None:
    world = World()
    one, _, client = await two_backends(world)
    world.service()
    world.service(name="sharp", cluster_ip="10.96.0.51", internalTrafficPolicy="Local")
    await world.settle()
    for place in (world.pods[client], world.machines[1]):
        assert await refusal(place, WEB, 80) == "refused"
        assert await refusal(place, WEB, 81) == "refused"  # a port that the Service has not
        assert await refusal(place, "10.96.200.1", 80) == "refused"  # nobody's address
    world.endpoints(endpoint(one))
    world.endpoints(endpoint(one), name="sharp")
    await world.settle()
    assert (await ask(world.pods[client], WEB, 80))[0] == "one"
    assert (await ask(world.pods[client], "10.96.0.51", 80))[0] == "one"
    # There is an endpoint, but not on this node, and the policy forbids the others: silence, as upstream.
    assert await refusal(world.machines[2], "10.96.0.51", 80, SILENCE) == "silence"
    world.endpoints()
    await world.settle()
    assert await refusal(world.pods[client], WEB, 80) == "refused"
    world.service("DELETED")
    await world.settle()
    assert await refusal(world.pods[client], WEB, 80) == "refused"
    await world.close()


@in_namespaces
async def test_udp_without_endpoints_is_refused() -> None:
    world = World(1)
    client = world.pod(1)
    await world.proxy()
    world.service(protocol="UDP", port=53)
    await world.settle()
    made = world.pods[client].socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.connect((WEB, 53))
    made.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(made, 10), 5)
    made.close()
    await world.close()


@in_namespaces
async def test_session_affinity_holds_until_its_backend_goes() -> None:
    world = World()
    one, two, client = await two_backends(world)
    other = world.pod(2)
    world.service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 100}})
    world.endpoints(endpoint(one), endpoint(two))
    await world.settle()
    first = {await ask(world.pods[client], WEB, 80) for _ in range(30)}
    assert len(first) == 1
    # Each node remembers for itself.
    assert len({await ask(world.pods[other], WEB, 80) for _ in range(30)}) == 1
    ((word, peer),) = first
    assert peer == client
    gone, left = (one, two) if word == "one" else (two, one)
    world.endpoints(endpoint(left))
    await world.settle()
    other_word = {await ask(world.pods[client], WEB, 80) for _ in range(30)}
    assert other_word == {("two" if word == "one" else "one", client)}
    # The old one comes back: the client stays where it is.
    world.endpoints(endpoint(left), endpoint(gone))
    await world.settle()
    assert {await ask(world.pods[client], WEB, 80) for _ in range(30)} == other_word
    await world.close()


@in_namespaces
async def test_many_clients_with_affinity_are_spread() -> None:
    world = World()
    one, two, client = await two_backends(world)
    world.service(sessionAffinity="ClientIP")
    world.endpoints(endpoint(one), endpoint(two))
    await world.settle()
    with world.machines[1].call(Netlink) as node:
        node.add_route("10.244.1.128/25", f"pod{int(client.split('.')[3]) - 1}")
    words = Counter()
    with world.pods[client].call(Netlink) as inside:
        for number in range(128, 228):
            inside.add_address("eth0", f"10.244.1.{number}/32")
    loop = asyncio.get_running_loop()
    for number in range(128, 228):
        seen = set()
        for _ in range(2):
            made = world.pods[client].socket(socket.AF_INET, socket.SOCK_STREAM)
            made.bind((f"10.244.1.{number}", 0))
            await asyncio.wait_for(loop.sock_connect(made, (WEB, 80)), 60)
            seen.add((await loop.sock_recv(made, 100)).split()[0])
            made.close()
        assert len(seen) == 1
        words[seen.pop()] += 1
    assert 20 < words[b"one"] < 80, words
    await world.close()


@in_namespaces
async def test_node_ports_answer_on_every_node_and_hide_the_client() -> None:
    world = World()
    one, _, _ = await two_backends(world)
    world.service(node_port=30080)
    world.endpoints(endpoint(one))
    await world.settle()
    assert await ask(world.backbone, NODE_1, 30080) == ("one", NODE_1)
    assert await ask(world.backbone, NODE_2, 30080) == ("one", NODE_2)
    # From a pod and from the node itself.
    assert (await ask(world.pods[one], NODE_2, 30080))[0] == "one"
    assert (await ask(world.machines[2], NODE_2, 30080))[0] == "one"
    world.endpoints()
    await world.settle()
    assert await refusal(world.backbone, NODE_1, 30080) == "refused"
    await world.close()


@in_namespaces
async def test_external_traffic_policy_local_keeps_the_client_and_the_node() -> None:
    world = World()
    one, _two, client = await two_backends(world)
    world.service(node_port=30080, externalTrafficPolicy="Local")
    world.endpoints(endpoint(one))
    await world.settle()
    assert await ask(world.backbone, NODE_1, 30080) == ("one", addresses.BACKBONE)
    assert await refusal(world.backbone, NODE_2, 30080, SILENCE) == "silence"
    # Pods and nodes are no outsiders.
    assert await ask(world.pods[client], NODE_1, 30080) == ("one", client)
    assert await ask(world.machines[2], NODE_2, 30080) == ("one", NODE_2)
    assert await ask(world.pods[client], WEB, 80) == ("one", client)
    await world.close()


@in_namespaces
async def test_external_addresses_answer_through_a_node() -> None:
    world = World()
    one, _, client = await two_backends(world)
    world.service(externalIPs=["203.0.113.7"])
    world.endpoints(endpoint(one))
    await world.settle()
    assert await ask(world.pods[client], "203.0.113.7", 80) == ("one", NODE_1)
    await world.close()


@in_namespaces
async def test_terminating_backends_serve_while_no_other_does() -> None:
    world = World()
    one, two, client = await two_backends(world)
    world.service()
    leaving = endpoint(one, ready=False, serving=True, terminating=True)
    world.endpoints(leaving, endpoint(two))
    await world.settle()
    assert {word for word, _ in [await ask(world.pods[client], WEB, 80) for _ in range(20)]} == {"two"}
    world.endpoints(leaving, endpoint(two, ready=False, serving=False))
    await world.settle()
    assert {word for word, _ in [await ask(world.pods[client], WEB, 80) for _ in range(20)]} == {"one"}
    await world.close()


@in_namespaces
async def test_udp_works_and_a_client_that_never_pauses_follows_its_service() -> None:
    world = World()
    one, two, client = world.pod(1), world.pod(2), world.pod(1)
    await world.serve_udp(world.pods[one], 8080, "one")
    await world.serve_udp(world.pods[two], 8080, "two")
    await world.proxy()
    world.service(protocol="UDP")
    world.endpoints(endpoint(one), protocol="UDP")
    await world.settle()
    loop = asyncio.get_running_loop()
    made = world.pods[client].socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.connect((WEB, 80))

    async def asked() -> str:
        await loop.sock_sendall(made, b"?")
        return (await asyncio.wait_for(loop.sock_recv(made, 100), 60)).decode()

    assert [await asked() for _ in range(5)] == [f"one {client}"] * 5
    world.endpoints(endpoint(two), protocol="UDP")
    await world.settle()
    assert [await asked() for _ in range(5)] == [f"two {client}"] * 5
    made.close()
    await world.close()


@in_namespaces
async def test_no_connection_fails_while_endpoints_change() -> None:
    world = World()
    one, two, client = await two_backends(world)
    world.service()
    world.endpoints(endpoint(one))
    await world.settle()
    failures: list[str] = []
    asked = 0
    changing = True

    async def traffic() -> None:
        nonlocal asked
        while changing:
            try:
                await ask(world.pods[client], WEB, 80)
            except (OSError, TimeoutError) as error:
                failures.append(repr(error))
            asked += 1

    clients = [asyncio.create_task(traffic()) for _ in range(8)]
    states = [[one], [one, two], [two], [two, one]]
    for number in range(40):
        world.endpoints(*(endpoint(address) for address in states[number % 4]))
        # Another Service comes and goes beside it.
        world.service("ADDED" if number % 2 else "DELETED", name="other", cluster_ip="10.96.0.99")
        await world.settle()
    changing = False
    await asyncio.gather(*clients)
    assert failures == []
    assert asked > 100
    assert world.proxies[1].status.changes >= 40
    await world.close()


@in_namespaces
async def test_an_open_connection_outlives_its_backends_removal() -> None:
    world = World()
    one, two, client = await two_backends(world)
    world.service()
    world.endpoints(endpoint(one))
    await world.settle()
    loop = asyncio.get_running_loop()
    made = world.pods[client].socket(socket.AF_INET, socket.SOCK_STREAM)
    await loop.sock_connect(made, (WEB, 80))
    assert (await loop.sock_recv(made, 100)).startswith(b"one")
    world.endpoints(endpoint(two))
    await world.settle()
    world.service("DELETED")
    await world.settle()
    await loop.sock_sendall(made, b"still there")
    assert await asyncio.wait_for(loop.sock_recv(made, 100), 60) == b"still there"
    made.close()
    await world.close()


@in_namespaces
async def test_a_new_proxy_takes_over_the_rules_of_the_old_one() -> None:
    world = World(1)
    one = world.pod(1)
    await world.serve(world.pods[one], 8080, "one")
    await world.proxy()
    world.service()
    world.service(name="old", cluster_ip="10.96.0.60", sessionAffinity="ClientIP")
    world.endpoints(endpoint(one))
    world.endpoints(endpoint(one), name="old")
    await world.settle()
    world._tasks.pop().cancel()  # the agent ends, its rules stay
    assert (await ask(world.machines[1], WEB, 80))[0] == "one"
    await world.proxy()
    world.service()
    world.endpoints(endpoint(one))
    await world.settle()
    assert (await ask(world.machines[1], WEB, 80))[0] == "one"
    with world.netfilter(1) as netfilter:
        assert not [name for name in netfilter.chains(TABLE) if "default/old" in name]
    await world.close()


@in_namespaces
async def test_a_thousand_services_load_and_one_change_is_small() -> None:
    world = World(1)
    one, two = world.pod(1), world.pod(1)
    await world.serve(world.pods[one], 8080, "one")
    await world.proxy()
    for number in range(1000):
        name, address = f"s{number}", f"10.96.{1 + number // 250}.{1 + number % 250}"
        world.service(name=name, cluster_ip=address, node_port=30000 + number)
        world.endpoints(endpoint(one), endpoint(one.replace("10.244.1", "10.244.2")), name=name)
    await world.settle()
    world.endpoints(endpoint(one), name="s999")
    before = world.proxies[1].status.changes
    await world.settle()
    assert world.proxies[1].status.changes == before + 1
    assert (await ask(world.pods[two], "10.96.4.250", 80))[0] == "one"
    assert (await ask(world.backbone, NODE_1, 30999))[0] == "one"
    await world.close()
