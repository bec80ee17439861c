"""cluster-up: from `podlab cluster up` to a Deployment of 3 that answers through its Service.

Floor: the same etcd, API server, controller manager and scheduler started by hand, until /readyz and the
default service account. Binaries are warm in both. Limit: 1.5 times the floor.
"""

from __future__ import annotations

import http.client
import time

from api import DEPLOYMENTS, SERVICES, Api, deployment, node_port
from by_hand import control_plane
from clusters import NAME, podlab, states, taken_down, until_ready
from common import Figure, announce, finish, interleave, machine, median, options, table

from podlab import cluster, waiting
from podlab.cluster.embedded import binaries

LIMIT = 1.5
PORT = 8080
#: Says who answers; Ready when it listens.
_PROGRAM = """
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = socket.gethostname().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
_CONTAINER = {
    "image": "podlab/python:3",
    "command": ["python", "-c", _PROGRAM],
    "ports": [{"containerPort": PORT}],
    "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
}


def ours() -> dict[str, float]:
    """Seconds from the command's start to each point."""
    times = {}
    with taken_down():
        began = time.monotonic()
        podlab("cluster", "up", "--name", NAME, "--nodes", "3")
        times["cluster up"] = time.monotonic() - began
        api = Api.of_kubeconfig(cluster.get(NAME).kubeconfig)
        api.post(DEPLOYMENTS, deployment("web", 3, _CONTAINER))
        port = api.post(SERVICES, node_port("web", PORT))["spec"]["ports"][0]["nodePort"]
        until_ready(api, "web", 3)
        times["3 pods Ready"] = time.monotonic() - began
        waiting.until(
            lambda: _answer(port),
            "an answer of the Service",
            timeout=60,
            interval=0.02,
            state=lambda: states(api, "web"),
        )
        times["the Service answers"] = time.monotonic() - began
        began = time.monotonic()
    times["cluster down"] = time.monotonic() - began
    return times


def _answer(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().startswith(b"web-")
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def floor() -> dict[str, float]:
    """Seconds from the start of etcd to each point."""
    with control_plane() as plane:
        return {"/readyz": plane.ready, "default service account": plane.account}


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, repeats=(5, 1, "runs of each"))
    here = machine()
    announce("cluster-up", here)
    binaries.ensure()
    runs = interleave(given.repeats, floor=floor, ours=ours)
    rows = []
    for name in ("floor", "ours"):
        for point in runs[name][0]:
            values = [run[point] for run in runs[name]]
            rows.append((f"{name}: {point}", min(values), median(values), max(values)))
    table(f"Seconds, {given.repeats} runs in turn", ("until", "least", "median", "most"), rows)
    value = median([run["the Service answers"] for run in runs["ours"]])
    figure = Figure("cluster-up", value, "s", median([run["default service account"] for run in runs["floor"]]))
    figure.limit = f"at most {LIMIT} x floor"
    figure.met = None if given.small else (figure.ratio or 0) <= LIMIT
    finish(figure, here)


if __name__ == "__main__":
    main()
