"""The end of a cluster whose supervisor is no PID 1: with the plain runtime no kernel ends what it leaves behind.

A small process is forked from the supervisor before anything else. When the supervisor has gone, however that came,
it kills what belongs to the cluster: every process has one of two words in its environment that says so.
"""

from __future__ import annotations

import os
import signal

from podlab.cluster.embedded.folder import ClusterFolder, Record
from podlab.cluster.embedded.identities import node_name
from podlab.errors import WaitTimeout
from podlab.node.runtime.plain.guard import PR_SET_CHILD_SUBREAPER
from podlab.node.runtime.plain.processes import is_called, kill_marked
from podlab.node.runtime.sandbox import kernel
from podlab.waiting import until

#: Seconds that the guards of containers have to end what is left of these.
PATIENCE = 5.0
#: Is in the environment of the supervisor and of all that it starts, with the cluster's folder as its value.
SUPERVISOR = "PODLAB_SUPERVISOR"


def words(folder: ClusterFolder, record: Record) -> list[str]:
    """What is in the environments of the cluster's processes: of its own ones, and of each node's containers."""
    nodes = [f"PODLAB_NODE={folder.node(node_name(index))}" for index in record.nodes]
    return [f"{SUPERVISOR}={folder.path}", *nodes]


def begin(folder: ClusterFolder, record: Record) -> None:
    """Fork the warden, and let this process become the parent of every orphan of the cluster."""
    kernel.prctl(PR_SET_CHILD_SUBREAPER, 1)
    watched, held = os.pipe()
    if os.fork():
        os.close(watched)
        return  # `held` stays open for as long as this process lives
    try:
        os.setsid()
        os.close(held)
        kernel.set_process_title("podlab-warden")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.read(watched, 1)
        clear(folder, record)
    finally:
        os._exit(0)


def clear(folder: ClusterFolder, record: Record) -> None:
    """Kill what is left of the cluster and return when nothing is: a killed process has no environment any more.

    Guards of containers end by themselves, each after all that its container has left behind: they get a moment.
    """
    known = words(folder, record)

    def over() -> bool:
        guards = [pid for pid in kill_marked(known, spare="podlab-guard") if is_called(pid, "podlab-guard")]
        return not guards

    try:
        until(over, "the containers' guards ending", timeout=PATIENCE, interval=0.05)
    except WaitTimeout:
        pass
    until(lambda: not kill_marked(known), "every process of the cluster ending", timeout=30.0, interval=0.05)
