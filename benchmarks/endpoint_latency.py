"""endpoint-latency: from the answer to a change of an EndpointSlice until a new connection meets the new endpoint.

A pod asks a ClusterIP without a break, over a new connection each time, and writes down when the answer comes from
another pod than before; both read the same clock. Floor: the watch, from the same answer until an ordinary client
sees the change. Limit: p99 at most 200 ms.
"""

from __future__ import annotations

import threading
import time

from api import PODS, SERVICES, Api, Object, pod
from clusters import running, until_ready
from common import Figure, announce, finish, machine, options, percentile, say, table

from podlab import waiting

P99 = 0.200
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_SERVER = """
import os, socket
listening = socket.create_server(("", 8080))
while True:
    connection, _ = listening.accept()
    connection.sendall(os.environ["ME"].encode())
    connection.close()
"""
_PROBER = """
import os, socket, time
last = b""
while True:
    try:
        with socket.create_connection((os.environ["ASKED"], 80), timeout=5) as connection:
            now = connection.recv(100)
    except OSError:
        now = b""
    if now and now != last:
        print(time.monotonic(), now.decode(), flush=True)
        last = now
    time.sleep(0.001)
"""


def python(program: str, **environment: str) -> Object:
    """A container that runs a program."""
    env = [{"name": name, "value": value} for name, value in environment.items()]
    return {"image": "podlab/python:3", "command": ["python", "-c", program], "env": env}


def slice_to(address: str, version: str = "") -> Object:
    """The Service's only EndpointSlice, with one endpoint."""
    metadata: Object = {"name": "moving-1", "labels": {"kubernetes.io/service-name": "moving"}}
    if version:
        metadata["resourceVersion"] = version
    return {
        "metadata": metadata,
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


class Floor:
    """When a watch by an ordinary client showed each version of the EndpointSlice."""

    def __init__(self, api: Api, version: str) -> None:
        self.seen: dict[str, float] = {}
        self._api = api
        threading.Thread(target=self._follow, args=(version,), daemon=True).start()

    def _follow(self, version: str) -> None:
        query = {"resourceVersion": version, "fieldSelector": "metadata.name=moving-1", "timeoutSeconds": 3600}
        for event in self._api.watch(SLICES, **query):
            self.seen[event["object"]["metadata"]["resourceVersion"]] = time.monotonic()


def last_answer(api: Api) -> tuple[float, str]:
    """When the prober met another pod than before for the last time, and which."""
    lines = api.text(f"{PODS}/prober/log", tailLines=1).split()
    return (float(lines[0]), lines[1]) if len(lines) == 2 else (0.0, "")


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, changes=(200, 4, "changes of the endpoint"), nodes=(3, 1, "nodes"))
    here = machine()
    announce("endpoint-latency", here)
    latencies, floors = [], []
    with running(given.nodes) as api:
        for name in ("left", "right"):
            api.post(PODS, pod(name, python(_SERVER, ME=name)))
        for name in ("left", "right"):
            until_ready(api, name, 1)
        addresses = {name: api.get(f"{PODS}/{name}")["status"]["podIP"] for name in ("left", "right")}
        service = api.post(SERVICES, {"metadata": {"name": "moving"}, "spec": {"ports": [{"port": 80}]}})
        made = api.post(SLICES, slice_to(addresses["left"]))
        version = made["metadata"]["resourceVersion"]
        watch = Floor(api, version)
        api.post(PODS, pod("prober", python(_PROBER, ASKED=service["spec"]["clusterIP"])))
        until_ready(api, "prober", 1)
        waiting.until(lambda: last_answer(api)[1] == "left", "an answer from the first endpoint", timeout=60)
        for number in range(given.changes):
            side = ("right", "left")[number % 2]
            version = api.put(f"{SLICES}/moving-1", slice_to(addresses[side], version))["metadata"]["resourceVersion"]
            changed = time.monotonic()
            waiting.until(
                lambda side=side: last_answer(api)[1] == side, f"an answer from {side}", timeout=60, interval=0.02
            )
            waiting.until(lambda version=version: version in watch.seen, "the watch", timeout=60, interval=0.02)
            latencies.append(last_answer(api)[0] - changed)
            floors.append(watch.seen[version] - changed)
            if number % 50 == 49:
                say(f"  {number + 1} changes")
    rows = [
        (name, *(1000 * percentile(values, percent) for percent in (50, 90, 99, 100)))
        for name, values in (("rule in force", latencies), ("seen by a watch", floors))
    ]
    table(f"Milliseconds after the API's answer, {given.changes} changes", ("", "p50", "p90", "p99", "most"), rows)
    value = percentile(latencies, 99)
    figure = Figure("endpoint-latency", value, "s", percentile(floors, 99), f"p99 at most {P99} s")
    figure.met = None if given.small else value <= P99
    figure.more = {"p50": round(percentile(latencies, 50), 4)}
    finish(figure, here)


if __name__ == "__main__":
    main()
