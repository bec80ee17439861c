"""Run as PID 1 of a cluster's namespaces: starts the machines named on the command line and waits for them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from podlab.network.netlink import Netlink
from podlab.node.runtime.sandbox.machine import start_machine

folder = Path(sys.argv[1])
cgroup = os.environ.get("ROOM_CGROUP")
machines = [
    start_machine(
        name,
        folder / name,
        folder / f"{name}.socket",
        folder / f"{name}.log",
        cgroup=f"{cgroup}/{name}" if cgroup else None,
    )
    for name in sys.argv[2:]
]
for index, machine in enumerate(machines, start=1):
    # In a cluster the backbone gives a node its address; the tests only need one.
    namespace = machine.namespace()
    with Netlink(namespace) as links:
        links.add_address("lo", f"172.18.0.{10 + index}/32")
    os.close(namespace)
(folder / "pids").write_text("\n".join(f"{machine.name} {machine.pid}" for machine in machines))
(folder / "ready").touch()
for machine in machines:
    machine.wait()
