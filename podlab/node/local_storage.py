"""The disk that pods use on their node: the limits that they have set themselves, and a disk that gets full.

What counts is as for the kubelet: emptyDir volumes, what containers write to their own file trees, and their logs. A
pod above one of its limits is evicted. If the file system itself has too little room left, bytes or inodes, pods go one
at a time, in the order of eviction.py. What is left is asked for often, since that costs nothing and a program fills
hundreds of MiB in a second; what pods use is measured when something is short, and now and then for those with limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from podlab.node.eviction import PERIOD, RELIEF, evictable, in_turn, shown
from podlab.node.pressure import Pressure
from podlab.node.quantity import requests, whole
from podlab.node.runtime.sandbox.beneath import entered
from podlab.node.view import PodView
from podlab.trees import walk
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
    size, inodes = found.st_blocks * 512, 1
    with contextlib.suppress(OSError):
        for _, entry in walk(path):
            with contextlib.suppress(OSError):
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                inodes += 1
    return Size(size, inodes)


def on_disk(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The emptyDir volumes of a pod that are on disk."""
    volumes = [volume for volume in spec.get("volumes") or () if volume.get("emptyDir") is not None]
    return [volume for volume in volumes if not volume["emptyDir"].get("medium")]


def measure(pod: PodView, folder: Path, logs: Path, top: Path) -> Used:
    """What a pod uses; `folder` is its private folder, `logs` that of its logs, below `top`, where pods may write."""
    volumes = {volume["name"]: below(folder / "volumes" / volume["name"]) for volume in on_disk(pod.spec)}
    trees = {name: below(folder / "containers" / name) for name in pod.containers}
    kept = dict.fromkeys(pod.containers, Size(0, 0))
    with contextlib.suppress(OSError), entered(logs, top) as inside:
        kept = {name: below(Path(inside) / name) for name in pod.containers}
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


class Turn:
    """Whose turn it is to evict for a disk that the nodes of a cluster share; `path` is a file that they share, too.

    A kubelet has its disk for itself. Here all nodes see the same shortage, and each would evict a pod for it. So one
    pod goes at a time, and all wait for the effect: of the node whose turn it is that with the largest excess, which
    need not be the largest of the cluster.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with contextlib.suppress(OSError):
            path.touch()  # now: a full disk might not take it

    @contextlib.contextmanager
    def taken(self, now: float) -> Iterator[bool]:
        """Whether this node may evict: no other is choosing, and the last pod went RELIEF seconds ago or earlier."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            yield True  # nowhere to agree: each for itself
            return
        try:
            with contextlib.suppress(OSError):  # a file system without locks: the time alone has to do
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    now = -1.0
            last = os.fstat(descriptor).st_mtime
            yield now >= 0 and not last <= now < last + RELIEF
        finally:
            os.close(descriptor)

    def over(self, now: float) -> None:
        """A pod went at `now` (monotonic, the same for all nodes): kept as the file's time, which needs no room."""
        with contextlib.suppress(OSError):
            os.utime(self._path, (now, now))


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
        turn: Turn | None = None,
    ) -> None:
        """`measure` may take its time (a thread), `evict` says whether the pod goes; without `turn` it is alone."""
        self._turn = turn
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
        said = f"The node was low on resource: {of}. "
        said += "Threshold quantity: {}, available: {}. ".format(*quantities)
        if self._turn is None:
            return RELIEF if await self._one_gone(of, said) else LOOK
        with self._turn.taken(now) as mine:
            if mine and await self._one_gone(of, said):
                self._turn.over(now)
                return RELIEF
        return LOOK

    async def _one_gone(self, of: str, said: str) -> bool:
        """Evict the first in order; whether there was one."""
        for pod, over in await self._in_order(of):
            more = f"The pod was using {shown(over)} more than its request. " if of == RESOURCE and over > 0 else ""
            if self._gone(pod, said + more):
                return True
        return False

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
