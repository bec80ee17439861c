"""The disk that pods use on their node: the limits that they have set themselves, and a disk that gets full.

What counts is as for the kubelet: emptyDir volumes, what containers write to their own file trees, and their logs. A
pod above one of its limits is evicted. If the file system itself has too little room left, bytes or inodes, pods go one
at a time, in the order of eviction.py. What is left is asked for often, since that costs nothing and a program fills
hundreds of MiB in a second; what pods use is measured when something is short, and now and then for those with limits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from podlab.node.eviction import PERIOD, RELIEF, evictable, in_turn, shown
from podlab.node.pressure import Pressure
from podlab.node.quantity import requests, whole
from podlab.node.view import PodView
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

RESOURCE, INODES = "ephemeral-storage", "inodes"
#: Seconds between two looks at what the file system has left.
LOOK = 1.0


class Size(NamedTuple):
    """Bytes on disk and inodes: what files take, or what a file system has left."""

    bytes: int
    inodes: int


def left(folder: Path) -> Size:
    """What the file system of a folder has left for us; no inodes where it does not count them."""
    found = os.statvfs(folder)
    return Size(found.f_bavail * found.f_frsize, found.f_favail)


@dataclass(frozen=True)
class Used:
    """Bytes of a pod by emptyDir volume, and by container (its file tree and its logs); its inodes together."""

    volumes: Mapping[str, int]
    containers: Mapping[str, int]
    inodes: int = 0

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.volumes.values()) + sum(self.containers.values())


def below(path: Path) -> Size:
    """What a file takes, or a folder with all below it; links are not followed, what may not be seen is nothing."""
    try:
        found = path.lstat()
    except OSError:
        return Size(0, 0)
    size, inodes, waiting = found.st_blocks * 512, 1, [str(path)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen = entry.stat(follow_symlinks=False)
                    size += seen.st_blocks * 512
                    inodes += 1
                    if entry.is_dir(follow_symlinks=False) and seen.st_dev == found.st_dev:
                        waiting.append(entry.path)
        except OSError:
            continue
    return Size(size, inodes)


def on_disk(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The emptyDir volumes of a pod that are on disk."""
    volumes = [volume for volume in spec.get("volumes") or () if volume.get("emptyDir") is not None]
    return [volume for volume in volumes if not volume["emptyDir"].get("medium")]


def measure(pod: PodView, folder: Path, logs: Path) -> Used:
    """What a pod uses; `folder` is its private folder, `logs` that of its logs."""
    volumes = {volume["name"]: below(folder / "volumes" / volume["name"]) for volume in on_disk(pod.spec)}
    trees = {name: below(folder / "containers" / name) for name in pod.containers}
    kept = {name: below(logs / name) for name in pod.containers}
    return Used(
        {name: size.bytes for name, size in volumes.items()},
        {name: trees[name].bytes + kept[name].bytes for name in trees},
        sum(size.inodes for sizes in (volumes, trees, kept) for size in sizes.values()),
    )


def has_limits(spec: Mapping[str, Any]) -> bool:
    """Whether a pod has set itself a limit for its disk."""
    return any(volume["emptyDir"].get("sizeLimit") for volume in on_disk(spec)) or any(
        RESOURCE in _limits(container) for container in spec["containers"]
    )


def _limits(container: Mapping[str, Any]) -> Mapping[str, str]:
    return (container.get("resources") or {}).get("limits") or {}


def excess(spec: Mapping[str, Any], used: Used) -> str:
    """Which of its limits a pod is above, in the kubelet's words and order; empty if it is above none."""
    for volume in on_disk(spec):
        limit = volume["emptyDir"].get("sizeLimit")
        if limit and 0 < whole(limit) < used.volumes[volume["name"]]:
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    limits = {container["name"]: _limits(container).get(RESOURCE) for container in spec["containers"]}
    if all(limits.values()):
        together = sum(whole(limit) for limit in limits.values() if limit)
        if used.total > together:
            return f"Pod ephemeral local storage usage exceeds the total limit of containers {shown(together)}. "
    for name, limit in limits.items():
        if limit and used.containers.get(name, 0) > whole(limit):
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    return ""


class LocalStorage:
    """Watches the disk of a node. `threshold` is what its file system keeps free by evicting pods."""

    def __init__(
        self,
        pressure: Pressure,
        *,
        threshold: Size,
        left: Callable[[], Size],
        measure: Callable[[PodView], Used],
        pods: Callable[[], Iterable[PodView]],
        evict: Callable[[str, str], bool],
    ) -> None:
        """`measure` may take its time (a thread), `evict` says whether the pod goes."""
        self._pressure, self._threshold = pressure, threshold
        self._left, self._measure, self._pods, self._evict = left, measure, pods, evict

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_limits())
            while True:
                await pause_async(await self.look(time.monotonic()))

    async def _watch_limits(self) -> None:
        while True:
            await self.check_limits()
            await pause_async(PERIOD)

    async def check_limits(self) -> None:
        """Evict who is above its limits."""
        for pod in [pod for pod in self._pods() if has_limits(pod.spec)]:
            if said := excess(pod.spec, await asyncio.to_thread(self._measure, pod)):
                self._gone(pod, said)

    async def look(self, now: float) -> float:
        """Evict a pod if the disk is short; the seconds until the next look."""
        left = self._left()
        if left.bytes < self._threshold.bytes:
            quantities, of = (shown(self._threshold.bytes), shown(left.bytes)), RESOURCE
        elif left.inodes < self._threshold.inodes:
            quantities, of = (str(self._threshold.inodes), str(left.inodes)), INODES
        else:
            self._pressure.relieve(now)
            return LOOK
        self._pressure.press(now)
        for pod, over in await self._in_order(of):
            said = f"The node was low on resource: {of}. "
            said += "Threshold quantity: {}, available: {}. ".format(*quantities)
            if of == RESOURCE and over > 0:
                said += f"The pod was using {shown(over)} more than its request. "
            if self._gone(pod, said):
                return RELIEF
        return LOOK

    async def _in_order(self, of: str) -> list[tuple[PodView, int]]:
        """Who goes first, with the bytes above its requests, or with its inodes, for which nobody asks."""
        found = []
        for pod in evictable(self._pods()):
            used = await asyncio.to_thread(self._measure, pod)
            over = used.inodes if of == INODES else used.total - int(requests(pod.spec).get(RESOURCE, 0))
            found.append((pod, over))
        return in_turn(found)

    def _gone(self, pod: PodView, said: str) -> bool:
        gone = self._evict(pod.uid, said)
        if gone:
            log.info("evicted %s/%s: %s", pod.namespace, pod.name, said.strip())
        return gone
