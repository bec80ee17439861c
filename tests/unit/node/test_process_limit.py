"""Who has to leave a node for its many processes, and when they are counted."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from podlab.node.eviction import CRITICAL
from podlab.node.process_limit import MOST, RECOUNT, ProcessLimit, alive
from podlab.node.runtime.contract import Usage
from podlab.node.view import ContainerView, PodView


def pod(name: str, priority: int = 0) -> PodView:
    """A running pod of two containers, NAME-a and NAME-b."""
    views = {key: ContainerView(f"{name}-{key}", key, 0, True, {"name": key}, None) for key in ("a", "b")}
    return PodView("shop", name, name, name, {}, {"containers": [], "priority": priority}, {}, views)


class Node:
    """A machine with so many threads, and the processes of containers by id."""

    def __init__(self) -> None:
        self.machine, self.processes, self.counted = 0, dict[str, int](), 0
        self.gone: dict[str, str] = {}
        pods = [pod("calm"), pod("bomb"), pod("critical", CRITICAL)]
        self.limit = ProcessLimit(usage=self.count, pods=lambda: pods, evict=self.evict, alive=lambda: self.machine)

    async def count(self) -> Mapping[str, Usage]:
        self.counted += 1
        return {name: Usage(0.0, 0, number) for name, number in self.processes.items()}

    def evict(self, uid: str, said: str) -> bool:
        self.gone[uid] = said
        return True


@pytest.fixture
def node() -> Node:
    return Node()


async def test_a_pod_with_too_many_processes_goes_and_it_is_said_why(node: Node) -> None:
    node.processes = {"calm-a": MOST, "bomb-a": MOST - 1, "bomb-b": 2, "critical-a": 2 * MOST, "unknown": 3 * MOST}
    node.machine = 7 * MOST
    await node.limit.look(0.0)
    assert node.gone == {
        "bomb": "The pod was using 1025 processes, more than the 1024 that a pod of this node may have. "
    }


async def test_pods_are_counted_only_if_one_can_have_too_many(node: Node) -> None:
    async def counted(now: float, machine: int) -> bool:
        before, node.machine = node.counted, machine
        await node.limit.look(now)
        return node.counted > before

    assert not await counted(0.0, MOST)
    assert await counted(1.0, 2 * MOST), "others may have them all, which is not known yet"
    assert not await counted(2.0, 2 * MOST + MOST // 2 - 1)
    assert await counted(3.0, 2 * MOST + MOST // 2), "a pod may have forked that often since"
    assert not await counted(4.0, MOST + MOST // 2)
    assert await counted(5.0, 2 * MOST), "as many as before, but others have ended meanwhile"
    assert not await counted(5.0 + RECOUNT - 1, 2 * MOST)
    assert await counted(5.0 + RECOUNT, 2 * MOST), "they may have ended while a pod forked"


def test_processes_of_this_machine_are_counted() -> None:
    assert alive() >= 1
