"""A pod's network: its address, its neighbours, its port numbers, its settings."""

from __future__ import annotations

import asyncio
import json

import pytest
from sandbox_room import Node

from podlab.errors import RuntimeRefused

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces("pods have a network of their own")]

#: Answers each connection with its own word and the client's address.
SERVER = """
import socket
listener = socket.create_server(("0.0.0.0", 8080))
print("listening", flush=True)
while True:
    peer, address = listener.accept()
    peer.sendall(f"{word} {{address[0]}}".encode())
    peer.close()
"""

ASK = """
import socket
peer = socket.create_connection(("{address}", {port}), timeout=60)
print(peer.recv(100).decode())
"""

#: An echo request over an unprivileged ICMP socket, as `ping` sends it.
PING = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as ping:
    ping.settimeout(60)
    ping.sendto(b"\\x08\\0\\0\\0\\0\\0\\0\\x01hello", ("{address}", 0))
    answer, sender = ping.recvfrom(100)
    print(sender[0], answer[8:].decode())
"""

LINKS = "import json, socket; print(json.dumps(socket.if_nameindex()))"


async def server(node: Node, pod: str, word: str, **changes: object) -> str:
    container = await node.start(pod, node.room.python, "-c", SERVER.format(word=word), **changes)
    await node.says(container, "listening")
    return container


async def test_two_pods_listen_on_the_same_port_and_see_each_other_s_address(node: Node) -> None:
    one, two = await node.pod(), await node.pod()
    await server(node, one, "one")
    await server(node, two, "two")
    for client, target, word in ((one, two, "two"), (two, one, "one"), (one, one, "one")):
        answer = await node.python(client, ASK.format(address=node.addresses[target], port=8080))
        assert answer == f"{word} {node.addresses[client]}\n"


async def test_two_pods_ping_each_other_also_as_an_ordinary_user(node: Node) -> None:
    one, two = await node.pod(), await node.pod()
    target = node.addresses[two]
    assert await node.python(one, PING.format(address=target)) == f"{target} hello\n"
    assert await node.python(one, PING.format(address=target), user=1000, group=1000) == f"{target} hello\n"


async def test_the_node_reaches_its_pods(node: Node) -> None:
    pod = await node.pod()
    await server(node, pod, "pod")
    program = f"""
peer = socket.create_connection(({node.addresses[pod]!r}, 8080), timeout=60)
print(json.dumps(peer.recv(100).decode()))
"""
    assert await node.inside(program) == "pod 172.18.0.11"


async def test_the_containers_of_a_pod_share_its_loopback_and_others_do_not(node: Node) -> None:
    one, two = await node.pod(), await node.pod()
    await server(node, one, "one")
    assert await node.python(one, ASK.format(address="127.0.0.1", port=8080)) == "one 127.0.0.1\n"
    exit_, _ = await node.run(two, node.room.python, "-c", ASK.format(address="127.0.0.1", port=8080))
    assert exit_.status == 1


async def test_a_pod_has_its_loopback_and_one_link_and_its_host_name(node: Node) -> None:
    pod = await node.pod(hostname="my-pod-0")
    assert json.loads(await node.python(pod, LINKS)) == [[1, "lo"], [2, "eth0"]]
    assert await node.shell(pod, "hostname; cat /proc/sys/kernel/hostname") == "my-pod-0\nmy-pod-0\n"
    assert await node.shell(pod, "cat /sys/class/net/eth0/mtu /sys/class/net/eth0/operstate") == "65535\nup\n"


async def test_any_user_may_listen_on_port_80(node: Node) -> None:
    program = "import socket; socket.create_server(('', 80)); print('ok')"
    assert await node.python(await node.pod(), program, user=1000, group=1000) == "ok\n"


async def test_the_host_network_is_the_node_s_own(node: Node) -> None:
    pod = await node.pod(host_network=True, address=None)
    links = [name for _, name in json.loads(await node.python(pod, LINKS))]
    assert "eth0" not in links
    assert "lo" in links
    assert await node.shell(pod, "hostname") == "node-1\n"
    program = "print(json.dumps(os.readlink('/proc/self/ns/net')))"
    assert await node.inside(program) == (await node.shell(pod, "readlink /proc/self/ns/net")).strip()


async def test_a_socket_opened_in_a_sandbox_belongs_to_it(node: Node) -> None:
    pod, other = await node.pod(), await node.pod()
    await server(node, pod, "pod")
    program = f"""
found = []
for name in ({pod!r}, {other!r}):
    peer = runtime.open_in_sandbox(name, socket.AF_INET, socket.SOCK_STREAM)
    found.append(peer.connect_ex(("127.0.0.1", 8080)))
    if found[-1] == 0:
        found.append(peer.recv(100).decode())
print(json.dumps(found))
"""
    import errno

    assert await node.inside(program) == [0, "pod 127.0.0.1", errno.ECONNREFUSED]
    with pytest.raises(RuntimeRefused, match="does not exist"):
        await asyncio.to_thread(node.runtime.open_in_sandbox, "unknown", 2, 1)


async def test_namespaced_settings_are_the_pod_s_own(node: Node) -> None:
    pod = await node.pod(sysctls={"net.core.somaxconn": "77", "kernel.shm_rmid_forced": "1"})
    other = await node.pod()
    script = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shm_rmid_forced"
    assert await node.shell(pod, script) == "77\n1\n"
    assert await node.shell(other, script) != "77\n1\n"


@pytest.mark.parametrize(
    ("sysctls", "text"),
    [
        ({"kernel.core_pattern": "x"}, "belongs to the whole machine"),
        ({"vm.swappiness": "1"}, "belongs to the whole machine"),
        ({"net.no.such": "1"}, "no such setting"),
        ({"net.core.somaxconn": "many"}, "sysctl net.core.somaxconn = many"),
    ],
)
async def test_other_settings_are_refused_and_nothing_is_left(node: Node, sysctls: dict[str, str], text: str) -> None:
    with pytest.raises(RuntimeRefused, match=text) as refused:
        await node.pod(id="refused", sysctls=sysctls)
    assert refused.value.reason == "CreatePodSandboxError"
    assert "refused" not in [state.id for state in (await node.runtime.inventory()).sandboxes]


async def test_making_a_sandbox_twice_is_one_sandbox(node: Node) -> None:
    settings = {"id": "twice", "address": "10.244.250.1", "hostname": "twice"}
    await asyncio.gather(node.pod(**settings), node.pod(**settings))
    await node.pod(**settings)
    assert [state.id for state in (await node.runtime.inventory()).sandboxes].count("twice") == 1


async def test_an_address_serves_a_new_pod_when_the_old_one_is_removed(node: Node) -> None:
    client, address = await node.pod(), "10.244.250.2"
    for word in ("old", "new", "newest"):
        pod = await node.pod(address=address)
        container = await server(node, pod, word)
        assert (await node.python(client, ASK.format(address=address, port=8080))).startswith(word)
        await node.runtime.remove_sandbox(pod)
        assert (await node.runtime.wait_container(container)).signal == 9


async def test_a_removed_pod_does_not_answer(node: Node) -> None:
    client, pod = await node.pod(), await node.pod()
    await server(node, pod, "pod")
    await node.runtime.remove_sandbox(pod)
    exit_, _ = await node.run(client, node.room.python, "-c", ASK.format(address=node.addresses[pod], port=8080))
    assert exit_.status == 1


async def test_shared_memory_is_shared_in_a_pod_and_not_beyond(node: Node) -> None:
    one, two = await node.pod(), await node.pod()
    await node.shell(one, "echo here > /dev/shm/word; chmod 600 /dev/shm/word")
    assert await node.shell(one, "cat /dev/shm/word") == "here\n"
    assert await node.shell(two, "ls /dev/shm") == ""


async def test_a_pod_that_fills_its_shared_memory_leaves_the_others_theirs(node: Node) -> None:
    one, two = await node.pod(), await node.pod()
    fill = "head -c 100m /dev/zero > /dev/shm/full 2> /dev/null || true; stat -c %s /dev/shm/full"
    assert await node.shell(one, fill) == f"{64 << 20}\n"
    assert await node.shell(two, "head -c 1m /dev/zero > /dev/shm/some; stat -c %s /dev/shm/some") == f"{1 << 20}\n"
    many = "import os\nfor n in range(20000): os.close(os.open(f'/dev/shm/{n}', os.O_CREAT))"
    exit_, _ = await node.run(two, node.room.python, "-c", many)
    assert (exit_.status, "No space left on device" in node.log(node.containers[-1]).read_text()) == (1, True)


async def test_the_shared_memory_of_a_removed_pod_is_free_again(node: Node) -> None:
    mounts = """
from podlab.node.runtime.sandbox.memory_volumes import mounted
print(json.dumps(sum("/shared-memory/" in path for path in mounted())))
"""
    before = await node.inside(mounts)
    pod = await node.pod()
    await node.shell(pod, "echo here > /dev/shm/word")
    assert await node.inside(mounts) == before + 1
    await node.runtime.remove_sandbox(pod)
    assert await node.inside(mounts) == before
