"""/metrics/cadvisor: containers and their pods under the names that Prometheus' common rules and dashboards use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from podlab.node.prometheus import Family, Sample
from podlab.node.statistics import ContainerStatistics, NodeStatistics
from podlab.node.view import PodView

Labels = dict[str, str]

#: Name, help, kind, value. cAdvisor tells more; what it would have to read from cgroups is left out.
_CONTAINERS: tuple[
    tuple[str, str, Literal["counter", "gauge"], Callable[[ContainerStatistics], float], Labels], ...
] = (
    (
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed in seconds.",
        "counter",
        lambda entry: entry.cpu,
        {"cpu": "total"},
    ),
    ("container_memory_rss", "Size of RSS in bytes.", "gauge", lambda entry: entry.memory, {}),
    (
        "container_memory_working_set_bytes",
        "Current working set in bytes.",
        "gauge",
        lambda entry: entry.memory,
        {},
    ),
    (
        "container_processes",
        "Number of processes running inside the container.",
        "gauge",
        lambda entry: entry.processes,
        {},
    ),
    (
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds.",
        "gauge",
        lambda entry: entry.started_at,
        {},
    ),
)


def cadvisor_metrics(statistics: NodeStatistics, pods: Iterable[PodView], memory: int) -> list[Family]:
    """Return the families; `pods` give the containers' images and identifiers, `memory` is the node's, in bytes."""
    views = {pod.uid: pod for pod in pods}
    shown: list[tuple[ContainerStatistics, Labels]] = []
    networks: list[tuple[tuple[int, int], Labels]] = []
    for pod in statistics.pods:
        common = {"namespace": pod.namespace, "pod": pod.name}
        for container in pod.containers:
            shown.append((container, {"container": container.name, **common, **_identity(views, pod.uid, container)}))
        if pod.network:
            networks.append((pod.network, {"interface": "eth0", **common}))
    families = [
        Family(name, text, kind, [Sample(value(entry), labels | extra, statistics.time) for entry, labels in shown])
        for name, text, kind, value, extra in _CONTAINERS
    ]
    for index, (word, text) in enumerate((("receive", "received"), ("transmit", "transmitted"))):
        samples = [Sample(counters[index], labels, statistics.time) for counters, labels in networks]
        name = f"container_network_{word}_bytes_total"
        families.append(Family(name, f"Cumulative count of bytes {text}", "counter", samples))
    cores = len(os.sched_getaffinity(0))
    families.append(Family("machine_cpu_cores", "Number of logical CPU cores.", "gauge", [Sample(cores)]))
    families.append(Family("machine_memory_bytes", "Amount of memory on the machine.", "gauge", [Sample(memory)]))
    return families


def _identity(views: Mapping[str, PodView], uid: str, container: ContainerStatistics) -> Labels:
    view = views[uid].containers[container.name]
    return {"id": view.container_id or "", "name": view.container_id or "", "image": str(view.spec.get("image", ""))}
