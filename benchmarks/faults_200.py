"""faults-200: random faults under traffic, one after the other, each until the cluster has come back to what was asked.

A fault is a kill or a pause of etcd, the API server, the controller manager, the scheduler, an agent, a node (its
plug pulled, frozen, cut off), a zygote, or the process of a container. Meanwhile clients ask a Service, and a writer
makes objects. After each fault all components run, all nodes are Ready, the Deployment has its replicas and no
process more, and the Service answers. In the end every object that the API server has acknowledged is there, and
when the cluster is down nothing is left of it. Floor: faults that did not converge, 0.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import processes
from api import DEPLOYMENTS, PODS, SERVICES, Api, Refused, deployment, is_ready, node_port
from cluster_cycles import before, left, look
from clusters import NAME, running, states, supervisor, until_ready
from common import Figure, announce, finish, machine, median, options, percentile, say, table

from podlab import cluster, waiting

PORT, REPLICAS, PATIENCE = 8080, 6, 240
#: In the arguments of this run's servers and of no other process.
MARK = f"podlab-faults-{os.getpid()}"
_MAPS = "/api/v1/namespaces/default/configmaps"
_SERVER = f"""
import http.server
mark = "{MARK}"

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("", {PORT}), Handler).serve_forever()
"""
_CONTAINER = {
    "image": "podlab/python:3",
    "command": ["python", "-c", _SERVER],
    "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
}
_BROKEN = (OSError, http.client.HTTPException, Refused)


def answers(port: int) -> bool:
    """Whether the Service answers a new connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read() == b"ok"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class Traffic:
    """Clients that ask the Service, and a writer that makes numbered objects; `made` were acknowledged."""

    api: Api
    port: int
    asked: int = 0
    failed: int = 0
    made: list[str] = field(default_factory=list)
    ended: bool = False

    def begin(self) -> list[threading.Thread]:
        """Start both."""
        threads = [threading.Thread(target=work, daemon=True) for work in (self._ask, self._make)]
        for thread in threads:
            thread.start()
        return threads

    def _ask(self) -> None:
        while not self.ended:
            self.asked += 1
            self.failed += not answers(self.port)
            waiting.pause(0.02)

    def _make(self) -> None:
        number = 0
        while not self.ended:
            number += 1
            try:
                self.api.post(_MAPS, {"metadata": {"name": f"made-{number}"}, "data": {"number": str(number)}})
                self.made.append(f"made-{number}")
            except _BROKEN:
                pass
            waiting.pause(0.1)


def arguments(pid: int) -> bytes:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def servers() -> list[int]:
    """The processes of the Deployment's containers, whoever their parents are: an orphan is one too many."""
    everyone = processes.alive()
    return [pid for pid in everyone if (words := arguments(pid)).startswith(b"python\0-c") and MARK.encode() in words]


def zygotes() -> list[int]:
    """The processes that make containers."""
    return [pid for pid in processes.descendants(supervisor()) if b"podlab-zygote" in arguments(pid)]


def faults(chance: random.Random) -> dict[str, Callable[[], str]]:
    """Every fault by name; each returns what it hit."""
    handle = cluster.get(NAME)
    parts, nodes = handle.components, handle.nodes

    def kill(component: str) -> Callable[[], str]:
        return lambda: parts.kill(component) or component

    def pause(component: str) -> Callable[[], str]:
        def act() -> str:
            parts.pause(component)
            waiting.pause(chance.uniform(0.5, 3))
            parts.resume(component)
            return component

        return act

    def on_node(first: Callable[[str], None], then: Callable[[str], None] | None = None) -> Callable[[], str]:
        def act() -> str:
            node = chance.choice(nodes.names())
            first(node)
            if then:
                waiting.pause(chance.uniform(0.5, 12))
                then(node)
            return node

        return act

    def kill_one(found: Callable[[], list[int]]) -> Callable[[], str]:
        def act() -> str:
            pid = chance.choice(found())
            os.kill(pid, signal.SIGKILL)
            return str(pid)

        return act

    table = {f"kill {name}": kill(name) for name in processes.CONTROL_PLANE}
    table |= {f"pause {name}": pause(name) for name in processes.CONTROL_PLANE}
    return table | {
        "kill an agent": on_node(nodes.kill_agent),
        "pull the plug of a node": on_node(nodes.kill, nodes.rejoin),
        "freeze a node": on_node(nodes.pause, nodes.resume),
        "cut a node off": on_node(nodes.isolate, nodes.rejoin),
        "kill a zygote": kill_one(zygotes),
        "kill a container": kill_one(servers),
    }


def converged(api: Api, port: int) -> str:
    """What is still amiss; empty if nothing is."""
    try:
        amiss = [one.name for one in cluster.status(NAME).components if one.state != "running"]
        if amiss:
            return f"not running: {', '.join(amiss)}"
        waiting_nodes = [one["metadata"]["name"] for one in api.get("/api/v1/nodes")["items"] if not is_ready(one)]
        if waiting_nodes:
            return f"not Ready: {', '.join(waiting_nodes)}"
        pods = api.get(PODS, labelSelector="app=web")["items"]
    except _BROKEN as error:
        return f"the API server: {error}"
    if len(pods) != REPLICAS or not all(map(is_ready, pods)):
        return f"pods: {states(api, 'web')}"
    if len(servers()) != REPLICAS:
        return f"{len(servers())} processes for {REPLICAS} replicas"
    return "" if answers(port) else "the Service does not answer"


def until_converged(api: Api, port: int, what: str) -> float:
    """Seconds until nothing is amiss in three looks in a row."""
    began = time.monotonic()
    last = [""]

    def well() -> bool:
        last[0] = converged(api, port)
        return not last[0]

    waiting.held(well, f"the cluster coming back after {what}", polls=3, timeout=PATIENCE, state=lambda: last[0])
    return time.monotonic() - began


def main() -> None:
    """Do harm and tell."""
    given = options(__doc__, faults=(200, 4, "faults"), nodes=(3, 2, "nodes"), seed=(1, 1, "of the random choices"))
    here = machine()
    announce("faults-200", here)
    chance = random.Random(given.seed)
    took: dict[str, list[float]] = {}
    not_converged: list[str] = []
    started = before()
    with running(given.nodes) as api:
        api.post(DEPLOYMENTS, deployment("web", REPLICAS, _CONTAINER))
        port = api.post(SERVICES, node_port("web", PORT))["spec"]["ports"][0]["nodePort"]
        until_ready(api, "web", REPLICAS)
        until_converged(api, port, "its start")
        traffic = Traffic(api, port)
        threads = traffic.begin()
        harm = faults(chance)
        seen = look(started)
        for number in range(1, given.faults + 1):
            name = chance.choice(sorted(harm))
            hit = harm[name]()
            try:
                seconds = until_converged(api, port, f"{name} ({hit})")
                took.setdefault(name, []).append(seconds)
            except waiting.WaitTimeout as error:
                not_converged.append(f"{number}: {error}")
                say(f"  {not_converged[-1]}")
            seen = look(started).and_before(seen)
            if number % 20 == 0:
                say(f"  {number} faults, {traffic.failed} of {traffic.asked} requests failed")
        traffic.ended = True
        for thread in threads:
            thread.join(timeout=30)
        there = {one["metadata"]["name"] for one in api.get(_MAPS)["items"]}
        lost = sorted(set(traffic.made) - there)
    # The last process of a namespace may wait a moment for the machine's first one, which is told of its end.
    with contextlib.suppress(waiting.WaitTimeout):
        waiting.until(lambda: not any(left(seen, started).values()), "nothing being left", timeout=30)
    remains = {kind: what for kind, what in left(seen, started).items() if what}
    for kind, what in remains.items():
        say(f"  left of its {kind}: {', '.join(what)}")
    rows = [(name, len(found), median(found), max(found)) for name, found in sorted(took.items())]
    everything = [seconds for found in took.values() for seconds in found]
    table("Seconds until everything was as asked", ("fault", "times", "median", "most"), rows)
    rows = [
        ("faults", given.faults),
        ("not converged", len(not_converged)),
        ("objects acknowledged", len(traffic.made)),
        ("objects lost", len(lost)),
        ("requests", traffic.asked),
        ("failed meanwhile", traffic.failed),
        ("left when it was down", sum(map(len, remains.values()))),
    ]
    table("In all", ("", ""), rows)
    value = len(not_converged) + len(lost) + sum(map(len, remains.values()))
    figure = Figure("faults-200", value, "not converged, lost or left", 0, "none", value == 0)
    figure.more = {
        "faults": given.faults,
        "seed": given.seed,
        "acknowledged": len(traffic.made),
        "failed_requests": round(traffic.failed / max(1, traffic.asked), 4),
        **{f"recovery_p{share}": round(percentile(everything, share), 2) for share in (50, 99) if everything},
    }
    finish(figure, here)


if __name__ == "__main__":
    main()
