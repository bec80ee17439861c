"""Faults of nodes, behind one small contract, each with proof that it bit and undone whatever happens.

Faults inside a pod are switches of its program (Room.trouble). Faults of nodes need a cluster that can kill one:
the embedded one can; where none can, a check that needs it is not gradable, which costs nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from urllib.parse import quote

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

Say = Callable[[str], None]


@contextmanager
def exclusive(cluster: str, who: str = "another notebook", say: Say = lambda _text: None) -> Iterator[Say]:
    """Hold the right to harm nodes: no other kernel harms one, and no check that nodes must not disturb runs.

    `who` is told to those who wait for it, and `say` gets one line if there is somebody to wait for. Yields a function
    that notes a node before it is harmed: `mend` brings it back should this process be killed.
    """
    # Who wants to harm nodes stands in the gate, so that those who come later cannot keep it waiting for ever.
    with _file(cluster, "gate") as gate, _file(cluster, "nodes") as nodes:
        _wait(gate, fcntl.LOCK_EX, _breaking(nodes), say)
        others = "others have been checking on this cluster, or have had an add-on in use"
        _wait(nodes, fcntl.LOCK_EX, _breaking(nodes) if _lines(nodes) else others, say)
        fcntl.flock(gate, fcntl.LOCK_UN)
        _mend(nodes, cluster)
        _write(nodes, who)
        try:
            yield lambda node: _write(nodes, node)
        finally:
            os.ftruncate(nodes, 0)


@contextmanager
def undisturbed(cluster: str, say: Say = lambda _text: None) -> Iterator[None]:
    """Hold the right to whole nodes: many may at the same time, and nobody harms a node meanwhile."""
    with _file(cluster, "gate") as gate, _file(cluster, "nodes") as nodes:
        if cluster not in _whole:  # else we would wait for ourselves: who is in the gate waits for this process
            _wait(gate, fcntl.LOCK_SH, _breaking(nodes), say)
        _wait(nodes, fcntl.LOCK_SH, _breaking(nodes), say)
        fcntl.flock(gate, fcntl.LOCK_UN)
        _whole.append(cluster)
        try:
            yield
        finally:
            _whole.remove(cluster)


#: The clusters whose nodes this process has whole, as often as it has.
_whole: list[str] = []


def harmed_by(cluster: str) -> str:
    """Who has taken a node of the cluster away just now; '' if nobody has."""
    with _file(cluster, "nodes") as nodes:
        return "" if lock(nodes, fcntl.LOCK_SH) else next(iter(_lines(nodes)), "another notebook")


def mend(cluster: str) -> None:
    """Bring back the nodes that a killed process has left harmed."""
    with _file(cluster, "nodes") as nodes:
        if _lines(nodes) and lock(nodes, fcntl.LOCK_EX):
            _mend(nodes, cluster)


def _mend(nodes: int, cluster: str) -> None:
    verbs = of_cluster(cluster)
    for node in _lines(nodes)[1:]:
        with suppress(PodlabError):  # one that has been removed since
            if verbs:
                verbs.rejoin(node)
    os.ftruncate(nodes, 0)


def _breaking(nodes: int) -> str:
    return f"{next(iter(_lines(nodes)), 'another notebook')} has been breaking nodes of this cluster"


@contextmanager
def _file(cluster: str, name: str) -> Iterator[int]:
    """A file to lock: `gate` is for waiting only, `nodes` holds who harms nodes, and which, a line each."""
    folder = paths.private(paths.data() / "locks")
    descriptor = os.open(folder / f"{name}-{quote(cluster, safe='')}", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(descriptor: int, kind: int, why: str, say: Say) -> None:
    if lock(descriptor, kind):
        return
    say(f"Waiting: {why}. This goes on when that has ended: there, `lab.rejoin_node`, or close that notebook.")
    try:
        until(lambda: lock(descriptor, kind), "the lock on the nodes", timeout=PATIENCE, interval=0.5)
    except WaitTimeout as error:
        raise Inconclusive(f"{why} for {PATIENCE // 60} minutes") from error


def lock(descriptor: int, kind: int) -> bool:
    """Whether a lock of this kind (`fcntl.LOCK_EX`, `LOCK_SH`) could be had at once on an open file."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(descriptor: int, line: str) -> None:
    os.write(descriptor, f"{line}\n".encode())


def _lines(descriptor: int) -> list[str]:
    return os.pread(descriptor, 64 * 1024, 0).decode().splitlines()


def node_ready(api: Api, node: str) -> bool:
    """Whether the control plane believes that the node is well."""
    found = api.get("Node", node) or {}
    conditions = found.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


#: Taints that follow a node's condition by some seconds; the condition itself is what counts.
_LATE = {f"node.kubernetes.io/{name}" for name in ("not-ready", "unreachable", "unschedulable")}


def ready_nodes(api: Api) -> list[str]:
    """Names of the nodes that are Ready and take pods, sorted: kind's control plane, which is tainted, takes none."""
    nodes = [node["metadata"]["name"] for node in api.list("Node") if _takes_pods(node["spec"])]
    return sorted(name for name in nodes if node_ready(api, name))


def _takes_pods(spec: Mapping[str, Any]) -> bool:
    taints = {taint["key"] for taint in spec.get("taints") or [] if taint["effect"] != "PreferNoSchedule"}
    return not (spec.get("unschedulable") or taints - _LATE)


def ready_to_lose_one(api: Api) -> list[str]:
    """As `ready_nodes`; Inconclusive, with the cure, if they are too few for replicas apart when one is lost."""
    nodes = ready_nodes(api)
    if len(nodes) < 3:
        raise Inconclusive(
            f"only {len(nodes)} nodes are ready and take pods; three are needed to lose one. If the cluster has no "
            "more, make another one: `podlab cluster up --name four --nodes 4`, for kind (whose control plane takes no "
            "pods) with `podlab cluster up --provider kind --nodes 4 --name four`; then `podlab cluster use four`"
        )
    return nodes
