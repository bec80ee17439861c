"""Failed requests to serving while its pods are replaced and its model changes under load; and with a wrong manifest.

Clients ask over connections that they keep, through a node port, and never repeat a request: what is cut off, refused
or answered with an error has failed. First the recommender's own manifest: all pods of serving are replaced by a
rolling update, and new ratings lead to another model, again and again until enough requests have been sent. Then a
manifest that is wrong on purpose (no readiness probe, no drain, all pods at once), which must show failures: else
nothing was measured.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import httpx
from clusters import NAME, taken_down
from common import Figure, announce, finish, machine, options, percentile, say, table

from podlab import cluster, waiting
from podlab.checks.api import Api
from podlab.checks.world import is_ready
from podlab.commands import movies_pods
from podlab.commands.movies_pods import NAMESPACE

_HOST, _PATIENCE, _MANAGER = "127.0.0.1", 600, "benchmark"
#: Ratings that lead to another model: more than MOVIES_TRAIN_AFTER of the manifests.
_RATINGS, _FIRST_USER = 40, 1_000_000


@dataclass
class Load:
    """What all clients of a phase saw; `enough` ends them."""

    sent: int = 0
    latencies: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    enough: threading.Event = field(default_factory=threading.Event)

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return self.failures.total()


class Client:
    """Asks for one recommendation after the other, on a connection that is kept until either side closes it."""

    def __init__(self, port: int, users: int, load: Load) -> None:
        self.port, self.users, self.load = port, users, load
        self.link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, number: int) -> None:
        """Ask until the load has had enough."""
        while not self.load.enough.is_set():
            number += 7
            began = time.perf_counter()
            try:
                async with asyncio.timeout(60):
                    trouble = await self._once(f"/users/{number % self.users + 1}/recommendations")
            except (OSError, EOFError, TimeoutError) as error:
                trouble = type(error).__name__
                self._close()
            self.load.sent += 1
            if trouble:
                self.load.failures[trouble] += 1
                # Whoever is refused at once must not count a thousand failures for one.
                await waiting.pause_async(0.05)
            else:
                self.load.latencies.append(time.perf_counter() - began)
        self._close()

    async def _once(self, path: str) -> str:
        if self.link is None:
            self.link = await asyncio.open_connection(_HOST, self.port)
        reader, writer = self.link
        writer.write(f"GET {path} HTTP/1.1\r\nHost: serving\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
        if b"connection: close" in head:
            self._close()
        return "" if head.startswith(b"http/1.1 200") else f"status {head.split()[1].decode()}"

    def _close(self) -> None:
        if self.link is not None:
            self.link[1].close()
            self.link = None


def under_load(port: int, clients: int, users: int, least: int, work: Callable[[Load], None]) -> Load:
    """Load the port while `work` is done, and until `least` requests have been sent."""
    load = Load()

    async def all_of_them() -> None:
        await asyncio.gather(*(Client(port, users, load).run(number) for number in range(clients)))

    thread = threading.Thread(target=asyncio.run, args=(all_of_them(),))
    thread.start()
    try:
        _sent(load, max(1, least // 10))
        work(load)
        _sent(load, least)
    finally:
        load.enough.set()
        thread.join()
    return load


def _sent(load: Load, count: int) -> None:
    waiting.until(lambda: load.sent >= count, f"{count} requests", timeout=3600, interval=0.2, state=lambda: load.sent)


def outside(api: Api, name: str) -> int:
    """Open a service of the recommender on a node port of this machine: the port."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-outside", "namespace": NAMESPACE},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [{"port": 8000, "targetPort": "http"}]},
    }
    made = api.apply(service, NAMESPACE, manager=_MANAGER)
    port: int = made["spec"]["ports"][0]["nodePort"]
    waiting.until(
        lambda: httpx.get(f"http://{_HOST}:{port}/readyz", trust_env=False, timeout=10).status_code == 200,
        f"{name} answering on its node port", timeout=_PATIENCE, interval=0.2, ignore=(httpx.HTTPError,),
    )  # fmt: skip
    return port


def pods(api: Api) -> dict[str, Any]:
    """The pods of serving that are not being deleted, by uid."""
    found = api.list("Pod", NAMESPACE, labelSelector="app=serving")
    return {pod["metadata"]["uid"]: pod for pod in found if not pod["metadata"].get("deletionTimestamp")}


def replaced(api: Api, deployment: dict[str, Any]) -> int:
    """Apply a Deployment whose pods differ from those there are, and wait; how many were replaced."""
    before = pods(api)
    api.apply(deployment, NAMESPACE, manager=movies_pods.MANAGER)

    def done() -> bool:
        now = pods(api)
        return len(now) == len(before) and not now.keys() & before.keys() and all(map(is_ready, now.values()))

    waiting.until(done, "all pods of serving being replaced", timeout=_PATIENCE, interval=0.2)
    waiting.until(
        lambda: len(api.list("Pod", NAMESPACE, labelSelector="app=serving")) == len(before),
        "the end of the old pods", timeout=_PATIENCE, interval=0.2,
    )  # fmt: skip
    return len(before)


def model(port: int) -> str:
    """The version of the model in use by one of the pods."""
    answer = httpx.get(f"http://{_HOST}:{port}/model", trust_env=False, timeout=60)
    return str(answer.raise_for_status().json()["version"])


def another_model(serving: int, ingestion: int, turn: int) -> None:
    """Send ratings of nobody else's, and return when serving uses the model that was made because of them."""
    before = model(serving)
    with httpx.Client(base_url=f"http://{_HOST}:{ingestion}", trust_env=False, timeout=60) as client:
        for number in range(_RATINGS):
            user = _FIRST_USER + 5 * turn + number % 5
            event = {"id": f"z-{turn}-{number}", "kind": "rating", "user": user, "movie": number + 1, "stars": 4}
            client.post("/events", json=event).raise_for_status()
    waiting.until(
        lambda: all(model(serving) != before for _ in range(6)),
        "another model in use", timeout=_PATIENCE, interval=0.5, ignore=(httpx.HTTPError,),
    )  # fmt: skip


def serving_of_the_course() -> dict[str, Any]:
    """The Deployment of serving in cluster/manifests/movies."""
    return next(
        thing
        for thing in movies_pods.objects("movies")
        if thing["kind"] == "Deployment" and thing["metadata"]["name"] == "serving"
    )


def changed(deployment: dict[str, Any], mark: str) -> dict[str, Any]:
    """The same with another annotation on its pods, which makes Kubernetes replace them."""
    found = deepcopy(deployment)
    found["spec"]["template"]["metadata"]["annotations"] = {"podlab.dev/benchmark": mark}
    return found


def wrong(deployment: dict[str, Any]) -> dict[str, Any]:
    """A manifest as it should not be: nobody asks whether a pod is ready, it does not drain, and all go at once."""
    found = changed(deployment, "wrong")
    found["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "100%"}}
    container = found["spec"]["template"]["spec"]["containers"][0]
    for probe in ("readinessProbe", "startupProbe"):
        container.pop(probe)
    container["env"] = [
        {"name": "MOVIES_DRAIN_SECONDS", "value": "0"},
        {"name": "MOVIES_STOP_SECONDS", "value": "0"},
    ]
    return found


def main() -> None:
    given = options(
        __doc__,
        requests=(100_000, 1_500, "requests with the right manifest"),
        wrong_requests=(5_000, 600, "requests with the wrong one"),
        clients=(8, 4, "clients at once"),
        ratings=(20_000, 2_000, "ratings to generate"),
        nodes=(2, 2, "nodes of the cluster"),
    )
    here = machine()
    announce("zero-downtime", here)
    facts: dict[str, int] = {}
    with taken_down(NAME):
        made = cluster.up(NAME, nodes=given.nodes)
        movies_pods.up(NAME, say, ratings=given.ratings)
        api = Api.connect(made.kubeconfig)
        serving, ingestion = outside(api, "serving"), outside(api, "ingestion")
        ours = serving_of_the_course()

        def update_and_reload(load: Load) -> None:
            for turn in itertools.count(1):
                facts["replaced"] = facts.get("replaced", 0) + replaced(api, changed(ours, f"right-{turn}"))
                another_model(serving, ingestion, turn)
                facts["models"] = turn
                say(f"  {facts['replaced']} pods replaced, {turn} new models: {load.sent} sent, {load.failed} failed")
                if load.sent >= given.requests:
                    return

        def update(load: Load) -> None:
            facts["wrongly_replaced"] = replaced(api, wrong(ours))

        right = under_load(serving, given.clients, 40, given.requests, update_and_reload)
        bad = under_load(serving, given.clients, 40, given.wrong_requests, update)
    rows = [
        (name, load.sent, load.failed, 1000 * percentile(load.latencies, 99), " ".join(load.failures) or "none")
        for name, load in (("the course's manifest", right), ("a wrong manifest", bad))
    ]
    headings = ("manifest", "requests", "failed", "p99 ms", "failures")
    table(f"{facts['replaced']} pods replaced and {facts['models']} new models under load", headings, rows)
    more = {"requests": right.sent, "wrong_failed": bad.failed, "wrong_requests": bad.sent, **facts}
    met = right.failed == 0 and bad.failed > 0
    limit = "0 failed, and some with a wrong manifest"
    finish(Figure("zero-downtime", right.failed, "failed requests", None, limit, met, more), here)


if __name__ == "__main__":
    main()
