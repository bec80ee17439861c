"""What more pods cost: serving alone from 1 to 4, beside as many pods of the whole monolith, on one cluster.

The same clients ask both for recommendations, in turn, through a node port. Throughput stands beside the CPU and the
memory of everything that has to run for it: broker and all services for the one, the monoliths for the other. On a
machine with few cores more pods cannot answer more: what remains is what they cost.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from clusters import NAME, supervisor, taken_down
from common import Figure, announce, finish, machine, median, options, say, table
from processes import descendants, used
from serving import Load, endless, put_under_load
from zero_downtime import outside, serving_of_the_course

from podlab import cluster, waiting
from podlab.checks.api import Api
from podlab.checks.world import is_ready
from podlab.commands import movies_pods
from podlab.commands.movies_pods import NAMESPACE

_PATIENCE, _MIB = 900, 2**20
SERVING, MONOLITH = "serving", "monolith"
#: Where recommendations are, by what is scaled.
PREFIX = {SERVING: "", MONOLITH: "/serving"}


class Point(NamedTuple):
    """One measurement: how many pods, what clients saw, and the memory of all that has to run (PSS, MiB)."""

    copies: int
    load: Load
    memory: float

    @property
    def per_gib(self) -> float:
        """Requests per second for each GiB."""
        return 1024 * self.load.rate / self.memory


def counts(most: int) -> list[int]:
    """1, 2, 4 ... up to `most`."""
    found = [1]
    while 2 * found[-1] <= most:
        found.append(2 * found[-1])
    return found


def monolith(ratings: int) -> dict[str, Any]:
    """A Deployment of the monolith in serving's own form: each pod seeds a log of its own and serves all parts."""
    made = deepcopy(serving_of_the_course())
    made["metadata"]["name"] = MONOLITH
    made["spec"]["selector"]["matchLabels"] = {"app": MONOLITH}
    template = made["spec"]["template"]
    template["metadata"]["labels"] = {"app": MONOLITH}
    template["spec"].pop("topologySpreadConstraints")
    (main,) = template["spec"]["containers"]
    settings = {"MOVIES_BROKER": "file:/data/bus", "MOVIES_DATA": "/data", "MOVIES_TRAIN_AFTER": "0"}
    main |= {"name": MONOLITH, "args": ["serve", MONOLITH]}
    main["env"] = [{"name": name, "value": value} for name, value in settings.items()]
    main["resources"]["limits"] = {"memory": "1Gi"}
    seed = {key: main[key] for key in ("image", "envFrom", "env", "resources", "securityContext", "volumeMounts")}
    template["spec"]["initContainers"] = [{"name": "seed", "args": ["seed", "--ratings", f"{ratings}"], **seed}]
    return made


def scale(api: Api, deployment: dict[str, Any], copies: int) -> None:
    """So many pods, all of them ready and no others."""
    name = deployment["metadata"]["name"]
    deployment["spec"]["replicas"] = copies
    api.apply(deployment, NAMESPACE, manager=movies_pods.MANAGER)

    def done() -> bool:
        pods = api.list("Pod", NAMESPACE, labelSelector=f"app={name}")
        return len(pods) == copies and all(map(is_ready, pods))

    waiting.until(done, f"{copies} pods of {name}", timeout=_PATIENCE, interval=0.3)


def processes_of(what: str) -> list[int]:
    """Processes of this cluster that have to run: the monoliths, or the broker and all services."""
    found = []
    for pid in descendants(supervisor()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        part = words[words.index("serve") + 1] if "movies" in words and "serve" in words else ""
        if part == MONOLITH if what == MONOLITH else part not in ("", MONOLITH) or words[0].endswith("nats-server"):
            found.append(pid)
    return found


def point(what: str, copies: int, port: int, users: int, given: Namespace) -> Point:
    """Load the pods, and see what everything that has to run for them uses meanwhile."""
    pids = processes_of(what)
    url = f"http://127.0.0.1:{port}"
    load = put_under_load([url], endless(PREFIX[what], users), pids, given.clients, given.seconds)
    found = Point(copies, load, sum(used(pid).proportional for pid in pids) / _MIB)
    say(f"  {what} {copies}: {load.rate:.0f} requests/s, {found.memory:.0f} MiB, {load.failed} failed")
    return found


def together(points: Sequence[Point]) -> Point:
    """Repeated measurements of the same as one: all requests, and the median of the memory."""
    loads = [one.load for one in points]
    latencies = [one for load in loads for one in load.latencies]
    failed, seconds, cpu = (sum(getattr(load, name) for load in loads) for name in ("failed", "seconds", "cpu"))
    return Point(points[0].copies, Load(latencies, failed, seconds, cpu), median([one.memory for one in points]))


def per_copy(points: Sequence[Point]) -> float:
    """MiB that one more pod takes."""
    first, last = points[0], points[-1]
    return (last.memory - first.memory) / max(1, last.copies - first.copies)


def main() -> None:
    given = options(
        __doc__,
        ratings=(100_000, 2_000, "ratings to generate"),
        copies=(4, 2, "pods at most"),
        clients=(16, 4, "clients at once"),
        seconds=(10, 2, "of each measurement"),
        repeats=(3, 1, "measurements of each"),
        nodes=(2, 2, "nodes of the cluster"),
    )
    here = machine()
    announce("serving-scaling", here)
    found: dict[str, list[Point]] = {SERVING: [], MONOLITH: []}
    began = time.monotonic()
    with taken_down(NAME):
        made = cluster.up(NAME, nodes=given.nodes)
        movies_pods.up(NAME, say, ratings=given.ratings)
        api = Api.connect(made.kubeconfig)
        deployments = {SERVING: serving_of_the_course(), MONOLITH: monolith(given.ratings)}
        ports: dict[str, int] = {}
        for copies in counts(given.copies):
            for what, deployment in deployments.items():
                scale(api, deployment, copies)
                ports[what] = ports.get(what) or outside(api, what)
            status = httpx.get(f"http://127.0.0.1:{ports[MONOLITH]}/features/status", trust_env=False, timeout=60)
            users = status.raise_for_status().json()["users"]
            measured: dict[str, list[Point]] = {what: [] for what in found}
            for _ in range(given.repeats):
                for what, port in ports.items():
                    measured[what].append(point(what, copies, port, users, given))
            for what, points in measured.items():
                found[what].append(together(points))
    rows = [
        (what, one.copies, one.load.rate, one.load.cpu_ms, one.memory, one.per_gib, one.load.failed)
        for what, points in found.items()
        for one in points
    ]
    headings = ("scaled", "pods", "1/s", "CPU ms", "MiB", "1/s per GiB", "failed")
    table(f"{given.clients} clients, {given.ratings} ratings", headings, rows)
    ours, whole = (per_copy(found[what]) for what in (SERVING, MONOLITH))
    failed = sum(one.load.failed for points in found.values() for one in points)
    more: dict[str, Any] = {"pods": given.copies, "failed": failed, "seconds": round(time.monotonic() - began)}
    for what, points in found.items():
        more |= {
            f"{what}_per_second": [round(one.load.rate, 1) for one in points],
            f"{what}_per_gib": [round(one.per_gib, 1) for one in points],
            f"{what}_cpu_ms": [round(one.load.cpu_ms, 2) for one in points],
        }
    met = not failed and all(one.memory and one.load.latencies for points in found.values() for one in points)
    unit = "MiB of one more pod of serving (PSS)"
    finish(Figure("serving-scaling", ours, unit, whole, "no failed request", met, more), here)


if __name__ == "__main__":
    main()
