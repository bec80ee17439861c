"""The disk of a node: what counts, whose limits are exceeded, and who goes when the file system gets full."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from podlab.node.eviction import RELIEF
from podlab.node.local_storage import LOOK, LocalStorage, Size, Turn, Used, below, excess, has_limits, left, measure
from podlab.node.pressure import Pressure
from podlab.node.view import ContainerView, PodView
from podlab.waiting import until_async

MI = 1 << 20


def container(name: str = "main", limit: str = "", request: str = "") -> dict[str, Any]:
    resources = {kind: {"ephemeral-storage": size} for kind, size in (("limits", limit), ("requests", request)) if size}
    return {"name": name, "resources": resources}


def pod(uid: str, *containers: dict[str, Any], priority: int = 0, **volumes: dict[str, Any]) -> PodView:
    spec = {
        "containers": list(containers) or [container()],
        "volumes": [{"name": name, "emptyDir": source} for name, source in volumes.items()],
        "priority": priority,
    }
    views = {one["name"]: ContainerView("id", one["name"], 0, True, one, None) for one in spec["containers"]}
    return PodView("default", uid, uid, uid, {"name": uid}, spec, {}, views)


def used(main: int = 0, **volumes: int) -> Used:
    return Used({name: size * MI for name, size in volumes.items()}, {"main": main * MI})


def fill(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_files_count_and_what_links_lead_to_does_not(tmp_path: Path) -> None:
    fill(tmp_path / "outside", 3 * MI)
    fill(tmp_path / "in" / "deep" / "er" / "file", MI)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    found = below(tmp_path / "in")
    assert MI <= found.bytes < 2 * MI and found.inodes == 6
    assert below(tmp_path / "missing") == (0, 0)


def test_no_folder_is_so_deep_that_its_files_do_not_count(deep: Path) -> None:
    assert below(deep).inodes == 1 + 1500 + 1


def test_a_file_with_a_hole_counts_what_is_on_disk(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        os.truncate(file.fileno(), 100 * MI)
    assert below(tmp_path).bytes < MI


def test_what_the_file_system_has_left_are_its_bytes_and_inodes(tmp_path: Path) -> None:
    system = os.statvfs(tmp_path)
    assert 0 <= left(tmp_path).bytes <= system.f_blocks * system.f_frsize
    assert 0 <= left(tmp_path).inodes <= system.f_files


def test_volumes_file_trees_and_logs_of_a_pod_are_measured(tmp_path: Path) -> None:
    fill(tmp_path / "pod" / "volumes" / "scratch" / "file", 2 * MI)
    fill(tmp_path / "pod" / "containers" / "main" / "0" / "upper" / "file", MI)
    fill(tmp_path / "logs" / "main" / "0.log", MI)
    found = measure(pod("a", scratch={}, quick={"medium": "Memory"}), tmp_path / "pod", tmp_path / "logs", tmp_path)
    assert set(found.volumes) == {"scratch"} and found.volumes["scratch"] >= 2 * MI
    assert 2 * MI <= found.containers["main"] < 3 * MI
    assert found.inodes == 2 + 4 + 2


@pytest.mark.parametrize(
    ("limited", "found", "said"),
    [
        (
            pod("a", data={"sizeLimit": "10Mi"}),
            used(data=11),
            'Usage of EmptyDir volume "data" exceeds the limit "10Mi". ',
        ),
        (pod("a", data={"sizeLimit": "10Mi"}), used(data=9), ""),
        (pod("a", data={}), used(data=900), ""),
        (
            pod("a", container(limit="10Mi"), container("other"), data={}),
            used(main=11),
            'Container main exceeded its local ephemeral storage limit "10Mi". ',
        ),
        (pod("a", container(limit="10Mi"), container("other"), data={}), used(main=9, data=900), ""),
        (
            pod("a", container(limit="10Mi"), data={}),
            used(main=9, data=2),
            "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ",
        ),
    ],
)
def test_a_limit_that_is_exceeded_is_named(limited: PodView, found: Used, said: str) -> None:
    assert excess(limited.spec, found) == said
    if said:
        assert has_limits(limited.spec)


class Node:
    """A node whose pods use what they use, and whose file system has 1000 MiB and inodes left."""

    def __init__(self, *pods: PodView, turn: Turn | None = None) -> None:
        self.pods, self.use, self.free, self.inodes = list(pods), dict[str, Used](), 1000, 1000
        self.gone: list[tuple[str, str]] = []
        self.measured = 0
        self.shown = Pressure("DiskPressure", 60.0, lambda: None)
        self.storage = LocalStorage(
            self.shown,
            threshold=Size(100 * MI, 100),
            left=lambda: Size(self.free * MI, self.inodes),
            measure=self.measure,
            pods=lambda: self.pods,
            evict=self.evict,
            turn=turn,
        )

    def measure(self, one: PodView) -> Used:
        self.measured += 1
        return self.use.get(one.uid, used())

    def evict(self, uid: str, said: str) -> bool:
        self.gone.append((uid, said))
        return True


async def test_nothing_is_measured_where_nobody_has_limits_and_the_disk_has_room() -> None:
    node = Node(pod("a"), pod("b"))
    await node.storage.check_limits()
    assert await node.storage.look(0.0) == LOOK
    assert node.measured == 0 and not node.gone and not node.shown.on


async def test_a_pod_with_limits_is_not_measured_to_see_whether_the_disk_has_room() -> None:
    """Measuring may take as long as the disk needs to be full; what is left is seen at once."""
    node = Node(pod("a", container(limit="10Mi")))
    assert await node.storage.look(0.0) == LOOK
    assert node.measured == 0


async def test_only_the_pod_above_its_limit_goes() -> None:
    node = Node(pod("a", container(limit="10Mi")), pod("b", container(limit="10Mi")))
    node.use = {"a": used(main=9), "b": used(main=11)}
    await node.storage.check_limits()
    assert [uid for uid, _ in node.gone] == ["b"] and not node.shown.on


async def test_limits_and_the_disk_are_both_watched_until_it_is_cancelled() -> None:
    node = Node(pod("a", container(limit="10Mi")), pod("b"))
    node.use, node.free = {"a": used(main=11), "b": used(main=12)}, 50
    watching = asyncio.create_task(node.storage.run())

    async def two() -> bool:
        return len(node.gone) >= 2

    await until_async(two, "two pods are evicted", timeout=60)
    assert not watching.done()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert {said.split()[0] for _, said in node.gone} == {"Pod", "The"}


async def test_a_full_disk_costs_the_largest_excess_first_one_pod_at_a_time() -> None:
    node = Node(
        pod("asked", container(request="900Mi")), pod("greedy"), pod("small"), pod("system", priority=2_000_000_000)
    )
    node.use = {"asked": used(main=800), "greedy": used(main=500), "small": used(main=1), "system": used(main=999)}
    node.free = 50
    assert await node.storage.look(0.0) == RELIEF
    assert [uid for uid, _ in node.gone] == ["greedy"]
    assert "low on resource: ephemeral-storage" in node.gone[0][1] and "500Mi more than its request" in node.gone[0][1]
    assert node.shown.condition()[:3] == ("DiskPressure", "True", "KubeletHasDiskPressure")
    node.free = 600
    assert await node.storage.look(10.0) == LOOK and node.shown.on
    assert await node.storage.look(61.0) == LOOK
    assert node.shown.condition()[:3] == ("DiskPressure", "False", "KubeletHasNoDiskPressure")


async def test_without_inodes_the_pod_with_the_most_files_goes() -> None:
    node = Node(pod("large"), pod("many"), pod("system", priority=2_000_000_000))
    node.use = {"large": used(main=500), "many": Used({}, {"main": MI}, 900), "system": Used({}, {}, 9000)}
    node.inodes = 99
    assert await node.storage.look(0.0) == RELIEF
    assert node.gone == [
        ("many", "The node was low on resource: inodes. Threshold quantity: 100, available: 99. "),
    ]
    assert node.shown.on


async def test_one_shortage_of_a_shared_disk_costs_one_pod_at_a_time_on_all_nodes_together(tmp_path: Path) -> None:
    nodes = [Node(pod("a"), turn=Turn(tmp_path / "turn")) for _ in range(3)]
    for node in nodes:
        node.use, node.free = {"a": used(main=500)}, 50

    async def looked(now: float) -> int:
        pauses = await asyncio.gather(*(node.storage.look(now) for node in nodes))
        assert pauses.count(RELIEF) + pauses.count(LOOK) == len(nodes)
        return pauses.count(RELIEF)

    assert await looked(1000.0) == 1
    assert await looked(1000.0 + RELIEF - 1) == 0, "the room may still come"
    assert await looked(1000.0 + RELIEF) == 1
    assert await looked(10.0) == 1, "the machine was started anew"
    assert sum(len(node.gone) for node in nodes) == 3
    assert all(node.shown.on for node in nodes)


async def test_a_node_that_finds_nowhere_to_agree_with_others_evicts_alone(tmp_path: Path) -> None:
    node = Node(pod("a"), turn=Turn(tmp_path / "missing" / "turn"))
    node.free = 50
    assert await node.storage.look(0.0) == RELIEF
    assert await node.storage.look(1.0) == RELIEF
