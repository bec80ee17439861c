"""Which pod goes when memory is short, what is said of it, and when the node says that it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from podlab.node.eviction import (
    CRITICAL,
    PERIOD,
    PRESSED,
    RELIEF,
    MemoryPressure,
    in_turn,
    memory,
    message,
    over_requests,
)
from podlab.node.pressure import Pressure
from podlab.node.runtime.contract import Usage
from podlab.node.view import ContainerView, PodView

MI = 1 << 20


def pod(name: str, request: str | None = None, priority: int = 0) -> PodView:
    """A running pod of one container, main, whose runtime name is the pod's."""
    resources = {"requests": {"memory": request}} if request else {}
    spec: dict[str, Any] = {"name": "main", "resources": resources}
    view = ContainerView(name, "main", 0, True, spec, None)
    whole = {"containers": [spec], "priority": priority}
    return PodView("shop", name, name, name, {}, whole, {}, {"main": view})


def usage(**megabytes: int) -> dict[str, Usage]:
    return {name: Usage(0.0, size * MI, 1) for name, size in megabytes.items()}


def order(pods: list[PodView], used: Mapping[str, Usage]) -> list[str]:
    """The names of pods in the order in which they would be evicted."""
    return [each.uid for each, _ in in_turn(over_requests(pods, used))]


def test_those_above_their_requests_go_first_then_low_priority_then_the_largest_excess() -> None:
    pods = [pod("modest", "200Mi"), pod("greedy", "50Mi"), pod("besteffort"), pod("important", "10Mi", priority=9)]
    used = usage(modest=150, greedy=300, besteffort=100, important=500)
    assert order(pods, used) == ["greedy", "besteffort", "important", "modest"]


def test_critical_pods_and_those_without_processes_are_let_alone() -> None:
    assert order([pod("critical", priority=CRITICAL), pod("idle")], usage(critical=900)) == []


def test_the_message_names_the_containers_above_their_requests() -> None:
    hog = pod("hog", "10Mi")
    assert message(hog, memory(hog, usage(hog=300)), 100 * MI, 7 * MI) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 7Mi. "
        "Container main was using 300Mi, request is 10Mi, has larger consumption of memory. "
    )


class Node:
    """A node of 1000 MiB of which 100 are to stay free, with its pods and what they use."""

    def __init__(self, *pods: PodView) -> None:
        self.pods, self.used, self.gone, self.turns, self.counted = list(pods), usage(), [], 0, 0
        self.stuck: set[str] = set()
        self.machine = 2000
        self.shown = Pressure("MemoryPressure", 60.0, self.turned)
        self.pressure = MemoryPressure(
            self.shown,
            capacity=1000 * MI,
            threshold=100 * MI,
            taken=lambda: self.machine * MI,
            usage=self.count,
            pods=lambda: self.pods,
            evict=self.evict,
        )

    async def count(self) -> Mapping[str, Usage]:
        self.counted += 1
        return self.used

    def evict(self, uid: str, said: str) -> bool:
        if uid in self.stuck:
            return False
        self.gone.append(uid)
        return True

    def turned(self) -> None:
        self.turns += 1

    @property
    def status(self) -> str:
        return self.shown.condition()[1]


@pytest.fixture
def node() -> Node:
    return Node(pod("small"), pod("large"))


async def test_nothing_is_counted_while_the_machine_has_memory(node: Node) -> None:
    node.machine = 800
    assert await node.pressure.look(0.0) == PERIOD
    assert node.counted == 0 and node.status == "False"


async def test_one_pod_goes_at_a_time_and_the_pressure_is_shown_for_a_while(node: Node) -> None:
    node.used = usage(small=100, large=850)
    assert await node.pressure.look(0.0) == RELIEF
    assert node.gone == ["large"] and node.status == "True" and node.turns == 1
    node.used = usage(small=100)
    assert await node.pressure.look(5.0) == PRESSED
    assert node.status == "True"
    assert await node.pressure.look(60.0) == PERIOD
    assert node.status == "False" and node.turns == 2
    assert node.gone == ["large"]


async def test_memory_that_others_use_costs_no_pod(node: Node) -> None:
    node.used = usage(small=100, large=790)
    assert await node.pressure.look(0.0) == PERIOD
    assert node.gone == [] and node.status == "False"


async def test_a_pod_that_is_ending_already_is_passed_over(node: Node) -> None:
    node.used, node.stuck = usage(small=100, large=850), {"large"}
    assert await node.pressure.look(0.0) == RELIEF
    assert node.gone == ["small"]
    node.stuck = {"large", "small"}
    assert await node.pressure.look(0.0) == PRESSED
