"""A small web server as a Deployment behind a NodePort Service, for tests of the whole."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

from podlab.waiting import until

SERVER = """
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ["POD"] + " " + os.environ["NODE"] + " " + self.client_address[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        print("asked", flush=True)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def web(namespace: str, replicas: int = 3, node_port: int | None = None) -> str:
    """Deployment and Service `web` as JSON for `kubectl apply -f -`, one pod per node where that is possible."""
    labels = {"app": "web"}
    container = {
        "name": "server",
        "image": "podlab/python:3",
        "command": ["python3", "-S", "-c", SERVER],
        "env": [field("POD", "metadata.name"), field("NODE", "spec.nodeName")],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    pod = {"containers": [container], "terminationGracePeriodSeconds": 1, "topologySpreadConstraints": [spread]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    port: dict[str, Any] = {"port": 80, "targetPort": 8080}
    if node_port:
        port["nodePort"] = node_port
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"type": "NodePort", "selector": labels, "ports": [port]},
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [deployment, service]})


def ask(port: int, host: str = "127.0.0.1") -> tuple[str, str, str]:
    """(pod, node, the client that the pod saw) of one request at a node port of this host, or a load balancer's."""
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
        pod, node, client = answer.read().decode().split()
    return pod, node, client


#: What a request may meet while endpoints change.
TROUBLE = (urllib.error.URLError, ConnectionError, TimeoutError)


def answered(port: int, host: str = "127.0.0.1") -> tuple[str, str, str]:
    """The first answer at a node port: rules follow endpoints, and a rollout waits for neither."""
    return until(lambda: ask(port, host), f"an answer at {host}:{port}", timeout=240, ignore=TROUBLE)


if __name__ == "__main__":  # on a machine with a network of its own: `python deployments.py HOST PORT`
    try:
        print(*ask(int(sys.argv[2]), sys.argv[1]))
    except TROUBLE as error:
        sys.exit(str(error))
