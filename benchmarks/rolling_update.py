"""rolling-update: failed requests while a Deployment's pods are replaced again and again, and with a wrong manifest.

Clients ask a small server through a node port, one request after the other, and never repeat one. First a manifest as
it should be: a readiness probe, a preStop hook that waits until everybody knows that the pod has left, one pod more
while one goes. Then one that is wrong on purpose (nobody asks whether a pod is ready, which takes three seconds, and
all go at once), which must show failures: else nothing was measured.
"""

from __future__ import annotations

from api import DEPLOYMENTS, PODS, SERVICES, Api, Object, deployment, is_ready, node_port
from clusters import running, states, until_ready
from common import Figure, announce, finish, machine, options, say
from load import Load, compare, under_load

from podlab import waiting

_SERVER = """
import http.server, signal, sys, threading, time
class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False
time.sleep(3)
server = Server(("", 8080), Pages)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
"""
_APP, _PATIENCE, _LEAVES = "web", 600, 5


def web(mark: str, replicas: int) -> Object:
    """The Deployment as it should be; another mark means other pods."""
    made = deployment(
        _APP, replicas, {"image": "podlab/python:3", "command": ["python3", "-S", "-c", _SERVER]}, grace=30
    )
    made["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    made["spec"]["template"]["metadata"]["annotations"] = {"podlab.dev/benchmark": mark}
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5}
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": _LEAVES}}}
    return made


def wrong(replicas: int) -> Object:
    """The same without a probe and without patience, all pods at once."""
    made = web("wrong", replicas)
    made["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}}
    (container,) = made["spec"]["template"]["spec"]["containers"]
    del container["readinessProbe"], container["lifecycle"]
    return made


def replaced(api: Api, made: Object) -> None:
    """Put the Deployment, and return when all pods are others and the old ones have ended."""

    def pods() -> dict[str, Object]:
        return {one["metadata"]["uid"]: one for one in api.get(PODS, labelSelector=f"app={_APP}")["items"]}

    before = pods()
    api.put(f"{DEPLOYMENTS}/{_APP}", made)

    def done() -> bool:
        now = pods()
        return len(now) == len(before) and not now.keys() & before.keys() and all(map(is_ready, now.values()))

    waiting.until(done, "all pods being others", timeout=_PATIENCE, interval=0.2, state=lambda: states(api, _APP))


def main() -> None:
    """Measure and tell."""
    given = options(
        __doc__,
        requests=(100_000, 1_500, "requests with the right manifest"),
        wrong_requests=(5_000, 600, "requests with the wrong one"),
        clients=(8, 4, "clients at once"),
        replicas=(3, 2, "pods"),
        nodes=(2, 2, "nodes of the cluster"),
    )
    here = machine()
    announce("rolling-update", here)
    turns = 0
    with running(given.nodes) as api:
        api.post(DEPLOYMENTS, web("first", given.replicas))
        port = api.post(SERVICES, node_port(_APP, 8080))["spec"]["ports"][0]["nodePort"]
        until_ready(api, _APP, given.replicas)

        def again_and_again(load: Load) -> None:
            nonlocal turns
            while not turns or load.sent < given.requests:
                turns += 1
                replaced(api, web(f"turn-{turns}", given.replicas))
                say(f"  {turns} rolling updates: {load.sent} sent, {load.failed} failed")

        right = under_load(port, given.clients, lambda _number: "/", given.requests, again_and_again)
        bad = under_load(
            port,
            given.clients,
            lambda _number: "/",
            given.wrong_requests,
            lambda _load: replaced(api, wrong(given.replicas)),
        )
    compare(f"{turns} rolling updates under load", {"as it should be": right, "wrong on purpose": bad})
    figure = Figure("rolling-update", right.failed, "failed requests", None, "0 failed, and some with a wrong manifest")
    figure.met = right.failed == 0 and bad.failed > 0
    figure.more = {"requests": right.sent, "updates": turns, "wrong_failed": bad.failed, "wrong_requests": bad.sent}
    finish(figure, here)


if __name__ == "__main__":
    main()
