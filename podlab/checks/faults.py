"""Faults of nodes, behind one small contract, each with proof that it bit and undone whatever happens.

Faults inside a pod are switches of its program (Room.trouble). Faults of nodes need a cluster that can kill one:
the embedded one can; where none can, a check that needs it is not gradable, which costs nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from podlab import paths
from podlab.checks.api import Api
from podlab.checks.contract import Inconclusive
from podlab.errors import PodlabError, WaitTimeout
from podlab.waiting import until


class NodeFaults(Protocol):
    """What a cluster offers that can lose nodes."""

    def kill(self, node: str) -> None:
        """Pull the plug of a node: every process on it ends at once."""

    def isolate(self, node: str) -> None:
        """Cut a node off the network; its processes go on."""

    def rejoin(self, node: str) -> None:
        """Bring a killed or isolated node back; nothing happens if it is well."""


def of_cluster(name: str) -> NodeFaults | None:
    """The node faults of a podlab cluster, or None where its provider cannot lose nodes."""
    from podlab.cluster import clusters

    try:
        owner = clusters.provider_of(name)
        return clusters.get(name).nodes if hasattr(owner, "fault") else None
    except PodlabError:
        return None


#: Seconds to wait for others who check on the same cluster, or who harm its nodes.
PATIENCE = 600


@contextmanager
def exclusive(cluster: str) -> Iterator[None]:
    """Hold the right to harm nodes: no other kernel harms one, and no check that nodes must not disturb runs."""
    with _held(cluster, fcntl.LOCK_EX, "others have been checking on this cluster"):
        yield


@contextmanager
def undisturbed(cluster: str) -> Iterator[None]:
    """Hold the right to whole nodes: many may at the same time, and nobody harms a node meanwhile."""
    with _held(cluster, fcntl.LOCK_SH, "another notebook has been breaking nodes of this cluster"):
        yield


@contextmanager
def _held(cluster: str, kind: int, why: str) -> Iterator[None]:
    folder = paths.private(paths.data() / "locks")
    descriptor = os.open(folder / f"nodes-{cluster}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            until(lambda: _lock(descriptor, kind), "the lock on the nodes", timeout=PATIENCE, interval=0.5)
        except WaitTimeout as error:
            raise Inconclusive(f"{why} for {PATIENCE // 60} minutes") from error
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def node_ready(api: Api, node: str) -> bool:
    """Whether the control plane believes that the node is well."""
    found = api.get("Node", node) or {}
    conditions = found.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def ready_nodes(api: Api) -> list[str]:
    """Names of the nodes that are Ready and take pods, sorted."""
    nodes = [node for node in api.list("Node") if not node["spec"].get("unschedulable")]
    return sorted(node["metadata"]["name"] for node in nodes if node_ready(api, node["metadata"]["name"]))
