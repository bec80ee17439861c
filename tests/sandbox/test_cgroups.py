"""Limits that the kernel keeps: only where a cgroup is delegated (docs/limits.md); `make test-cgroups`."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from sandbox_room import Node
from test_containers import execute

from podlab import waiting
from podlab.cluster.embedded import delegation

#: Not Python, whose start alone takes seconds of a tenth of a processor.
SPIN = "echo begun; while :; do :; done"
#: Microseconds by which a container may overrun its part of a period on each processor (the kernel's slice is 5 ms).
OVERRUN = 10_000


@pytest.fixture
async def grouped(node: Node) -> Node:
    """The shared machine, if its room has a cgroup."""
    if getattr(node.room, "cgroup", None) is None:
        pytest.skip(delegation.offered().why or "the plain runtime has no cgroups")
    return node


def group(node: Node, pod: str, container: str = "") -> Path:
    """The folder of a pod's or container's cgroup, as it is out here."""
    assert node.room.cgroup
    return node.room.cgroup / "node-1" / pod / container


def statistics(path: Path) -> dict[str, int]:
    """What the kernel has counted of the processors of a group."""
    return {name: int(count) for name, count in map(str.split, (path / "cpu.stat").read_text().splitlines())}


async def spinning(node: Node, pod: str, **changes: int) -> str:
    """A container that wants as much of a processor as it can get, and has begun to."""
    container = await node.start(pod, "sh", "-c", SPIN, **changes)
    await node.says(container, "begun")
    return container


async def throttled(path: Path) -> dict[str, int]:
    """The statistics of a group when it had to wait in ten periods."""
    waiting.until(lambda: statistics(path)["nr_throttled"] >= 10, "ten periods used up", timeout=60)
    return statistics(path)


async def test_a_container_gets_no_more_of_a_processor_than_its_limit(grouped: Node) -> None:
    pod = await grouped.pod()
    bound = await spinning(grouped, pod, cpu_limit=200, cpu_request=100)
    free = await spinning(grouped, pod)
    place = group(grouped, pod, bound)
    assert (place / "cpu.max").read_text() == "20000 100000\n"
    assert (place / "cpu.weight").read_text() == "4\n"
    found = await throttled(place)
    assert found["usage_usec"] <= (found["nr_periods"] + 1) * (20_000 + OVERRUN)
    other = statistics(group(grouped, pod, free))
    assert other["nr_throttled"] == 0 and other["usage_usec"] > 0


async def test_the_limit_of_a_pod_holds_for_its_containers_together(grouped: Node) -> None:
    pod = await grouped.pod()
    for _ in range(2):
        await spinning(grouped, pod, pod_cpu_limit=100, pod_cpu_request=100)
    found = await throttled(group(grouped, pod))
    assert found["usage_usec"] <= (found["nr_periods"] + 1) * (10_000 + 2 * OVERRUN)


async def test_a_command_is_in_the_group_of_its_container(grouped: Node) -> None:
    pod = await grouped.pod()
    container = await spinning(grouped, pod, cpu_limit=100)
    status, text = await execute(
        grouped, container, "sh", "-c", "cat /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs"
    )
    assert status == 0
    lines = text.splitlines()
    assert "0::/" in lines and {"1"} < set(lines[lines.index("0::/") + 1 :])


async def test_a_container_reads_its_limit_and_cannot_change_it(grouped: Node) -> None:
    script = "cat /sys/fs/cgroup/cpu.max; echo max > /sys/fs/cgroup/cpu.max || echo refused"
    assert await grouped.shell(await grouped.pod(), script, cpu_limit=500) == "50000 100000\nrefused\n"


async def test_no_group_is_left_of_what_has_ended(grouped: Node) -> None:
    pod = await grouped.pod()
    container = await grouped.start(pod, "sh", "-c", "sleep 100 & sleep 100", share_processes=True)
    await execute(grouped, container, "true")
    assert group(grouped, pod, container).is_dir()
    await grouped.runtime.signal_container(container, signal.SIGKILL)
    await grouped.runtime.remove_container(container)
    await grouped.runtime.remove_sandbox(pod)
    other = await grouped.pod()  # what could not be removed at once goes with the next
    await grouped.run(other, "true")
    await grouped.runtime.remove_sandbox(other)
    assert not group(grouped, pod).exists()


async def test_a_container_that_does_not_start_leaves_no_group(grouped: Node) -> None:
    pod = await grouped.pod()
    with pytest.raises(Exception, match="executable file not found"):
        await grouped.start(pod, "no-such-program", cpu_limit=100)
    await grouped.runtime.remove_sandbox(pod)
    other = await grouped.pod()
    await grouped.run(other, "true")
    await grouped.runtime.remove_sandbox(other)
    assert not group(grouped, pod).exists()


async def test_the_node_says_which_controllers_it_has(grouped: Node) -> None:
    assert tuple((await grouped.runtime.inventory()).controllers) == delegation.offered().controllers


async def test_the_kernel_ends_what_is_over_its_memory_limit_and_its_neighbour_lives(grouped: Node) -> None:
    if "memory" not in delegation.offered().controllers:
        pytest.skip("the controller memory is not handed on to this cgroup")
    pod = await grouped.pod()
    other = await grouped.start(pod, "sleep", "100", memory_limit=40 << 20)
    hog = "hold = []\nwhile True: hold.append(b'x' * 1_000_000)"
    exit_, _ = await grouped.run(pod, grouped.room.python, "-c", hog, memory_limit=40 << 20)
    assert (exit_.status, exit_.out_of_memory) == (137, True)
    assert (group(grouped, pod, other) / "memory.max").read_text() == f"{40 << 20}\n"
    await grouped.runtime.signal_container(other, signal.SIGKILL)
    assert not (await grouped.runtime.wait_container(other)).out_of_memory
