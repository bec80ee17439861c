"""The watch over memory limits, with a clock and processes made up for it; and a look at the real /proc."""

from __future__ import annotations

import os

from podlab.node.runtime.sandbox import memory
from podlab.node.runtime.sandbox.memory import FAST, FASTEST, GLANCE, GROWING, INTERVAL, Watch

MIB = 1 << 20


class World:
    """Containers whose use the test sets; counts how often they were looked at."""

    def __init__(self) -> None:
        self.now = 100.0
        self.used: dict[int, int] = {}
        self.scans = 0
        self.measured: list[int] = []
        self.free = 1000 * MIB
        self.watch = Watch(lambda: self.now, self.scan, self.measure, lambda: self.free)

    def scan(self) -> dict[int, list[int]]:
        self.scans += 1
        return {inode: [inode] for inode in self.used}

    def measure(self, pids: list[int]) -> int:
        self.measured += pids
        return sum(self.used[pid] for pid in pids)

    def run(self, seconds: float) -> list[tuple[str, int]]:
        """Let time pass as the keeper's loop does."""
        end, over = self.now + seconds, []
        while self.now < end:
            over += self.watch.look()
            pause = self.watch.pause()
            self.now += max(0.001, seconds if pause is None else pause)
        return over


def test_without_limits_nothing_is_looked_at() -> None:
    world = World()
    assert world.watch.pause() is None
    assert world.watch.look() == []
    assert world.scans == 0


def test_a_container_over_its_limit_is_reported_once_and_soon() -> None:
    world = World()
    world.used = {1: 10 * MIB, 2: 10 * MIB}
    world.watch.add("one", 1, 64 * MIB)
    world.watch.add("two", 2, 64 * MIB)
    assert world.run(1.0) == []
    world.used[1] = 65 * MIB
    assert world.run(0.1) == [("one", 65 * MIB)]
    assert world.run(1.0) == []


def test_a_quiet_container_is_looked_at_seldom_and_a_growing_one_often() -> None:
    world = World()
    world.used = {1: 10 * MIB}
    world.watch.add("one", 1, 1000 * MIB)
    world.run(GROWING + INTERVAL)
    world.measured.clear()
    world.run(10.0)
    assert len(world.measured) <= 10 / INTERVAL + 1
    world.measured.clear()
    for _ in range(20):
        world.used[1] += 5 * MIB
        world.run(INTERVAL)
    assert len(world.measured) >= 20 * INTERVAL / FAST * 0.8


def test_the_nearer_the_limit_the_closer_the_watch() -> None:
    pauses = []
    for used in (0, 500, 900, 990):
        world = World()
        world.used = {1: used * MIB}
        world.watch.add("one", 1, 1000 * MIB)
        world.watch.look()
        pauses.append(world.watch.pause())
    assert pauses == sorted(pauses, reverse=True)
    assert FASTEST * 0.99 < pauses[-1] <= pauses[0] <= FAST


def test_when_free_memory_shrinks_quiet_containers_are_looked_at_at_once() -> None:
    world = World()
    world.used = {1: 10 * MIB}
    world.watch.add("one", 1, 64 * MIB)
    assert world.run(GROWING + INTERVAL) == []
    world.run(INTERVAL + 0.001)
    world.used[1], world.free = 80 * MIB, 930 * MIB
    assert world.run(2 * GLANCE) == [("one", 80 * MIB)]


def test_of_a_pod_over_its_limit_the_largest_container_is_reported() -> None:
    world = World()
    world.used = {1: 30 * MIB, 2: 20 * MIB, 3: 500 * MIB}
    world.watch.add("one", 1, None, ("pod", 64 * MIB))
    world.watch.add("two", 2, 40 * MIB, ("pod", 64 * MIB))
    world.watch.add("other", 3, None, ("another", 600 * MIB))
    assert world.run(GROWING + 1.0) == []
    world.used[2] = 35 * MIB
    assert world.run(INTERVAL + 0.1) == [("two", 35 * MIB)]
    assert world.run(1.0) == []


def test_a_pod_over_its_limit_for_a_container_over_its_own_loses_that_one_alone() -> None:
    world = World()
    world.used = {1: 70 * MIB, 2: 20 * MIB}
    world.watch.add("innocent", 1, None, ("pod", 100 * MIB))
    world.watch.add("greedy", 2, 32 * MIB, ("pod", 100 * MIB))
    assert world.run(GROWING + 1.0) == []
    world.used[2] = 40 * MIB
    assert world.run(INTERVAL + 0.1) == [("greedy", 40 * MIB)]


def test_a_removed_container_is_forgotten() -> None:
    world = World()
    world.used = {1: 100 * MIB}
    world.watch.add("one", 1, 64 * MIB)
    world.watch.remove("one")
    assert world.run(1.0) == []
    assert world.watch.pause() is None


def test_this_process_is_found_and_measured() -> None:
    own = os.stat("/proc/self/ns/mnt").st_ino  # noqa: PTH116
    assert os.getpid() in memory.processes()[own]
    assert memory.resident([os.getpid()]) > 5 * MIB
    assert memory.processor_time([os.getpid()]) > 0
    assert memory.resident([2**22 + 1]) == 0
