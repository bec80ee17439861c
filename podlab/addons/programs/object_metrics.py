"""Metrics of the cluster's objects, under the names that kube-state-metrics gives them.

A pod's program: GET /metrics lists the objects anew (from the API server's cache, at most every PERIOD seconds), so
that what is deleted is gone at the next scrape. What each object says is a pure function of it.
Names and labels: https://github.com/kubernetes/kube-state-metrics/tree/main/docs.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

try:
    from podlab.addons.programs.in_cluster import ApiServer
except ImportError:  # in a pod the programs lie side by side
    from in_cluster import ApiServer  # type: ignore[no-redef]

Object = dict[str, Any]
#: (name, labels, value)
Sample = tuple[str, dict[str, str], float]

PORT, PERIOD = 8080, 2.0
_SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_SUFFIXES |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60}
_UNITS = {"cpu": "core", "memory": "byte", "ephemeral-storage": "byte", "storage": "byte"}


def quantity(text: object) -> float:
    """The number that a Kubernetes quantity stands for: 100m is 0.1, 1Mi is 1048576. ValueError if it is none."""
    found = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", str(text))
    if not found or found[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _SUFFIXES[found[2]]


def seconds(text: str) -> float:
    """Seconds since the epoch of an API server's time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _named(kind: str, thing: Object) -> dict[str, str]:
    metadata = thing["metadata"]
    place = {"namespace": metadata["namespace"]} if "namespace" in metadata else {}
    return {**place, kind: metadata["name"]}


def _created(kind: str, thing: Object) -> Iterator[Sample]:
    yield f"kube_{kind}_created", _named(kind, thing), seconds(thing["metadata"]["creationTimestamp"])


def _one_of(name: str, labels: dict[str, str], key: str, all_of: Iterable[str], found: str) -> Iterator[Sample]:
    for value in all_of:
        yield name, {**labels, key: value}, float(value == found)


def _resources(name: str, labels: dict[str, str], amounts: Object) -> Iterator[Sample]:
    for resource, amount in amounts.items():
        unit = _UNITS.get(resource, "integer")
        yield name, {**labels, "resource": re.sub(r"\W", "_", resource), "unit": unit}, quantity(amount)


def pod(thing: Object) -> Iterator[Sample]:
    """Samples of a Pod and its containers."""
    labels, spec, status = _named("pod", thing), thing.get("spec") or {}, thing.get("status") or {}
    owners = thing["metadata"].get("ownerReferences") or [{}]
    info = {
        "uid": thing["metadata"]["uid"],
        "node": spec.get("nodeName", ""),
        "host_ip": status.get("hostIP", ""),
        "pod_ip": status.get("podIP", ""),
        "created_by_kind": owners[0].get("kind", ""),
        "created_by_name": owners[0].get("name", ""),
        "priority_class": spec.get("priorityClassName", ""),
        "host_network": str(bool(spec.get("hostNetwork"))).lower(),
    }
    yield "kube_pod_info", labels | info, 1
    for owner in thing["metadata"].get("ownerReferences") or ():
        named = {"owner_kind": owner["kind"], "owner_name": owner["name"]}
        yield (
            "kube_pod_owner",
            {**labels, **named, "owner_is_controller": str(bool(owner.get("controller"))).lower()},
            1,
        )
    yield from _created("pod", thing)
    if "startTime" in status:
        yield "kube_pod_start_time", labels, seconds(status["startTime"])
    phases = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
    yield from _one_of("kube_pod_status_phase", labels, "phase", phases, status.get("phase", "Unknown"))
    for condition in status.get("conditions") or ():
        name = {"Ready": "ready", "PodScheduled": "scheduled"}.get(condition["type"])
        if name:
            states = ("true", "false", "unknown")
            found = condition["status"].lower()
            yield from _one_of(f"kube_pod_status_{name}", labels, "condition", states, found)
    if status.get("reason"):
        yield "kube_pod_status_reason", {**labels, "reason": status["reason"]}, 1
    for container in spec.get("containers") or ():
        own = {**labels, "container": container["name"]}
        amounts = container.get("resources") or {}
        for kind in ("requests", "limits"):
            where = {**own, "node": spec.get("nodeName", "")}
            yield from _resources(f"kube_pod_container_resource_{kind}", where, amounts.get(kind) or {})
    for state in status.get("containerStatuses") or ():
        yield from _container({**labels, "container": state["name"]}, state)


def _container(labels: dict[str, str], status: Object) -> Iterator[Sample]:
    name = "kube_pod_container_status_"
    images = {"image": status.get("image", ""), "image_id": status.get("imageID", "")}
    yield "kube_pod_container_info", {**labels, **images, "container_id": status.get("containerID", "")}, 1
    yield name + "ready", labels, float(bool(status.get("ready")))
    yield name + "restarts_total", labels, status.get("restartCount", 0)
    state, last = status.get("state") or {}, status.get("lastState") or {}
    for key in ("running", "waiting", "terminated"):
        yield name + key, labels, float(key in state)
    for key in ("waiting", "terminated"):
        if reason := (state.get(key) or {}).get("reason"):
            yield f"{name}{key}_reason", {**labels, "reason": reason}, 1
    if "terminated" in last:
        reason = last["terminated"].get("reason", "")
        yield name + "last_terminated_reason", {**labels, "reason": reason}, 1
        yield name + "last_terminated_exitcode", labels, last["terminated"].get("exitCode", 0)


def node(thing: Object) -> Iterator[Sample]:
    """Samples of a Node."""
    labels, spec, status = _named("node", thing), thing.get("spec") or {}, thing.get("status") or {}
    info = status.get("nodeInfo") or {}
    shown = {
        "kernel_version": info.get("kernelVersion", ""),
        "os_image": info.get("osImage", ""),
        "container_runtime_version": info.get("containerRuntimeVersion", ""),
        "kubelet_version": info.get("kubeletVersion", ""),
        "pod_cidr": spec.get("podCIDR", ""),
    }
    internal = [a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"]
    yield "kube_node_info", {**labels, **shown, "internal_ip": internal[0] if internal else ""}, 1
    yield from _created("node", thing)
    yield "kube_node_spec_unschedulable", labels, float(bool(spec.get("unschedulable")))
    for taint in spec.get("taints") or ():
        shown = {"key": taint["key"], "value": taint.get("value", ""), "effect": taint["effect"]}
        yield "kube_node_spec_taint", labels | shown, 1
    for condition in status.get("conditions") or ():
        own = {**labels, "condition": condition["type"]}
        states = ("true", "false", "unknown")
        yield from _one_of("kube_node_status_condition", own, "status", states, condition["status"].lower())
    for kind in ("capacity", "allocatable"):
        yield from _resources(f"kube_node_status_{kind}", labels, status.get(kind) or {})


#: Kind -> (metric below kube_KIND_, where the number is in the object).
_NUMBERS: dict[str, tuple[tuple[str, tuple[str, str]], ...]] = {
    "deployment": (
        ("spec_replicas", ("spec", "replicas")),
        ("status_replicas", ("status", "replicas")),
        ("status_replicas_ready", ("status", "readyReplicas")),
        ("status_replicas_available", ("status", "availableReplicas")),
        ("status_replicas_unavailable", ("status", "unavailableReplicas")),
        ("status_replicas_updated", ("status", "updatedReplicas")),
        ("status_observed_generation", ("status", "observedGeneration")),
        ("metadata_generation", ("metadata", "generation")),
    ),
    "replicaset": (
        ("spec_replicas", ("spec", "replicas")),
        ("status_replicas", ("status", "replicas")),
        ("status_ready_replicas", ("status", "readyReplicas")),
        ("metadata_generation", ("metadata", "generation")),
    ),
    "statefulset": (
        ("replicas", ("spec", "replicas")),
        ("status_replicas", ("status", "replicas")),
        ("status_replicas_ready", ("status", "readyReplicas")),
        ("status_replicas_available", ("status", "availableReplicas")),
        ("status_replicas_updated", ("status", "updatedReplicas")),
    ),
    "daemonset": (
        ("status_desired_number_scheduled", ("status", "desiredNumberScheduled")),
        ("status_current_number_scheduled", ("status", "currentNumberScheduled")),
        ("status_number_ready", ("status", "numberReady")),
        ("status_number_available", ("status", "numberAvailable")),
        ("status_number_unavailable", ("status", "numberUnavailable")),
        ("status_number_misscheduled", ("status", "numberMisscheduled")),
    ),
    "job": (
        ("spec_parallelism", ("spec", "parallelism")),
        ("spec_completions", ("spec", "completions")),
        ("status_active", ("status", "active")),
        ("status_succeeded", ("status", "succeeded")),
        ("status_failed", ("status", "failed")),
    ),
    "horizontalpodautoscaler": (
        ("spec_min_replicas", ("spec", "minReplicas")),
        ("spec_max_replicas", ("spec", "maxReplicas")),
        ("status_current_replicas", ("status", "currentReplicas")),
        ("status_desired_replicas", ("status", "desiredReplicas")),
    ),
}


def _numbers(kind: str) -> Callable[[Object], Iterator[Sample]]:
    label = "job_name" if kind == "job" else kind

    def samples(thing: Object) -> Iterator[Sample]:
        labels = _named(label, thing)
        yield f"kube_{kind}_created", labels, seconds(thing["metadata"]["creationTimestamp"])
        for name, (part, key) in _NUMBERS[kind]:
            yield f"kube_{kind}_{name}", labels, float((thing.get(part) or {}).get(key) or 0)

    return samples


def _phase(kind: str, phases: tuple[str, ...]) -> Callable[[Object], Iterator[Sample]]:
    def samples(thing: Object) -> Iterator[Sample]:
        found = (thing.get("status") or {}).get("phase", "")
        yield from _one_of(f"kube_{kind}_status_phase", _named(kind, thing), "phase", phases, found)

    return samples


def service(thing: Object) -> Iterator[Sample]:
    """Samples of a Service."""
    spec = thing.get("spec") or {}
    yield "kube_service_info", {**_named("service", thing), "cluster_ip": spec.get("clusterIP", "")}, 1
    yield "kube_service_spec_type", {**_named("service", thing), "type": spec.get("type", "")}, 1


#: Collection -> what each object of it says.
RESOURCES: dict[str, Callable[[Object], Iterator[Sample]]] = {
    "/api/v1/pods": pod,
    "/api/v1/nodes": node,
    "/api/v1/services": service,
    "/api/v1/namespaces": _phase("namespace", ("Active", "Terminating")),
    "/api/v1/persistentvolumeclaims": _phase("persistentvolumeclaim", ("Lost", "Bound", "Pending")),
    "/apis/apps/v1/deployments": _numbers("deployment"),
    "/apis/apps/v1/replicasets": _numbers("replicaset"),
    "/apis/apps/v1/statefulsets": _numbers("statefulset"),
    "/apis/apps/v1/daemonsets": _numbers("daemonset"),
    "/apis/batch/v1/jobs": _numbers("job"),
    "/apis/autoscaling/v2/horizontalpodautoscalers": _numbers("horizontalpodautoscaler"),
}


def render(samples: Iterable[Sample]) -> str:
    """Prometheus' text format: one family after the other."""
    families: dict[str, list[str]] = {}
    for name, labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        families.setdefault(name, []).append(f"{name}{{{shown}}} {value:.17g}")
    lines: list[str] = []
    for name, family in families.items():
        lines += [f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}", *family]
    return "\n".join(lines) + "\n"


def _escaped(text: object) -> str:
    return str(text).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Exporter:
    """The text for a scrape, listed anew when it is older than PERIOD; a list that fails is told as a metric."""

    def __init__(self, api: ApiServer, now: Callable[[], float] = time.monotonic) -> None:
        self._api, self._now = api, now
        self._lock = threading.Lock()
        self._made, self._text = float("-inf"), ""

    def text(self) -> str:
        """The text of now."""
        with self._lock:
            if self._now() - self._made >= PERIOD:
                self._text = render(self._samples())
                self._made = self._now()
            return self._text

    def _samples(self) -> Iterator[Sample]:
        for path, samples in RESOURCES.items():
            resource = {"resource": path.rpartition("/")[2]}
            try:
                listed = self._api.list(path)
            except (OSError, ValueError) as error:
                print(f"{path}: {error}", file=sys.stderr, flush=True)
                yield "kube_state_metrics_list_errors", resource, 1
                continue
            for thing in listed:
                try:
                    yield from list(samples(thing))
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    print(f"{path}: {thing['metadata']['name']} is left out: {error!r}", file=sys.stderr, flush=True)
                    yield "kube_state_metrics_object_errors", {**resource, **_named("name", thing)}, 1


def main() -> None:
    """Serve for ever."""
    exporter = Exporter(ApiServer())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exporter.text().encode() if self.path.startswith("/metrics") else b"ok\n"
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("", PORT), Handler).serve_forever()


if __name__ == "__main__":
    main()
