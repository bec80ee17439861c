"""From two readings of every node to CPU rates: the windows of metrics.k8s.io. Pure.

As metrics-server does (https://github.com/kubernetes-sigs/metrics-server): the newest two readings are kept, a
container that was started after the older one counts from its start, and a pod is shown once all of its containers
can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from podlab.node.prometheus import Sample

#: Shortest window, in seconds, over which a rate is told.
SHORTEST = 1.0


@dataclass(frozen=True)
class Point:
    """One reading: CPU seconds so far, bytes now, and when; `started_at` is 0 for a node."""

    time: float
    cpu: float
    memory: float
    started_at: float = 0.0


@dataclass(frozen=True)
class Usage:
    """CPUs in use over a window that ended at `time` (seconds), and bytes at its end."""

    cores: float
    memory: float
    time: float
    window: float


#: (namespace, pod) -> container -> value.
PodPoints = dict[tuple[str, str], dict[str, Point]]


@dataclass(frozen=True)
class Reading:
    """What one scrape of one node has shown."""

    node: Point | None = None
    pods: PodPoints = field(default_factory=dict)


def reading(samples: Iterable[tuple[str, Sample]], now: float) -> Reading:
    """Return a node's reading from the samples of its /metrics/resource; `now` where they carry no time."""
    node: dict[str, Sample] = {}
    found: dict[tuple[str, str, str], dict[str, Sample]] = {}
    for name, sample in samples:
        kind, _, what = name.partition("_")
        if kind == "node":
            node[what] = sample
        elif kind == "container":
            labels = sample.labels
            key = (labels.get("namespace", ""), labels.get("pod", ""), labels.get("container", ""))
            found.setdefault(key, {})[what] = sample
    pods: PodPoints = {}
    for (namespace, pod, container), entry in found.items():
        if point := _point(entry, now):
            pods.setdefault((namespace, pod), {})[container] = point
    return Reading(_point(node, now), pods)


def _point(entry: Mapping[str, Sample], now: float) -> Point | None:
    cpu, memory = entry.get("cpu_usage_seconds_total"), entry.get("memory_working_set_bytes")
    if cpu is None or memory is None:
        return None
    started = entry.get("start_time_seconds")
    return Point(now if cpu.time is None else cpu.time, cpu.value, memory.value, started.value if started else 0.0)


def usage(newest: Point, before: Point | None) -> Usage | None:
    """Return the usage between two points, or since the start; None if that cannot be told yet."""
    if before is None or before.started_at != newest.started_at or before.cpu > newest.cpu:
        if not newest.started_at:
            return None
        before = Point(newest.started_at, 0.0, 0.0, newest.started_at)
    window = newest.time - before.time
    if window < SHORTEST:
        return None
    return Usage((newest.cpu - before.cpu) / window, newest.memory, newest.time, window)


class Windows:
    """The newest two readings of each node."""

    def __init__(self) -> None:
        self._readings: dict[str, tuple[Reading, Reading | None]] = {}

    def add(self, node: str, newest: Reading) -> None:
        """Take a new reading of `node`."""
        before = self._readings.get(node)
        self._readings[node] = (newest, before[0] if before else None)

    def keep(self, nodes: Iterable[str]) -> None:
        """Forget all nodes but these."""
        wanted = set(nodes)
        self._readings = {name: entry for name, entry in self._readings.items() if name in wanted}

    def node(self, name: str) -> Usage | None:
        """Return the usage of a node, or None."""
        if name not in self._readings:
            return None
        newest, before = self._readings[name]
        return usage(newest.node, before.node if before else None) if newest.node else None

    def pods(self) -> dict[tuple[str, str], dict[str, Usage]]:
        """Return (namespace, pod) -> container -> usage, of the pods whose containers are all known."""
        shown = {}
        for newest, before in self._readings.values():
            for key, points in newest.pods.items():
                earlier = before.pods.get(key, {}) if before else {}
                usages = {name: usage(point, earlier.get(name)) for name, point in points.items()}
                known = {name: entry for name, entry in usages.items() if entry is not None}
                if known and len(known) == len(usages):
                    shown[key] = known
        return shown
