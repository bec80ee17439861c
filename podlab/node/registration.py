"""The Node object: created, kept up to date, and put right at once when others have changed its conditions."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import platform
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from podlab.node.api import AlreadyExists, ApiClient, ApiError, NotFound, Object
from podlab.node.clock import timestamp
from podlab.node.configuration import NodeConfiguration
from podlab.node.events import EventRecorder
from podlab.node.pressure import Pressure
from podlab.node.runtime.choice import LOST, limits
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: (type, status, reason, message) of a node's conditions that never change; the texts are the kubelet's.
HEALTHY = (
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)
#: What a node without namespaces says of itself, for people and for those who grade.
PLAIN = ("PlainRuntime", "True", "NoNamespaces", f"this machine refuses namespaces: {LOST}")
#: Names of processor architectures as Kubernetes writes them.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
#: A status without news is written this often (the kubelet's nodeStatusReportFrequency); the lease is the heartbeat.
REPORT = 300.0
#: The kubelet reports this many images at most.
IMAGES_MAX = 50
DEFAULT_PODS = "110"


def capacity(configured: Mapping[str, str], processors: int, memory: int, disk: int) -> dict[str, str]:
    """The node's capacity: as configured, the rest from the machine (memory and disk in bytes)."""
    found = {
        "cpu": str(processors),
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": f"{disk // 1024}Ki",
        "pods": DEFAULT_PODS,
    }
    return found | dict(configured)


def machine_capacity(configuration: NodeConfiguration) -> dict[str, str]:
    """`capacity` of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = os.statvfs(configuration.folder)
    return capacity(configuration.capacity, len(os.sched_getaffinity(0)), memory, disk.f_blocks * disk.f_frsize)


def labels(configuration: NodeConfiguration) -> dict[str, str]:
    """The labels that every node has, and those of its configuration."""
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    own = {
        "kubernetes.io/hostname": configuration.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
    }
    return own | dict(configuration.labels)


def node_info(configuration: NodeConfiguration) -> dict[str, str]:
    """status.nodeInfo. Machine and boot ids are of the node, not of the host that it shares with others."""
    seed = f"{configuration.folder}/{configuration.name}"
    machine = hashlib.sha256(seed.encode()).hexdigest()[:32]
    return {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "bootID": _boot_id(),
        "containerRuntimeVersion": "podlab://0.1.0",
        "kernelVersion": platform.release(),
        "kubeProxyVersion": "",
        "kubeletVersion": configuration.kubernetes_version,
        "machineID": machine,
        "operatingSystem": "linux",
        "osImage": _os_name(),
        "systemUUID": machine,
    }


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def conditions(
    verdicts: Iterable[tuple[str, str, str, str]], before: Iterable[Mapping[str, Any]], now: float
) -> list[Object]:
    """The conditions for a status patch; a transition time changes only with its status."""
    known = {condition["type"]: condition for condition in before}
    result = []
    for kind, status, reason, message in verdicts:
        old = known.get(kind) or {}
        kept = old.get("lastTransitionTime") if old.get("status") == status else None
        result.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": timestamp(now),
                "lastTransitionTime": kept or timestamp(now),
            }
        )
    return result


class Registration:
    """Creates the Node and keeps its status right."""

    def __init__(
        self,
        api: ApiClient,
        configuration: NodeConfiguration,
        images: Callable[[], list[tuple[tuple[str, ...], int]]],
        recorder: EventRecorder,
    ) -> None:
        self._api = api
        self._recorder = recorder
        self._configuration = configuration
        self._images = images
        #: The controllers of the cgroups that containers are in, as the runtime says.
        self.controllers: Collection[str] = ()
        self._path = f"/api/v1/nodes/{configuration.name}"
        self._refresh = asyncio.Event()
        self._written = 0.0
        self._last: Object = {}
        self._unschedulable = False
        #: What may get short on this node.
        self.memory = Pressure("MemoryPressure", configuration.pressure_transition, self.refresh)
        self.disk = Pressure("DiskPressure", configuration.pressure_transition, self.refresh)
        self.capacity = machine_capacity(configuration)
        self.allocatable = self.capacity | configuration.allocatable
        self.node: Object = {"metadata": {"name": configuration.name, "labels": labels(configuration)}}

    @property
    def uid(self) -> str:
        return self.node["metadata"].get("uid", self._configuration.name)

    @property
    def labels(self) -> Mapping[str, str]:
        return self.node["metadata"].get("labels") or {}

    def refresh(self) -> None:
        """Look at the node's conditions at the API server now, and put them right."""
        self._refresh.set()

    def starting(self) -> None:
        """Tell that the agent starts."""
        self._tell("Starting", "Starting kubelet.")

    def _turned(self, reason: str) -> None:
        self._tell(reason, f"Node {self._configuration.name} status is now: {reason}")

    def _tell(self, reason: str, message: str) -> None:
        """An Event about the Node; by upstream's custom its name stands for its uid."""
        name = self._configuration.name
        node = {"kind": "Node", "apiVersion": "v1", "name": name, "uid": name}
        self._recorder.record(node, "Normal", reason, message)

    async def register(self) -> None:
        """Create the Node, or take over the one that is there; tried until it succeeds."""
        pause = 0.1
        while True:
            try:
                await self._create()
                await self.write()
                return
            except ApiError as error:
                log.warning("registration: %s", error)
                await pause_async(pause)
                pause = min(pause * 2, 5.0)

    async def _create(self) -> None:
        wanted = labels(self._configuration)
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._configuration.name, "labels": wanted},
            "spec": {
                "podCIDR": self._configuration.pod_cidr,
                "podCIDRs": [self._configuration.pod_cidr],
            },
        }
        try:
            self.node = await self._api.post("/api/v1/nodes", body)
        except AlreadyExists:
            self.node = await self._api.get(self._path)
            missing = {k: v for k, v in wanted.items() if self.labels.get(k) != v}
            if missing:
                self.node = await self._api.patch(self._path, {"metadata": {"labels": missing}})

    def apply(self, node: Object) -> None:
        """Take in a newer form of the Node; conditions that others have changed are put right at once."""
        self.node = node
        unschedulable = bool(node["spec"].get("unschedulable"))
        if unschedulable != self._unschedulable:
            self._unschedulable = unschedulable
            self._turned("NodeNotSchedulable" if unschedulable else "NodeSchedulable")
        ready = {c["type"]: c["status"] for c in (node.get("status") or {}).get("conditions") or ()}
        if any(ready.get(kind) != status for kind, status, _, _ in self._verdicts()):
            self.refresh()

    async def run(self) -> None:
        """Keep the status up to date until cancelled."""
        period = self._configuration.status_period
        while True:
            try:
                async with asyncio.timeout(period):
                    await self._refresh.wait()
            except TimeoutError:
                pass
            forced = self._refresh.is_set()
            self._refresh.clear()
            try:
                if forced or self._news() or time.monotonic() - self._written > REPORT:
                    await self.write()
            except NotFound:
                log.warning("the Node was deleted; registering again")
                await self.register()
            except ApiError as error:
                log.warning("node status: %s", error)
                self._refresh.set()
                await pause_async(1.0)

    def _verdicts(self) -> list[tuple[str, str, str, str]]:
        plain = [PLAIN] if self._configuration.plain else []
        lacking = ("False", "Cgroups") if "cpu" in self.controllers else ("True", "NoCgroups")
        enforced = ("LimitsNotEnforced", *lacking, limits(self.controllers))
        return [self.memory.condition(), self.disk.condition(), *HEALTHY, enforced, *plain]

    def _news(self) -> bool:
        return self._status() != self._last

    def _status(self) -> Object:
        """Everything of the status but the conditions, whose times change all the time."""
        configuration = self._configuration
        images = [{"names": list(names), "sizeBytes": size} for names, size in self._images()[:IMAGES_MAX]]
        return {
            "capacity": self.capacity,
            "allocatable": self.allocatable,
            "addresses": [
                {"type": "InternalIP", "address": configuration.address},
                {"type": "Hostname", "address": configuration.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": configuration.kubelet_port}},
            "declaredFeatures": ["ExtendWebSocketsToKubelet"],
            "nodeInfo": node_info(configuration),
            "images": images,
        }

    async def write(self) -> None:
        """Write the whole status. Lists with keys are merged by the API server (strategic merge patch)."""
        status, verdicts = self._status(), self._verdicts()
        before = (self.node.get("status") or {}).get("conditions") or ()
        body = {"status": {**status, "conditions": conditions(verdicts, before, time.time())}}
        self.node = await self._api.patch(f"{self._path}/status", body, kind="strategic")
        self._last = status
        self._written = time.monotonic()
        known = {condition["type"]: condition["status"] for condition in before}
        for kind, turned, reason, _ in verdicts:
            # Upstream's Events have the reasons of its conditions; those that are ours alone never turn.
            if known.get(kind) != turned and reason.startswith("Kubelet"):
                self._turned(reason.replace("Kubelet", "Node", 1))
