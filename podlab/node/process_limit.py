"""A pod that forks without end is evicted before it holds up the whole machine.

Its PID namespace is bounded, but that is not enough: each fork that fails there has copied the process before, under
the locks of the files that all programs of the machine have mapped. Thousands that try again and again, and get little
of the processor, keep these locks for minutes, and nobody else can begin or end a program meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from podlab.errors import PodlabError
from podlab.node.eviction import evictable
from podlab.node.runtime.contract import Usage
from podlab.node.view import PodView
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Processes that a pod may have (threads are no matter here: they share what a fork copies).
MOST = 1024
#: Seconds between two glances at how many there are on the machine, which cost nothing.
GLANCE = 0.5
#: Seconds after which the pods are counted again in any case: where many programs run, that is not free.
RECOUNT = 60.0


def alive() -> int:
    """Processes and threads of this machine."""
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])


class ProcessLimit:
    """Evicts pods with more than MOST processes; counts them only if there can be such a pod."""

    def __init__(
        self,
        *,
        usage: Callable[[], Awaitable[Mapping[str, Usage]]],
        pods: Callable[[], Iterable[PodView]],
        evict: Callable[[str, str], bool],
        alive: Callable[[], int] = alive,
    ) -> None:
        """`evict(uid, message)` says whether the pod goes."""
        self._usage, self._pods, self._evict, self._alive = usage, pods, evict, alive
        #: The fewest that were alive since the pods were counted, and when they are to be counted again at the latest.
        self._least, self._due = 0, 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self.look(time.monotonic())
            except PodlabError as error:
                log.warning("the processes of pods are not known: %s", error)
            await pause_async(GLANCE)

    async def look(self, now: float) -> None:
        """Evict who has too many; pods are counted now and then, or when many processes were added since."""
        alive = self._alive()
        self._least = min(self._least, alive)
        if alive <= MOST or (alive < self._least + MOST // 2 and now < self._due):
            return
        usage = await self._usage()
        self._least, self._due = alive, now + RECOUNT
        for pod in evictable(self._pods()):
            ids = [each.container_id for each in pod.containers.values()]
            count = sum(usage[one].processes for one in ids if one and one in usage)
            said = f"The pod was using {count} processes, more than the {MOST} that a pod of this node may have. "
            if count > MOST and self._evict(pod.uid, said):
                log.info("evicted %s/%s: %s", pod.namespace, pod.name, said.strip())
