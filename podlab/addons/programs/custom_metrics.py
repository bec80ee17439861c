"""custom.metrics.k8s.io from Prometheus: what an autoscaler may ask of pods beyond CPU and memory.

A pod's program. Each metric is a line of the file METRICS: a name and a PromQL expression in which `{selector}`
stands for the label matchers of the pods asked for; the result needs a label `pod`. Only the API server is answered:
it has authorized the request, and shows its front-proxy certificate.
API: https://github.com/kubernetes/metrics (custom_metrics/v1beta2).
"""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

try:
    from podlab.addons.programs.in_cluster import ApiServer
except ImportError:  # in a pod the programs lie side by side
    from in_cluster import ApiServer  # type: ignore[no-redef]

Object = dict[str, Any]

GROUP_VERSION = "custom.metrics.k8s.io/v1beta2"
ROOT = f"/apis/{GROUP_VERSION}"
PORT = 6443
#: Where the API server's own settings towards aggregated APIs are published.
FRONT_PROXY = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"

_PODS = re.compile(rf"{ROOT}/namespaces/([a-z0-9-]+)/pods/([a-z0-9.*-]+)/([a-z0-9_]+)")


class Refused(Exception):
    """A request that is answered with `status`; the message says why."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


def metrics(text: str) -> dict[str, str]:
    """Name -> expression of the lines `name: expression`; ValueError names the line that is none."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, expression = line.partition(":")
        if not colon or not re.fullmatch(r"[a-z0-9_]+", name.strip()) or "{selector}" not in expression:
            raise ValueError(f"line {number} is no `name: expression with {{selector}}`: {line}")
        found[name.strip()] = expression.strip()
    return found


def query(expression: str, namespace: str, pods: Sequence[str]) -> str:
    """The expression for these pods."""
    names = "|".join(re.escape(pod).replace("\\", "\\\\") for pod in pods)
    return expression.replace("{selector}", f'namespace="{namespace}",pod=~"{names}"')


def quantity(value: float) -> str:
    """A number as a Kubernetes quantity, in thousandths."""
    return f"{round(value * 1000)}m"


def values(namespace: str, name: str, pods: Sequence[str], result: Sequence[Object]) -> Object:
    """The MetricValueList of what Prometheus found; pods of which it knows nothing are left out."""
    items = []
    for sample in result:
        pod, (at, value) = sample["metric"].get("pod"), sample["value"]
        if pod not in pods or value in ("NaN", "+Inf", "-Inf"):
            continue
        described = {"kind": "Pod", "namespace": namespace, "name": pod, "apiVersion": "/v1"}
        time = datetime.fromtimestamp(float(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metric = {"name": name, "selector": None}
        items.append(
            {"describedObject": described, "metric": metric, "timestamp": time, "value": quantity(float(value))}
        )
    return {"kind": "MetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": items}


class Adapter:
    """Answers the paths of the API with what `prometheus` (a base URL) knows."""

    def __init__(self, api: ApiServer, prometheus: str, known: Mapping[str, str]) -> None:
        self._api, self._prometheus, self._known = api, prometheus, known

    def answer(self, path: str, parameters: Mapping[str, str]) -> Object:
        """The answer to GET `path`; Refused if there is none."""
        group = {"groupVersion": GROUP_VERSION, "version": "v1beta2"}
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
        if path == "/apis/custom.metrics.k8s.io":
            named = {"kind": "APIGroup", "apiVersion": "v1", "name": "custom.metrics.k8s.io"}
            return {**named, "versions": [group], "preferredVersion": group}
        if path == ROOT:
            common = {"singularName": "", "namespaced": True, "kind": "MetricValueList", "verbs": ["get"]}
            resources = [{"name": f"pods/{name}", **common} for name in self._known]
            named = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION}
            return {**named, "resources": resources}
        if found := _PODS.fullmatch(path):
            return self._pods(found[1], found[2], found[3], parameters)
        raise Refused(404, "NotFound", "the server could not find the requested resource")

    def _pods(self, namespace: str, pod: str, name: str, parameters: Mapping[str, str]) -> Object:
        if name not in self._known:
            raise Refused(404, "NotFound", f"there is no metric {name}; there are {', '.join(self._known)}")
        selector = {"labelSelector": parameters.get("labelSelector", "")}
        if pod != "*":
            selector = {"fieldSelector": f"metadata.name={pod}"}
        listed = self._api.list(f"/api/v1/namespaces/{namespace}/pods", {k: v for k, v in selector.items() if v})
        pods = [thing["metadata"]["name"] for thing in listed]
        if not pods:
            return values(namespace, name, [], [])
        return values(namespace, name, pods, self._ask(query(self._known[name], namespace, pods)))

    def _ask(self, expression: str) -> Sequence[Object]:
        body = urllib.parse.urlencode({"query": expression}).encode()
        try:
            with urllib.request.urlopen(f"{self._prometheus}/api/v1/query", body, timeout=10) as answer:
                found: Sequence[Object] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(1000).decode(errors="replace")
            if error.code == 503:  # in plain words: it is only starting, or ends
                raise Refused(503, "ServiceUnavailable", f"Prometheus does not answer: {text.strip()}") from error
            try:
                said = json.loads(text)["error"]
            except (ValueError, LookupError, TypeError):
                said = text
            raise Refused(500, "InternalError", f"Prometheus refused {expression}: {said}") from error
        except OSError as error:
            raise Refused(503, "ServiceUnavailable", f"Prometheus does not answer: {error}") from error
        return found


def status(refused: Refused) -> Object:
    """The Kubernetes Status of a refusal."""
    named = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**named, "message": str(refused), "reason": refused.reason, "code": refused.status}


def tls(api: ApiServer, folder: Path) -> tuple[ssl.SSLContext, list[str]]:
    """The server's TLS settings, and the names one of which a client's certificate must have."""
    data = api.get(FRONT_PROXY)["data"]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:
        file.write(data["requestheader-client-ca-file"])
        file.flush()
        context.load_verify_locations(file.name)
    context.verify_mode = ssl.CERT_OPTIONAL  # the kubelet's probes have no certificate
    return context, json.loads(data["requestheader-allowed-names"])


def common_names(certificate: Mapping[str, Any] | None) -> set[str]:
    """The common names of a verified client certificate."""
    parts = (certificate or {}).get("subject", ())
    return {value for part in parts for key, value in part if key == "commonName"}


def main() -> None:
    """Serve for ever."""
    api = ApiServer()
    known = metrics(Path(os.environ["METRICS"]).read_text())
    adapter = Adapter(api, os.environ["PROMETHEUS"], known)
    context, allowed = tls(api, Path(os.environ["CERTIFICATES"]))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            where = urllib.parse.urlsplit(self.path)
            code, answer = 200, {}
            try:
                if where.path != "/healthz":
                    names = common_names(self.connection.getpeercert())
                    if not names or (allowed and not names & set(allowed)):
                        raise Refused(401, "Unauthorized", "only the API server is answered here")
                    # The API server writes the star that stands for all pods as %2A.
                    answer = adapter.answer(urllib.parse.unquote(where.path), dict(urllib.parse.parse_qsl(where.query)))
            except Refused as error:
                code, answer = error.status, status(error)
            except OSError as error:
                code, answer = 503, status(Refused(503, "ServiceUnavailable", f"the API server: {error}"))
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, form: str, *arguments: object) -> None:
            if not str(arguments[0]).startswith("GET /healthz"):
                print(form % arguments, file=sys.stderr, flush=True)

    server = ThreadingHTTPServer(("", PORT), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()
