"""pods-300-under-load: 300 pods with probes on 3 nodes beside a program that burns every core, for ten minutes.

No node may become NotReady, no container may restart, no pod may become unready. Before it, what the agent side
uses from 10 pods to 300, as a curve. Floor: the agent side's CPU per pod with the fewest pods.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from api import DEPLOYMENTS, PODS, Api, deployment, is_ready
from clusters import running, supervisor, until_ready
from common import Figure, announce, finish, machine, options, say, table
from idle_100 import server
from processes import AGENT_SIDE, Used, burning, parts, total

from podlab.waiting import pause

MIB = 2**20
STEPS = (10, 30, 100, 300)
#: How much more than before the last pods may cost each, since no two measurements are alike.
NOISE = 1.25


def agent_side() -> Used:
    """What the agent side uses now."""
    return total(parts(supervisor()), AGENT_SIDE)


def troubles(api: Api, pods: int) -> list[str]:
    """What should not be."""
    found = [
        f"{node['metadata']['name']} not Ready" for node in api.get("/api/v1/nodes")["items"] if not is_ready(node)
    ]
    there = api.get(PODS, labelSelector="app=many")["items"]
    found += [f"{pod['metadata']['name']} not Ready" for pod in there if not is_ready(pod)]
    restarts = sum(one["restartCount"] for pod in there for one in pod["status"].get("containerStatuses") or [])
    if restarts:
        found.append(f"{restarts} restarts")
    return found if len(there) == pods else [*found, f"{len(there)} pods"]


def scale(api: Api, replicas: int) -> None:
    """Give the Deployment another number of replicas."""
    found = api.get(f"{DEPLOYMENTS}/many")
    found["spec"]["replicas"] = replicas
    api.put(f"{DEPLOYMENTS}/many", found)


def linear(points: Sequence[tuple[int, float, float]]) -> bool:
    """Whether from point to point (pods, CPU, memory) neither grows faster than the pods do."""
    (few, *at_first), (some, *between), (many, *at_last) = points[0], points[-2], points[-1]
    return all(
        (last - middle) / (many - some) <= NOISE * max(0.0, middle - first) / (some - few)
        for first, middle, last in zip(at_first, between, at_last, strict=True)
    )


def main() -> None:
    """Measure and tell."""
    given = options(
        __doc__,
        pods=(300, 6, "pods"),
        nodes=(3, 1, "nodes"),
        seconds=(60, 3, "of each point of the curve"),
        minutes=(10, 1, "beside the burner"),
    )
    here = machine()
    announce("pods-300-under-load", here)
    points: list[tuple[int, float, float]] = []
    with running(given.nodes) as api:
        api.post(DEPLOYMENTS, deployment("many", 1, server(10)))
        for count in [step for step in STEPS if step < given.pods] + [given.pods]:
            scale(api, count)
            until_ready(api, "many", count, timeout=900)
            pause(given.seconds / 4)
            first, began = agent_side(), time.monotonic()
            pause(given.seconds)
            second = agent_side()
            cpu = 100 * second.since(first) / (time.monotonic() - began)
            points.append((count, cpu, second.proportional / MIB))
            say(f"  {count} pods: {cpu:.1f} % of a core, {points[-1][2]:.0f} MiB")
        seen: list[str] = []
        with burning(os.cpu_count() or 1):
            until = time.monotonic() + 60 * given.minutes
            while time.monotonic() < until and not seen:
                pause(2)
                seen = troubles(api, given.pods)
    table("Agent side at rest", ("pods", "% of a core", "MiB"), points)
    say("  beside the burner: " + ("; ".join(seen[:5]) if seen else "nothing amiss"))
    (few, least, _), (many, most, memory) = points[0], points[-1]
    figure = Figure("pods-300-under-load", most / many, "% of a core a pod", least / few, "nothing amiss, linear")
    figure.met = not seen and (given.small or linear(points))
    figure.more = {"pods": many, "minutes": given.minutes, "amiss": len(seen), "memory": round(memory, 1)}
    finish(figure, here)


if __name__ == "__main__":
    main()
