"""A node whose share of memory gets short: what it says of itself, and which pod has to go.

The order is the kubelet's: pods that use more than they asked for, then those of lower priority, then those that are
furthest above their requests. One goes at a time, and the node looks again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from podlab.errors import PodlabError
from podlab.node.pressure import Pressure
from podlab.node.quantity import requests, whole
from podlab.node.runtime.contract import Usage
from podlab.node.view import PodView
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Seconds between two looks (the kubelet's housekeeping), while nothing is short and while something is.
PERIOD, PRESSED = 10.0, 1.0
#: Seconds after an eviction in which the memory may come free before another pod goes.
RELIEF = 5.0
#: Pods of this priority and above are never evicted (system-cluster-critical).
CRITICAL = 2_000_000_000
_MI = 1 << 20


def evictable(pods: Iterable[PodView]) -> list[PodView]:
    """The pods that may have to go: all but critical ones."""
    return [pod for pod in pods if _priority(pod) < CRITICAL]


def in_turn(excesses: Iterable[tuple[PodView, int]]) -> list[tuple[PodView, int]]:
    """Pods with the bytes that each uses above its requests (negative below them), sorted by who goes first."""
    return sorted(excesses, key=lambda one: (one[1] <= 0, _priority(one[0]), -one[1], one[0].uid))


def _priority(pod: PodView) -> int:
    return pod.spec.get("priority") or 0


def memory(pod: PodView, usage: Mapping[str, Usage]) -> dict[str, int]:
    """Bytes of memory by container, of those that run."""
    return {
        name: usage[known].memory
        for name, container in pod.containers.items()
        if (known := container.container_id) and known in usage
    }


def over_requests(pods: Iterable[PodView], usage: Mapping[str, Usage]) -> list[tuple[PodView, int]]:
    """The pods that may have to go for memory and have running containers, with the bytes above their requests."""
    used = [(pod, memory(pod, usage)) for pod in evictable(pods)]
    return [(pod, sum(each.values()) - int(requests(pod.spec).get("memory", 0))) for pod, each in used if each]


def message(pod: PodView, used: Mapping[str, int], threshold: int, available: int) -> str:
    """What the status of a pod says whose containers have `used` that memory, in the kubelet's words."""
    text = f"The node was low on resource: memory. Threshold quantity: {shown(threshold)}, "
    text += f"available: {shown(max(0, available))}. "
    for name, size in used.items():
        asked = whole(((pod.containers[name].spec.get("resources") or {}).get("requests") or {}).get("memory", "0"))
        if size > asked:
            text += f"Container {name} was using {shown(size)}, request is {shown(asked)}, "
            text += "has larger consumption of memory. "
    return text


def shown(size: int) -> str:
    """A number of bytes as the kubelet writes it."""
    return f"{size // _MI}Mi" if size >= _MI else str(size)


class MemoryPressure:
    """Watches the node's memory, whose condition is `pressure`. `capacity` and `threshold` are bytes."""

    def __init__(
        self,
        pressure: Pressure,
        *,
        capacity: int,
        threshold: int,
        taken: Callable[[], int],
        usage: Callable[[], Awaitable[Mapping[str, Usage]]],
        pods: Callable[[], Iterable[PodView]],
        evict: Callable[[str, str], bool],
    ) -> None:
        """`taken()` is what the whole machine uses, `evict(uid, message)` says whether the pod goes."""
        self._capacity, self._threshold = capacity, threshold
        self._taken, self._usage, self._pods = taken, usage, pods
        self._evict, self._pressure = evict, pressure

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                pause = await self.look(time.monotonic())
            except PodlabError as error:
                log.warning("the memory in use is not known: %s", error)
                pause = PERIOD
            await pause_async(pause)

    async def look(self, now: float) -> float:
        """Evict a pod if memory is short; the seconds until the next look."""
        # What the whole machine uses bounds what this node's pods do: mostly there is nothing to count.
        if self._taken() <= self._capacity - self._threshold:
            return self._relieved(now)
        usage = await self._usage()
        available = self._capacity - sum(used.memory for used in usage.values())
        if available >= self._threshold:
            return self._relieved(now)
        self._pressure.press(now)
        for pod, _ in in_turn(over_requests(self._pods(), usage)):
            if self._evict(pod.uid, message(pod, memory(pod, usage), self._threshold, available)):
                log.info("evicted %s/%s, since %d MiB of memory are left", pod.namespace, pod.name, available // _MI)
                return RELIEF
        return PRESSED

    def _relieved(self, now: float) -> float:
        return PRESSED if self._pressure.relieve(now) else PERIOD


def machine_memory_taken() -> int:
    """Bytes of this machine's memory that are in use."""
    values: dict[str, Any] = {}
    with open("/proc/meminfo") as file:  # noqa: PTH123 - a file of the kernel, read often
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                values[name] = int(rest.split()[0]) * 1024
            if len(values) == 2:
                break
    return int(values["MemTotal"] - values["MemAvailable"])
