"""What of this machine belongs to each node: its capacity, and what of that is left for pods.

Memory and disk are divided evenly among the nodes with which the cluster was created, so that the shares do not
change when a node comes or goes; a node that is added later gets a share of the same size. Processors are divided
evenly, too, but in the lab profile each node shows at least LEAST_PROCESSORS: time can be shared, and a lesson with
dozens of pods that ask for 100m each is to fit on a machine with two cores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from podlab.errors import UsageError
from podlab.node.quantity import whole

#: Processors that a node shows at least, by profile.
LEAST_PROCESSORS: Mapping[str, int] = {"lab": 4, "upstream": 0}
PODS = 110
#: Bytes that the whole cluster keeps for the control plane and the agents; a node's part of it is at most a quarter
#: of its memory.
RESERVED = 1 << 30
#: The kubelet's default eviction thresholds: bytes of memory, part of the disk.
EVICTION_MEMORY = 100 << 20
EVICTION_DISK = 0.1
#: Bytes and inodes of the machine's file system below which pods are evicted: far less than the kubelet's tenth and
#: twentieth, since the disk is the learner's own and may well be nine tenths full.
LEAST_DISK, LEAST_INODES = 512 << 20, 100_000
REGION = "local"
ZONES = ("zone-a", "zone-b", "zone-c")
INSTANCE_TYPE = "podlab"
_KI, _MI = 1 << 10, 1 << 20
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """Processors, bytes of memory and disk, and inodes of the disk (0: its file system does not count them)."""

    processors: int
    memory: int
    disk: int
    inodes: int = 0


@dataclass(frozen=True)
class Share:
    """What a Node says of itself, as quantities, and what it keeps free: bytes of memory and disk, and inodes."""

    capacity: dict[str, str]
    allocatable: dict[str, str]
    eviction_memory: int
    eviction_disk: int
    eviction_inodes: int


def this_machine(folder: Path) -> Machine:
    """What this process may use, of memory at most PODLAB_MEMORY; the disk is the one that `folder` is on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _LIMITS:
        try:
            memory = min(memory, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    if asked := os.environ.get("PODLAB_MEMORY"):
        try:
            memory = min(memory, whole(asked))
        except ValueError as error:
            raise UsageError(f"PODLAB_MEMORY is no amount of memory: {error}.", hint="Write 4Gi, say.") from error
    disk = os.statvfs(folder)
    return Machine(len(os.sched_getaffinity(0)), memory, disk.f_blocks * disk.f_frsize, disk.f_files)


def share(machine: Machine, nodes: int, profile: str) -> Share:
    """The share of one of `nodes` nodes."""
    nodes = max(1, nodes)
    cores = max(machine.processors * 1000 // nodes, LEAST_PROCESSORS.get(profile, 0) * 1000)
    memory = machine.memory // nodes // _MI * _MI
    disk = machine.disk // nodes // _MI * _MI
    eviction = min(EVICTION_MEMORY, memory // 16)
    kept = min(RESERVED // nodes, memory // 4) + eviction
    return Share(
        _quantities(cores, memory, disk),
        _quantities(cores, memory - kept, int(disk * (1 - EVICTION_DISK))),
        eviction,
        min(LEAST_DISK, machine.disk // 64),
        min(LEAST_INODES, machine.inodes // 64),
    )


def _quantities(cores: int, memory: int, disk: int) -> dict[str, str]:
    return {
        "cpu": str(cores // 1000) if cores % 1000 == 0 else f"{cores}m",
        "memory": f"{memory // _KI}Ki",
        "ephemeral-storage": f"{disk // _KI}Ki",
        "pods": str(PODS),
    }


def labels(index: int) -> dict[str, str]:
    """The labels of node `index` (from 1) that tell where it is; zones are given in turn."""
    return {
        "topology.kubernetes.io/region": REGION,
        "topology.kubernetes.io/zone": ZONES[(index - 1) % len(ZONES)],
        "node.kubernetes.io/instance-type": INSTANCE_TYPE,
    }
