"""cluster-cycles: start and stop a cluster 100 times, every second time by SIGKILL of its supervisor.

After each end nothing may be left: no process, no namespace, no socket, no port that somebody listens on, no
network interface; after the last also no temporary folder. A pod runs in every cycle, and objects written in one
cycle are there in the next.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import processes
from api import DEPLOYMENTS, Api, deployment
from clusters import NAME, supervisor, taken_down, until_ready
from common import Figure, announce, finish, machine, median, options, percentile, say, table

from podlab import cluster, waiting
from podlab.cluster.embedded.folder import cluster_folder

_CONTAINER = {"image": "podlab/toolbox:1", "command": ["sleep", "infinity"]}
_MAPS = "/api/v1/namespaces/default/configmaps"


@dataclass
class Seen:
    """What a running cluster holds, and what the machine had before it."""

    identities: set[tuple[int, int]] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    folders: tuple[str, ...] = ()

    def and_before(self, other: Seen) -> Seen:
        """What was seen now or then: a process that has lost its parents meanwhile is found by its number."""
        return Seen(
            self.identities | other.identities,
            self.namespaces | other.namespaces,
            self.ports | other.ports,
            self.folders,
        )


@dataclass(frozen=True)
class Before:
    """The machine without a cluster."""

    identities: set[tuple[int, int]]
    namespaces: set[str]
    interfaces: set[str]


def before() -> Before:
    """The machine as it is now."""
    everyone = processes.alive()
    identities = {one for pid in everyone if (one := processes.identity(pid))}
    return Before(identities, processes.namespaces(everyone), processes.interfaces())


@contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """A folder in which everything temporary of this process and of the cluster is made."""
    folder = Path(tempfile.mkdtemp(prefix="cycles-"))
    for variable in ("TMPDIR", "XDG_RUNTIME_DIR"):
        os.environ[variable] = str(folder)
    tempfile.tempdir = None
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def look(started: Before) -> Seen:
    """What the running cluster has that the machine had not."""
    members = processes.descendants(supervisor())
    folder = cluster_folder(NAME)
    identities = {one for pid in members if (one := processes.identity(pid))}
    return Seen(
        identities,
        processes.namespaces(members) - started.namespaces,
        set(folder.read().ports.values()),
        (str(folder.path), str(folder.run)),
    )


def left(seen: Seen, started: Before) -> dict[str, list[str]]:
    """What of it is still there."""
    pids = {pid for pid, _ in seen.identities}
    still = [str(pid) for pid in pids if (processes.identity(pid) or 0) in seen.identities]
    held = processes.namespaces(processes.alive()) & seen.namespaces
    if not all(map(processes.is_unique, held)):
        ours = set(processes.alive()) - processes.strangers(started.identities)
        held &= processes.namespaces(ours)
    return {
        "processes": still,
        "namespaces": sorted(held),
        "sockets": sorted(s for s in processes.unix_sockets() if s.lstrip("@").startswith(seen.folders)),
        "ports": sorted(map(str, processes.listening_ports() & seen.ports)),
        "interfaces": sorted(processes.interfaces() - started.interfaces),
    }


def end(killed: bool) -> None:
    """Stop the cluster, or kill its supervisor."""
    if not killed:
        cluster.stop(NAME)
        return
    os.kill(supervisor(), signal.SIGKILL)


def cycle(number: int, totals: dict[str, int]) -> tuple[float, float]:
    """Start, check, end; returns the seconds of start and of end until nothing was left."""
    killed = number % 2 == 0
    started = before()
    began = time.monotonic()
    handle = cluster.start(NAME)
    up = time.monotonic() - began
    api = Api.of_kubeconfig(handle.kubeconfig)
    if number > 1:
        api.get(f"{_MAPS}/cycle-{number - 1}")
    else:
        api.post(DEPLOYMENTS, deployment("idle", 1, _CONTAINER))
    api.post(_MAPS, {"metadata": {"name": f"cycle-{number}"}})
    until_ready(api, "idle", 1)
    seen = look(started)
    if not seen.identities or not seen.namespaces or not seen.ports:
        raise RuntimeError(f"The look at the running cluster saw too little: {seen}")
    began = time.monotonic()
    end(killed)
    try:
        # The kernel takes a moment to dismantle namespaces after the last process is gone.
        waiting.until(lambda: not any(left(seen, started).values()), "the end of everything", timeout=10, interval=0.02)
    except waiting.WaitTimeout:
        pass
    down = time.monotonic() - began
    for kind, what in left(seen, started).items():
        totals[kind] += len(what)
        if what:
            say(f"  cycle {number} ({'SIGKILL' if killed else 'stop'}) left {kind}: {' '.join(what[:5])}")
    return up, down


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, cycles=(100, 4, "cycles"), nodes=(1, 1, "nodes"))
    here = machine()
    announce("cluster-cycles", here)
    totals = dict.fromkeys(("processes", "namespaces", "sockets", "ports", "interfaces", "temporary"), 0)
    times: dict[str, list[tuple[float, float]]] = {"stop": [], "SIGKILL": []}
    with own_temporary_folder() as temporary, taken_down():
        cluster.up(NAME, nodes=given.nodes)
        cluster.stop(NAME)
        for number in range(1, given.cycles + 1):
            times["SIGKILL" if number % 2 == 0 else "stop"].append(cycle(number, totals))
            if number % 10 == 0:
                say(f"  {number} cycles, left over: {sum(totals.values())}")
        cluster.down(NAME)
        left_behind = [path for path in (*temporary.iterdir(), cluster_folder(NAME).path) if path.exists()]
        totals["temporary"] = len(left_behind)
        if left_behind:
            say(f"  left behind: {' '.join(map(str, left_behind))}")
    rows = []
    for name, pairs in times.items():
        ups, downs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        rows.append((name, len(pairs), median(ups), percentile(ups, 99), median(downs), percentile(downs, 99)))
    table("Seconds", ("ended by", "cycles", "start p50", "start p99", "end p50", "end p99"), rows)
    table("Left over", list(totals), [list(totals.values())])
    value = sum(totals.values())
    figure = Figure(
        "cluster-cycles", value, "left over", 0, "nothing left", value == 0, {"cycles": given.cycles, **totals}
    )
    finish(figure, here)


if __name__ == "__main__":
    main()
