"""What the node's containers use, as the kubelet shows it: /metrics/resource, /metrics/cadvisor, /stats/summary."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from podlab.errors import PodlabError
from podlab.node.prometheus import Family, Sample
from podlab.node.runtime.contract import ContainerState, Usage
from podlab.node.view import NodeView

#: Seconds that must lie between two readings for a rate; less is too coarse (CPU time counts in 10 ms).
SHORTEST_WINDOW = 1.0


@dataclass(frozen=True)
class ContainerStatistics:
    """One running container: CPU seconds since its start, resident bytes now."""

    name: str
    cpu: float
    memory: int
    processes: int
    started_at: float
    #: CPUs in use, over the time since the reading before; None until there are two.
    cores: float | None = None


@dataclass(frozen=True)
class PodStatistics:
    """One pod with running containers. `network` is (received, sent) bytes of its interface, if known."""

    namespace: str
    name: str
    uid: str
    started_at: float
    containers: list[ContainerStatistics]
    network: tuple[int, int] | None = None

    @property
    def cpu(self) -> float:
        """CPU seconds of all containers that run now."""
        return sum(container.cpu for container in self.containers)

    @property
    def memory(self) -> int:
        """Resident bytes of all containers."""
        return sum(container.memory for container in self.containers)

    @property
    def cores(self) -> float | None:
        """CPUs in use, or None if that is not known for any container yet."""
        known = [container.cores for container in self.containers if container.cores is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class NodeStatistics:
    """The node at `time` (seconds since the epoch). `cpu` is that of all containers ever seen, and the agent's own."""

    time: float
    cpu: float = 0.0
    memory: int = 0
    processes: int = 0
    cores: float | None = None
    pods: list[PodStatistics] = field(default_factory=list)
    #: Whether the runtime could not be asked.
    failed: bool = False


class Meter:
    """Reads the runtime's usage and remembers what a counter and a rate need."""

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self._total = 0.0
        self._last: dict[str, float] = {}
        #: For rates: name -> (time, CPU seconds, cores).
        self._rates: dict[str, tuple[float, float, float | None]] = {}

    async def read(self) -> NodeStatistics:
        """Return the node's statistics now; `failed` if the runtime does not answer."""
        try:
            usage = await self._view.runtime.usage()
            inventory = await self._view.runtime.inventory()
        except PodlabError:
            return NodeStatistics(time.time(), failed=True)
        return self.account(usage, {state.id: state for state in inventory.containers}, time.time(), own_usage())

    def account(
        self,
        usage: Mapping[str, Usage],
        states: Mapping[str, ContainerState],
        now: float,
        own: Usage,
    ) -> NodeStatistics:
        """Return the statistics for one reading; `own` is what the agent itself uses."""
        for name, used in usage.items():
            self._total += max(0.0, used.cpu - self._last.get(name, 0.0))
        self._last = {name: used.cpu for name, used in usage.items()}
        cpu = self._total + own.cpu
        pods = [
            self._pod(pod.namespace, pod.name, pod.uid, containers, states, now)
            for pod in self._view.pods()
            if (
                containers := {
                    container.container_id: (container.name, usage[container.container_id])
                    for container in pod.containers.values()
                    if container.container_id is not None and container.container_id in usage
                }
            )
        ]
        statistics = NodeStatistics(
            time=now,
            cpu=cpu,
            memory=own.memory + sum(used.memory for used in usage.values()),
            processes=own.processes + sum(used.processes for used in usage.values()),
            cores=self._rate("", now, cpu),
            pods=pods,
        )
        self._rates = {name: rate for name, rate in self._rates.items() if not name or name in usage}
        return statistics

    def _pod(
        self,
        namespace: str,
        name: str,
        uid: str,
        containers: Mapping[str, tuple[str, Usage]],
        states: Mapping[str, ContainerState],
        now: float,
    ) -> PodStatistics:
        shown = [
            ContainerStatistics(
                name=container,
                cpu=used.cpu,
                memory=used.memory,
                processes=used.processes,
                started_at=states[key].started_at if key in states else now,
                cores=self._rate(key, now, used.cpu, states.get(key)),
            )
            for key, (container, used) in containers.items()
        ]
        pids = [states[key].pid for key in containers if key in states]
        started_at = min(container.started_at for container in shown)
        return PodStatistics(namespace, name, uid, started_at, shown, _network(pids))

    def _rate(self, name: str, now: float, cpu: float, state: ContainerState | None = None) -> float | None:
        """CPUs in use since the reading before, or since the container's start at the first one."""
        before = self._rates.get(name)
        if before is None and state is not None:
            before = (state.started_at, 0.0, None)
        if before is None or cpu < before[1]:
            self._rates[name] = (now, cpu, None)
            return None
        then, used, cores = before
        if now - then < SHORTEST_WINDOW:
            return cores
        cores = (cpu - used) / (now - then)
        self._rates[name] = (now, cpu, cores)
        return cores


def own_usage() -> Usage:
    """Return what this process itself uses."""
    times = resource.getrusage(resource.RUSAGE_SELF)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        pages = 0
    return Usage(times.ru_utime + times.ru_stime, pages * os.sysconf("SC_PAGE_SIZE"), 1)


def _network(pids: Iterable[int]) -> tuple[int, int] | None:
    """Bytes that a pod's eth0 has received and sent, by way of one of its processes."""
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, counters = line.partition(":")
            if name.strip() == "eth0":
                values = counters.split()
                return int(values[0]), int(values[8])
    return None


def resource_metrics(statistics: NodeStatistics) -> list[Family]:
    """Return the families of /metrics/resource, which metrics-server and autoscalers read."""
    at = statistics.time
    pods = [(pod, {"namespace": pod.namespace, "pod": pod.name}) for pod in statistics.pods]
    containers = [
        (container, {"container": container.name, **labels}) for pod, labels in pods for container in pod.containers
    ]
    node = [] if statistics.failed else [statistics]
    return [
        Family(
            "node_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the node in core-seconds",
            "counter",
            [Sample(entry.cpu, time=at) for entry in node],
        ),
        Family(
            "node_memory_working_set_bytes",
            "Current working set of the node in bytes",
            "gauge",
            [Sample(entry.memory, time=at) for entry in node],
        ),
        Family(
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds",
            "gauge",
            [Sample(container.started_at, labels) for container, labels in containers],
        ),
        Family(
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the container in core-seconds",
            "counter",
            [Sample(container.cpu, labels, at) for container, labels in containers],
        ),
        Family(
            "container_memory_working_set_bytes",
            "Current working set of the container in bytes",
            "gauge",
            [Sample(container.memory, labels, at) for container, labels in containers],
        ),
        Family(
            "pod_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the pod in core-seconds",
            "counter",
            [Sample(pod.cpu, labels, at) for pod, labels in pods],
        ),
        Family(
            "pod_memory_working_set_bytes",
            "Current working set of the pod in bytes",
            "gauge",
            [Sample(pod.memory, labels, at) for pod, labels in pods],
        ),
        *(
            Family(
                name,
                "1 if there was an error while getting container metrics, 0 otherwise",
                "gauge",
                [Sample(int(statistics.failed))],
            )
            for name in ("scrape_error", "resource_scrape_error")
        ),
    ]


def summary(statistics: NodeStatistics, node: str, folder: str, started_at: float, memory: int) -> dict[str, Any]:
    """Return the Summary of /stats/summary (stats/v1alpha1). `memory` is the node's capacity in bytes."""
    at = rfc3339(statistics.time)

    def usage(entry: NodeStatistics | PodStatistics | ContainerStatistics) -> dict[str, Any]:
        cpu: dict[str, Any] = {"time": at, "usageCoreNanoSeconds": round(entry.cpu * 1e9)}
        if entry.cores is not None:
            cpu["usageNanoCores"] = round(entry.cores * 1e9)
        shown = dict.fromkeys(("usageBytes", "workingSetBytes", "rssBytes"), entry.memory)
        return {"cpu": cpu, "memory": {"time": at, **shown}}

    def pod(entry: PodStatistics) -> dict[str, Any]:
        shown = {
            "podRef": {"name": entry.name, "namespace": entry.namespace, "uid": entry.uid},
            "startTime": rfc3339(entry.started_at),
            "containers": [
                {"name": container.name, "startTime": rfc3339(container.started_at), **usage(container)}
                for container in entry.containers
            ],
            **usage(entry),
            "process_stats": {"process_count": sum(container.processes for container in entry.containers)},
        }
        if entry.network:
            received, sent = entry.network
            interface = {"name": "eth0", "rxBytes": received, "txBytes": sent}
            shown["network"] = {"time": at, **interface, "interfaces": [interface]}
        return shown

    own = usage(statistics)
    own["memory"]["availableBytes"] = max(0, memory - statistics.memory)
    disk = os.statvfs(folder)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    own["fs"] = {
        "time": at,
        "capacityBytes": disk.f_blocks * disk.f_frsize,
        "availableBytes": disk.f_bavail * disk.f_frsize,
        "usedBytes": used,
        "inodes": disk.f_files,
        "inodesFree": disk.f_favail,
    }
    own["rlimit"] = {"time": at, "curproc": statistics.processes}
    return {
        "node": {"nodeName": node, "startTime": rfc3339(started_at), **own},
        "pods": [pod(entry) for entry in statistics.pods],
    }


def rfc3339(seconds: float) -> str:
    """Return a time as Kubernetes writes it, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
