"""The disk that pods use on their node: the limits that they have set themselves, and a disk that gets full.

What counts is as for the kubelet: emptyDir volumes, what containers write to their own file trees, and their logs. A
pod above one of its limits is evicted. If the file system itself has too little room left, pods go one at a time, in
the order of eviction.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podlab.node.eviction import PERIOD, PRESSED, RELIEF, evictable, in_turn, shown
from podlab.node.pressure import Pressure
from podlab.node.quantity import requests, whole
from podlab.node.view import PodView
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

RESOURCE = "ephemeral-storage"


@dataclass(frozen=True)
class Used:
    """Bytes of a pod by emptyDir volume, and by container (its file tree and its logs)."""

    volumes: Mapping[str, int]
    containers: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.volumes.values()) + sum(self.containers.values())


def below(path: Path) -> int:
    """Bytes on disk of a file, or of a folder with all below it; links are not followed, what may not be seen is 0."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    size, waiting = found.st_blocks * 512, [str(path)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen = entry.stat(follow_symlinks=False)
                    size += seen.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False) and seen.st_dev == found.st_dev:
                        waiting.append(entry.path)
        except OSError:
            continue
    return size


def on_disk(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The emptyDir volumes of a pod that are on disk."""
    volumes = [volume for volume in spec.get("volumes") or () if volume.get("emptyDir") is not None]
    return [volume for volume in volumes if not volume["emptyDir"].get("medium")]


def measure(pod: PodView, folder: Path, logs: Path) -> Used:
    """What a pod uses; `folder` is its private folder, `logs` that of its logs."""
    return Used(
        {volume["name"]: below(folder / "volumes" / volume["name"]) for volume in on_disk(pod.spec)},
        {name: below(folder / "containers" / name) + below(logs / name) for name in pod.containers},
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
    """Watches the disk of a node. `threshold` are the bytes that its file system keeps free by evicting pods."""

    def __init__(
        self,
        pressure: Pressure,
        *,
        threshold: int,
        free: Callable[[], int],
        measure: Callable[[PodView], Used],
        pods: Callable[[], Iterable[PodView]],
        evict: Callable[[str, str], bool],
    ) -> None:
        """`free()` are the bytes left, `measure` may take its time (a thread), `evict` says whether the pod goes."""
        self._pressure, self._threshold = pressure, threshold
        self._free, self._measure, self._pods, self._evict = free, measure, pods, evict

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await pause_async(await self.look(time.monotonic()))

    async def look(self, now: float) -> float:
        """Evict who is above its limits, and one more if the disk is short; the seconds until the next look."""
        for pod in [pod for pod in self._pods() if has_limits(pod.spec)]:
            if said := excess(pod.spec, await asyncio.to_thread(self._measure, pod)):
                self._gone(pod, said)
        free = self._free()
        if free >= self._threshold:
            return PRESSED if self._pressure.relieve(now) else PERIOD
        self._pressure.press(now)
        for pod, over in await self._in_order():
            said = f"The node was low on resource: {RESOURCE}. Threshold quantity: {shown(self._threshold)}, "
            said += f"available: {shown(free)}. "
            if over > 0:
                said += f"The pod was using {shown(over)} more than its request. "
            if self._gone(pod, said):
                return RELIEF
        return PRESSED

    async def _in_order(self) -> list[tuple[PodView, int]]:
        """Who goes first, with the bytes above its requests."""
        found = []
        for pod in evictable(self._pods()):
            used = await asyncio.to_thread(self._measure, pod)
            found.append((pod, used.total - int(requests(pod.spec).get(RESOURCE, 0))))
        return in_turn(found)

    def _gone(self, pod: PodView, said: str) -> bool:
        gone = self._evict(pod.uid, said)
        if gone:
            log.info("evicted %s/%s: %s", pod.namespace, pod.name, said.strip())
        return gone
