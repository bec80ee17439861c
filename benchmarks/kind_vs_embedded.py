"""kind-vs-embedded: one cluster of three nodes of each provider, in turn, through the same measurements.

Start (`podlab cluster up` until a pod could run), memory, a Deployment until all its pods are Ready and until they
are gone, a new Service until it answers at its node port, a changed endpoint until new connections meet it there, a
rolling update under load, and the end of the cluster.
Needs a container runtime: Docker, or `cluster/kind-lab/lab with make bench NAME=kind-vs-embedded`.
Goal: embedded starts in at most a quarter of kind's time and takes at most half its memory.
"""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from api import DEPLOYMENTS, PODS, SERVICES, Api, deployment, node_port
from clusters import NAME, podlab, states, supervisor, taken_down, until_ready
from common import Figure, announce, finish, interleave, machine, median, options, table
from endpoint_latency import SLICES, slice_to
from processes import Used, descendants, used

from podlab import cluster, waiting
from podlab.cluster.kind import runtime
from podlab.cluster.kind.provider import kind_name

MIB = 2**20
PORT = 8080
_SERVER = """
import http.server, os
NAME = os.uname().nodename.encode()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", str(len(NAME))); self.end_headers()
        self.wfile.write(NAME)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
_WEB = {
    "image": "podlab/python:3",
    "command": ["python3", "-S", "-c", _SERVER],
    "ports": [{"containerPort": PORT}],
    "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
    # The rest of the cluster hears of a pod's end a moment after the pod itself.
    "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
}
_IDLE = {"image": "podlab/toolbox:1", "command": ["sleep", "infinity"]}
_TROUBLE = (urllib.error.URLError, ConnectionError, TimeoutError)


@dataclass
class Site:
    """A running cluster: its API, and the address at which node ports answer."""

    api: Api
    address: str

    def ask(self, port: int) -> str:
        """One request at a node port, over a new connection: the pod that answers; one of _TROUBLE if none does."""
        with urllib.request.urlopen(f"http://{self.address}:{port}/", timeout=2) as answer:
            return answer.read().decode()


def first_pids(provider: str) -> list[int]:
    """The processes under which everything of the cluster is: the supervisor, or the first of each node."""
    if provider == "embedded":
        return [supervisor()]
    return [node.pid for node in runtime.find().nodes(kind_name(NAME))]


def memory(provider: str) -> Used:
    """What all processes of the cluster use. The daemon of the container runtime is not counted."""
    return sum((used(pid) for first in first_pids(provider) for pid in descendants(first)), Used())


def measured(provider: str, pods: int, services: int, settle: int) -> dict[str, float]:
    """Every figure of one cluster, from its start to its end."""
    found: dict[str, float] = {}
    with taken_down():
        began = time.monotonic()
        podlab("cluster", "up", "--name", NAME, "--nodes", "3", "--provider", provider)
        found["start"] = time.monotonic() - began
        site = _site(provider)
        waiting.pause(settle)
        here = memory(provider)
        found |= {"resident": here.resident / MIB, "proportional": here.proportional / MIB}
        found |= burst(site.api, pods)
        found |= traffic(site, services)
        began = time.monotonic()
    return {**found, "end": time.monotonic() - began}


def _site(provider: str) -> Site:
    api = Api.of_kubeconfig(cluster.get(NAME).kubeconfig)
    if provider == "embedded":
        return Site(api, "127.0.0.1")
    addresses = api.get("/api/v1/nodes")["items"][-1]["status"]["addresses"]
    return Site(api, next(one["address"] for one in addresses if one["type"] == "InternalIP"))


def burst(api: Api, pods: int) -> dict[str, float]:
    """Seconds until the pods of a new Deployment are all Ready, and until they are gone again."""
    began = time.monotonic()
    api.post(DEPLOYMENTS, deployment("burst", pods, _IDLE))
    until_ready(api, "burst", pods, timeout=900)
    ready, began = time.monotonic() - began, time.monotonic()
    api.delete(f"{DEPLOYMENTS}/burst", propagationPolicy="Background")
    waiting.until(
        lambda: not api.get(PODS, labelSelector="app=burst")["items"], "the pods being gone",
        timeout=900, interval=0.1, state=lambda: states(api, "burst"),
    )  # fmt: skip
    return {"ready": ready, "gone": time.monotonic() - began}


def traffic(site: Site, services: int) -> dict[str, float]:
    """Seconds until a new Service answers and a changed endpoint does (the middle of several); a rolling update."""
    site.api.post(DEPLOYMENTS, deployment("web", 3, _WEB, grace=10))
    until_ready(site.api, "web", 3)
    seconds = []
    for number in range(services):
        began = time.monotonic()
        made = node_port("web", PORT) | {"metadata": {"name": f"web-{number}"}}
        port = site.api.post(SERVICES, made)["spec"]["ports"][0]["nodePort"]
        waiting.until(
            lambda port=port: site.ask(port), "an answer of the Service", timeout=60, interval=0.01, ignore=_TROUBLE
        )
        seconds.append(time.monotonic() - began)
    moves = moved(site, 2 * services)
    load = Load(site, port)
    with load:
        took = roll(site.api)
    found = {"service": median(seconds), "endpoint": median(moves), "rollout": took}
    return {**found, "asked": load.asked, "failed": load.failed}


def moved(site: Site, changes: int) -> list[float]:
    """Seconds from the API's answer to a change of a Service's only endpoint until the other pod answers."""
    pods = site.api.get(PODS, labelSelector="app=web")["items"]
    addresses = {one["metadata"]["name"]: one["status"]["podIP"] for one in pods[:2]}
    service = {"metadata": {"name": "moving"}, "spec": {"type": "NodePort", "ports": [{"port": PORT}]}}
    port = site.api.post(SERVICES, service)["spec"]["ports"][0]["nodePort"]
    names = list(addresses)
    version = site.api.post(SLICES, slice_to(addresses[names[0]]))["metadata"]["resourceVersion"]
    _met(site, port, names[0])
    seconds = []
    for number in range(changes):
        name = names[(number + 1) % 2]
        answer = site.api.put(f"{SLICES}/moving-1", slice_to(addresses[name], version))
        version, began = answer["metadata"]["resourceVersion"], time.monotonic()
        _met(site, port, name)
        seconds.append(time.monotonic() - began)
    return seconds


def _met(site: Site, port: int, name: str) -> None:
    waiting.until(
        lambda: site.ask(port) == name, f"an answer of {name}", timeout=60, interval=0.005, ignore=_TROUBLE
    )  # fmt: skip


@dataclass
class Load:
    """Requests one after the other from four clients while it is entered, fifty a second at most."""

    site: Site
    port: int
    asked: int = 0
    failed: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _clients: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._clients = [threading.Thread(target=self._ask, daemon=True) for _ in range(4)]
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def _ask(self) -> None:
        while not self._over.wait(0.08):
            try:
                well = bool(self.site.ask(self.port))
            except _TROUBLE:
                well = False
            with self._lock:
                self.asked += 1
                self.failed += not well


def roll(api: Api) -> float:
    """Seconds until each of three pods has been replaced, one at a time."""
    path = f"{DEPLOYMENTS}/web"
    body: Any = api.get(path)
    body["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    body["spec"]["template"]["metadata"]["labels"]["version"] = "2"
    began = time.monotonic()
    generation = api.put(path, body)["metadata"]["generation"]

    def finished() -> bool:
        status = api.get(path)["status"]
        counts = [status.get(key) for key in ("replicas", "updatedReplicas", "availableReplicas")]
        return status.get("observedGeneration", 0) >= generation and counts == [3, 3, 3]

    waiting.until(finished, "the rolling update", timeout=300, interval=0.1, state=lambda: states(api, "web"))
    return time.monotonic() - began


ROWS = {
    "start": "start until a pod could run, s",
    "resident": "memory, resident, MiB",
    "proportional": "memory, proportional, MiB",
    "ready": "Deployment until all Ready, s",
    "gone": "Deployment until all gone, s",
    "service": "new Service until it answers, s",
    "endpoint": "changed endpoint until it answers, s",
    "rollout": "rolling update of 3 under load, s",
    "asked": "requests meanwhile",
    "failed": "of them failed",
    "end": "cluster down, s",
}


def main() -> None:
    """Measure and tell."""
    given = options(
        __doc__,
        pods=(100, 6, "pods of the Deployment"),
        services=(10, 2, "new Services, and half the changes of an endpoint"),
        settle=(20, 2, "seconds to settle before the look at memory"),
        repeats=(2, 1, "clusters of each"),
    )
    here = machine()
    announce("kind-vs-embedded", here)
    runtime.find()
    results = interleave(
        given.repeats,
        **{
            name: lambda name=name: measured(name, given.pods, given.services, given.settle)
            for name in ("embedded", "kind")
        },
    )
    middle = {name: {row: median([one[row] for one in runs]) for row in ROWS} for name, runs in results.items()}
    ours, kinds = middle["embedded"], middle["kind"]
    rows = [(label, ours[row], kinds[row], ours[row] / kinds[row] if kinds[row] else "") for row, label in ROWS.items()]
    table(f"3 nodes, Deployment of {given.pods}, {given.repeats} of each", ("", "embedded", "kind", "ratio"), rows)
    figure = Figure("kind-vs-embedded", ours["start"], "s to start", kinds["start"])
    figure.limit = "a quarter of kind's start, half its memory"
    if not given.small:
        figure.met = ours["start"] <= kinds["start"] / 4 and ours["proportional"] <= kinds["proportional"] / 2
    figure.more = {name: {row: round(value, 2) for row, value in found.items()} for name, found in middle.items()}
    finish(figure, here)


if __name__ == "__main__":
    main()
