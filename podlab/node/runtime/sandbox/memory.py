"""How much memory and time each container's processes use, from one look at /proc. Standard library only.

A process belongs to the container whose mount namespace it is in: that holds for its children, for commands
started by exec, and for containers that share a PID namespace. Memory is private memory of all processes plus
the largest shared part of one (so that a library mapped by ten workers counts once); pages that a cgroup would
charge for files are not seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")

#: Seconds between two looks at every container with a limit.
INTERVAL = 0.5
#: Least and most seconds between two looks at one that is growing, and the bytes per second that it may grow:
#: the next look is due before it can have reached its limit.
FASTEST, FAST = 0.01, 0.1
_RATE = 2e9
#: Seconds for which a container counts as growing after it grew or began.
GROWING = 3.0
#: Seconds between two glances at the machine's free memory, and the bytes less that are a reason to look.
GLANCE = 0.025
_TAKEN = 8 << 20
#: The limit of what has none.
_NONE = float("inf")
#: Bytes more than before that count as growth.
_GROWTH = 1 << 20


def processes() -> dict[int, list[int]]:
    """The processes of this PID namespace by the inode of their mount namespace."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            inode = os.stat(f"/proc/{name}/ns/mnt").st_ino
        except OSError:
            continue  # it has ended, or is not ours to look at
        found.setdefault(inode, []).append(int(name))
    return found


def resident(pids: list[int]) -> int:
    """Bytes of memory that these processes use together."""
    private = shared = 0
    for pid in pids:
        try:
            fields = _read(f"/proc/{pid}/statm").split()
        except OSError:
            continue
        common = int(fields[2])
        private += int(fields[1]) - common
        shared = max(shared, common)
    return (private + shared) * _PAGE


def processor_time(pids: list[int]) -> float:
    """CPU seconds that these processes and their ended, awaited children have used."""
    ticks = 0
    for pid in pids:
        try:
            text = _read(f"/proc/{pid}/stat")
        except OSError:
            continue
        # The name in parentheses may contain anything; utime is the 14th field, counted from 1.
        fields = text[text.rindex(b")") + 2 :].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICK


def available() -> int:
    """Bytes of memory that the machine could still give away."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith(b"MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


class _Watched:
    """One container under watch: its limit and its pod's, its processes as last seen, and whether it may be growing."""

    def __init__(self, mount_namespace: int, limit: float, pod: tuple[str, float], now: float) -> None:
        self.mount_namespace = mount_namespace
        self.limit = limit
        self.pod, self.pod_limit = pod
        self.pids: list[int] = []
        self.now = 0
        self.used = 0  # as `now`, but it follows growth in steps
        self.growing_until = now + GROWING


class Watch:
    """Finds containers over their memory limit; idle while there is no limit.

    Containers that are new or have just grown are looked at as often as their distance from the limit asks for,
    all others every INTERVAL, and whenever the machine's free memory has shrunk: a glance at that is cheap, a
    look at every process of a node is not.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        scan: Callable[[], dict[int, list[int]]] = processes,
        measure: Callable[[list[int]], int] = resident,
        available: Callable[[], int] = available,
    ) -> None:
        self._clock = clock
        self._scan = scan
        self._measure = measure
        self._available = available
        self._free = 0
        self._next_glance = 0.0
        self._watched: dict[str, _Watched] = {}
        self._next_scan = 0.0
        self._next_fast = 0.0

    def add(self, container: str, mount_namespace: int, limit: int | None, pod: tuple[str, int] | None = None) -> None:
        """Watch a container: the inode of its mount namespace, its limit in bytes (None: no own one).

        `pod` is the name of its pod and the limit of all its containers together.
        """
        now = self._clock()
        self._watched[container] = _Watched(mount_namespace, limit or _NONE, pod or ("", _NONE), now)
        self._next_scan = min(self._next_scan, now)

    def remove(self, container: str) -> None:
        """Watch it no longer."""
        self._watched.pop(container, None)

    def pause(self) -> float | None:
        """Seconds until the next look, None if there is nothing to watch."""
        if not self._watched:
            return None
        now = self._clock()
        due = min(self._next_scan, self._next_glance)
        if any(one.growing_until > now for one in self._watched.values()):
            due = min(due, self._next_fast)
        return max(0.0, due - now)

    def look(self) -> list[tuple[str, int]]:
        """The containers over their limit with the bytes they use; each is reported once.

        Of a pod that is still over its limit without them it is the container that uses most.
        """
        now = self._clock()
        if not self._watched:
            return []
        everything = now >= self._next_scan
        if everything:
            found = self._scan()
            for one in self._watched.values():
                one.pids = found.get(one.mount_namespace, [])
            self._next_scan = now + INTERVAL
        if now >= self._next_glance:
            free = self._available()
            everything |= free < self._free - _TAKEN
            self._free = free if everything else max(free, self._free)
            self._next_glance = now + GLANCE
        if everything or now >= self._next_fast:
            return self._measure_all(now, everything)
        return []

    def _measure_all(self, now: float, everything: bool) -> list[tuple[str, int]]:
        over = []
        nearest = float("inf")
        together: dict[str, int] = {}
        for one in self._watched.values():
            if everything or one.growing_until > now:
                one.now = self._measure(one.pids)
                if one.now > one.used + _GROWTH:
                    one.growing_until = now + GROWING
                    one.used = one.now
                elif one.now < one.used:
                    one.used = one.now
            together[one.pod] = together.get(one.pod, 0) + one.now
        # Those over their own limit come first: what they take is no fault of their pod's others.
        turns = sorted(self._watched.items(), key=lambda item: (item[1].now <= item[1].limit, -item[1].now))
        for container, one in turns:
            room = min(one.limit - one.now, one.pod_limit - together[one.pod])
            if room < 0:
                del self._watched[container]
                together[one.pod] -= one.now
                over.append((container, one.now))
            elif one.growing_until > now:
                nearest = min(nearest, room)
        self._next_fast = now + min(FAST, max(FASTEST, nearest / _RATE))
        return over
