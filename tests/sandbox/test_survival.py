"""What outlives what: clients, the machine, its room; bursts; and garbage on the socket."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import struct

import pytest
from sandbox_room import PATH, Node, close_room, descendants, name_of, open_room, running, text_of

from podlab import waiting
from podlab.errors import RuntimeRefused
from podlab.node.runtime.contract import SandboxSpec
from podlab.node.runtime.sandbox.client import SandboxRuntime

pytestmark = pytest.mark.sandbox


@pytest.fixture
def own_room(user: int | None):
    """A room of this test's own, to be killed."""
    room = open_room(user, ("node-1", "node-2"))
    yield room
    close_room(room)


async def test_a_new_client_finds_everything_and_waits_for_what_the_old_one_started(node: Node) -> None:
    pod = await node.pod(labels={"io.kubernetes.pod.name": "web"})
    spec = node.spec(pod, "sh", "-c", "read x; echo $x; exit 9", stdin=True, labels={"name": "main"})
    first = SandboxRuntime(node.room.socket())
    started = await first.start_container(spec)
    node.containers.append(spec.id)
    ended = node.spec(pod, "sh", "-c", "exit 8")
    await first.start_container(ended)
    node.containers.append(ended.id)
    await first.wait_container(ended.id)
    waiter = asyncio.create_task(first.wait_container(spec.id))
    await asyncio.sleep(0)
    await first.close()
    with pytest.raises(RuntimeRefused, match="closed"):
        await waiter

    second = SandboxRuntime(node.room.socket())
    inventory = await second.inventory()
    sandboxes = {state.id: state for state in inventory.sandboxes}
    containers = {state.id: state for state in inventory.containers}
    assert sandboxes[pod].address == node.addresses[pod]
    assert sandboxes[pod].labels == {"io.kubernetes.pod.name": "web"}
    assert containers[spec.id] == started
    assert containers[spec.id].labels == {"name": "main"}
    assert containers[ended.id].exit is not None
    assert containers[ended.id].exit.status == 8

    given, output = await second.attach(spec.id, stdin=True)
    assert given is not None
    given.setblocking(True)
    given.sendall(b"still here\n")
    assert (await second.wait_container(spec.id)).status == 9
    assert text_of(node.log(spec.id)) == "still here\n"
    given.close()
    output.close()
    await second.close()


@pytest.mark.namespaces("the kernel ends a machine with its first process; here its guards do (test_plain.py)")
async def test_killing_a_machine_ends_its_processes_and_tells_its_clients(own_room) -> None:
    runtimes = {name: SandboxRuntime(own_room.socket(name)) for name in ("node-1", "node-2")}
    nodes = {name: Node(own_room, runtime) for name, runtime in runtimes.items()}
    containers = {
        name: await one.start(await one.pod(), "sh", "-c", "setsid sleep 1000 & sleep 1000")
        for name, one in nodes.items()
    }
    waiter = asyncio.create_task(runtimes["node-1"].wait_container(containers["node-1"]))
    await asyncio.sleep(0)
    machine = own_room.machine("node-1")
    inside = descendants(machine)
    assert len(inside) >= 4
    os.kill(machine, signal.SIGKILL)
    with pytest.raises(RuntimeRefused, match="does not answer"):
        await waiter
    waiting.until(
        lambda: not any(map(running, inside)),
        "the end of the machine's processes",
        timeout=60,
    )
    with pytest.raises(RuntimeRefused, match="does not answer"):
        await runtimes["node-1"].inventory()
    others = await runtimes["node-2"].inventory()
    assert [state.exit for state in others.containers] == [None]
    for runtime in runtimes.values():
        await runtime.close()


@pytest.mark.namespaces("the kernel ends a room with its first process; here its guards do (test_plain.py)")
async def test_killing_the_room_leaves_no_process(own_room) -> None:
    runtime = SandboxRuntime(own_room.socket())
    node = Node(own_room, runtime)
    pod = await node.pod()
    for _ in range(3):
        await node.start(pod, "sh", "-c", "setsid sleep 1000 & trap '' TERM HUP INT; sleep 1000")
    await runtime.spawn_agent(["sleep", "1000"], {"PATH": PATH}, own_room.folder / "agent.log")
    alive = descendants(own_room.pid)
    assert len(alive) >= 14
    os.kill(own_room.pid, signal.SIGKILL)
    waiting.until(
        lambda: not any(map(running, alive)),
        "the end of every process",
        timeout=60,
    )
    await runtime.close()


@pytest.mark.namespaces("the host name is the machine's")
async def test_an_agent_lives_in_the_node_and_its_end_is_told(node: Node) -> None:
    log = node.folder / "agent.log"
    process = await node.runtime.spawn_agent(
        ["sh", "-c", "echo $WORD; hostname; echo $$; exit 12"], {"PATH": PATH, "WORD": "hello"}, log
    )
    assert (await process.wait()).status == 12
    lines = log.read_text().splitlines()
    assert lines[:2] == ["hello", "node-1"]
    assert int(lines[2]) == process.pid
    with pytest.raises(RuntimeRefused, match="executable file not found"):
        await node.runtime.spawn_agent(["missing"], {"PATH": PATH}, log)


@pytest.mark.namespaces("the host name is the machine's")
async def test_a_burst_of_a_hundred_pods(node: Node) -> None:
    pods = await asyncio.gather(*(node.pod() for _ in range(100)))
    await asyncio.gather(*(node.start(pod, "sh", "-c", "hostname; exec sleep 1000") for pod in pods))
    inventory = await node.runtime.inventory()
    mine = [state for state in inventory.containers if state.id in node.containers]
    assert len(mine) == 100
    assert all(state.exit is None for state in mine)
    for state in mine:
        await node.says(state.id, state.sandbox)
    await asyncio.gather(*(node.runtime.remove_sandbox(pod) for pod in pods))
    exits = await asyncio.gather(*(node.runtime.wait_container(name) for name in node.containers))
    assert {exit_.signal for exit_ in exits} == {9}
    await asyncio.gather(*(node.runtime.remove_container(name) for name in node.containers))
    assert list((node.folder / "containers").iterdir()) == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" * 100,
        struct.pack(">IB", 5, 0) + b"{bad}",
        struct.pack(">IB", 4, 0) + b"null",
        struct.pack(">IB", 2, 3) + b"{}",
        struct.pack(">IB", 1 << 31, 0),
        random.Random(7).randbytes(100_000),
    ],
    ids=["http", "ones", "no json", "no object", "descriptors missing", "too long", "random"],
)
async def test_garbage_on_the_socket_costs_only_its_sender(node: Node, garbage: bytes) -> None:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(node.room.socket()))
    peer.settimeout(60)
    with pytest.raises((ConnectionError, AssertionError)):
        peer.sendall(garbage)
        assert peer.recv(100), "closed"
    peer.close()
    await node.runtime.inventory()


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"op": "run"},
        {"op": "_die"},
        {"op": ["list"]},
        {"op": "create_sandbox"},
        {"op": "create_sandbox", "spec": {"id": 5}},
        {"op": "start_container", "spec": {"id": "x"}},
        {"op": "signal_container", "container": {}, "signal": "many"},
        {"op": "wait_process", "pid": None},
        {"op": "execute", "container": "x"},
        {"op": "spawn", "argv": 3},
    ],
    ids=str,
)
async def test_malformed_requests_are_refused_and_nothing_breaks(node: Node, request_: dict) -> None:
    with pytest.raises(RuntimeRefused):
        await node.runtime._ask(request_)
    await node.runtime.inventory()


async def test_no_window_size_ends_the_keeper_and_with_it_every_pod(node: Node) -> None:
    container = await node.start(await node.pod(), "sleep", "100", tty=True)
    await node.runtime.resize(container, -1, 70000)
    with pytest.raises(RuntimeRefused, match="resize"):
        await node.runtime.resize(container, "many", 80)  # type: ignore[arg-type]
    await node.runtime.resize(container, 24, 80)
    assert await node.shell(await node.pod(), "echo here") == "here\n"


async def test_half_a_message_and_a_client_that_never_reads_hold_nobody_up(node: Node) -> None:
    half = socket.socket(socket.AF_UNIX)
    half.connect(str(node.room.socket()))
    half.sendall(struct.pack(">IB", 1000, 0) + b'{"op"')
    deaf = socket.socket(socket.AF_UNIX)
    deaf.connect(str(node.room.socket()))
    question = b'{"op":"list","n":1}'
    deaf.setblocking(False)
    try:
        for _ in range(100_000):
            deaf.sendall(struct.pack(">IB", len(question), 0) + question)
    except OSError:
        pass
    assert (await node.run(await node.pod(), "true"))[0].status == 0
    half.close()
    deaf.close()


async def test_a_machine_that_is_not_there_is_said_so(tmp_path) -> None:
    runtime = SandboxRuntime(tmp_path / "nowhere.socket")
    with pytest.raises(RuntimeRefused, match="does not answer"):
        await runtime.create_sandbox(SandboxSpec("x", "x", "10.244.1.1"))


@pytest.mark.namespaces("nothing is built for a pod")
async def test_a_builder_that_is_killed_costs_no_sandbox(node: Node) -> None:
    def builders() -> list[int]:
        return [pid for pid in descendants(node.room.machine("node-1")) if name_of(pid) == "podlab-builder"]

    await node.pod()
    (first,) = builders()
    os.kill(first, signal.SIGSTOP)
    waiting_for = asyncio.gather(*(node.pod() for _ in range(5)))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    pods = await waiting_for
    assert first not in builders()
    for pod in pods:
        assert await node.shell(pod, "hostname") == f"{pod}\n"
