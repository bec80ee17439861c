"""metrics.k8s.io: what nodes and pods use, as an aggregated API, so that `kubectl top` and autoscalers work.

One server for the whole cluster. It reads /metrics/resource of every node, and answers the API server, which has
authorized the request already and shows its front-proxy certificate; nobody else is answered.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from podlab.node.api import ApiClient, ApiError
from podlab.node.metrics_window import Reading, Usage, Windows, reading
from podlab.node.prometheus import parse
from podlab.node.statistics import rfc3339
from podlab.node.streams.tasks import end as tasks_end
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

Object = dict[str, Any]
MakeSocket = Callable[[int, int], socket.socket]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

GROUP_VERSION = "metrics.k8s.io/v1beta1"
PATH = f"/apis/{GROUP_VERSION}"
NAMESPACE, SERVICE = "kube-system", "metrics-server"
#: The name that the API server expects in the serving certificate.
SERVER_NAME = f"{SERVICE}.{NAMESPACE}.svc"
#: Port on which the API is served where the API server's egress leads (the Service has port 443).
PORT = 4443
#: Seconds between two readings of a node, and between the first two, so that rates are there soon.
PERIOD, FIRST_PERIOD = 10.0, 2.0
SCRAPE_TIMEOUT = 5.0


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files."""

    cluster_ca: str
    #: For serving, with SERVER_NAME among its names, signed by the cluster's authority.
    serving: str
    serving_key: str
    #: The API server's client certificate towards the nodes.
    client: str
    client_key: str
    #: The authority and the common name of the certificate that the API server shows to aggregated APIs.
    front_proxy_ca: str
    front_proxy_name: str = "front-proxy-client"


def objects(address: str, cluster_ca: bytes) -> list[tuple[str, Object]]:
    """Return (collection path, object) of what registers the API: a role, Service, EndpointSlice and APIService."""
    labels = {"k8s-app": SERVICE}
    port = {"name": "https", "protocol": "TCP"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE, "labels": labels},
        "spec": {"ports": [{**port, "port": 443, "targetPort": PORT}]},
    }
    slice_labels = {**labels, "kubernetes.io/service-name": SERVICE, "endpointslice.kubernetes.io/managed-by": "podlab"}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE, "labels": slice_labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{**port, "port": PORT}],
    }
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io", "labels": labels},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": SERVICE, "namespace": NAMESPACE, "port": 443},
            "caBundle": base64.b64encode(cluster_ca).decode(),
        },
    }
    # Whoever may view, edit or administrate a namespace may see what its pods use.
    readers = {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in ("view", "edit", "admin")}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:aggregated-metrics-reader", "labels": {**labels, **readers}},
        "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    }
    return [
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", role),
        (f"/api/v1/namespaces/{NAMESPACE}/services", service),
        (f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices", endpoints),
        ("/apis/apiregistration.k8s.io/v1/apiservices", registration),
    ]


class MetricsApi:
    """Serves metrics.k8s.io on `listening` (bound, not yet listening); reaches nodes with sockets of `make_socket`.

    `api` may list nodes and pods; it is not closed here.
    """

    def __init__(
        self,
        api: ApiClient,
        listening: socket.socket,
        make_socket: MakeSocket,
        certificates: Certificates,
        *,
        period: float = PERIOD,
    ) -> None:
        self._api = api
        self._listening = listening
        self._make_socket = make_socket
        self._certificates = certificates
        self._period = period
        self._windows = Windows()
        self._runner: web.AppRunner | None = None
        self._scraping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve and to read the nodes."""
        runner = web.AppRunner(self.application(), handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.SockSite(runner, self._listening, ssl_context=self._serving_context()).start()
        self._runner = runner
        self._scraping = asyncio.get_running_loop().create_task(self._scrape_for_ever(), name="metrics of nodes")

    async def stop(self) -> None:
        """End both."""
        if self._scraping:
            await tasks_end([self._scraping])
        if self._runner:
            await self._runner.cleanup()

    # Reading the nodes

    async def _scrape_for_ever(self) -> None:
        context = ssl.create_default_context(cafile=self._certificates.cluster_ca)
        context.load_cert_chain(self._certificates.client, self._certificates.client_key)
        connector = aiohttp.TCPConnector(
            ssl=context, socket_factory=lambda info: self._make_socket(info[0], info[1]), use_dns_cache=False
        )
        timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT)
        period = FIRST_PERIOD
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                began = time.monotonic()
                try:
                    await self.scrape(session)
                except ApiError as error:
                    log.info("nodes cannot be listed: %s", error)
                except Exception:
                    log.exception("reading the nodes' metrics")
                await pause_async(max(0.0, period - (time.monotonic() - began)))
                period = self._period

    async def scrape(self, session: aiohttp.ClientSession) -> None:
        """Read all nodes once; one that does not answer keeps its last readings until it is deleted."""
        nodes = (await self._api.get("/api/v1/nodes", query={"resourceVersion": "0"}))["items"]
        self._windows.keep(node["metadata"]["name"] for node in nodes)
        readings = await asyncio.gather(*(_read(session, node) for node in nodes))
        for node, newest in zip(nodes, readings, strict=True):
            if newest is not None:
                self._windows.add(node["metadata"]["name"], newest)

    # Serving

    def application(self) -> web.Application:
        """Return the web application."""
        application = web.Application(middlewares=[_guard(self._certificates.front_proxy_name)])
        get = application.router.add_get
        for path in ("/healthz", "/livez", "/readyz"):
            get(path, _healthz)
        get("/apis", _groups)
        get("/apis/metrics.k8s.io", _group)
        get(PATH, _resources)
        get(f"{PATH}/nodes", self._nodes)
        get(f"{PATH}/nodes/{{name}}", self._node)
        get(f"{PATH}/pods", self._pods)
        get(f"{PATH}/namespaces/{{namespace}}/pods", self._pods)
        get(f"{PATH}/namespaces/{{namespace}}/pods/{{name}}", self._pod)
        return application

    def _serving_context(self) -> ssl.SSLContext:
        certificates = self._certificates
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.front_proxy_ca)
        context.load_cert_chain(certificates.serving, certificates.serving_key)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    async def _nodes(self, request: web.Request) -> web.StreamResponse:
        listed = await self._list("/api/v1/nodes", request)
        return _list_of("NodeMetricsList", [shown for node in listed if (shown := self._node_metrics(node))])

    async def _node(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        for node in await self._list("/api/v1/nodes", request, name):
            if shown := self._node_metrics(node):
                return web.json_response(shown)
        return _not_found("nodes", name)

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        listed = await self._list(_pods_path(request), request)
        usages = self._windows.pods()
        return _list_of("PodMetricsList", [shown for pod in listed if (shown := _pod_metrics(pod, usages))])

    async def _pod(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        usages = self._windows.pods()
        for pod in await self._list(_pods_path(request), request, name):
            if shown := _pod_metrics(pod, usages):
                return web.json_response(shown)
        return _not_found("pods", f"{namespace}/{name}")

    async def _list(self, path: str, request: web.Request, name: str | None = None) -> Sequence[Object]:
        """The objects whose metrics are asked for, by the API server's own selectors."""
        query = {key: request.query[key] for key in ("labelSelector", "fieldSelector") if request.query.get(key)}
        if name is not None:
            query = {"fieldSelector": f"metadata.name={name}"}
        items: Sequence[Object] = (await self._api.get(path, query={**query, "resourceVersion": "0"}))["items"]
        return items

    def _node_metrics(self, node: Object) -> Object | None:
        used = self._windows.node(node["metadata"]["name"])
        return _metrics("NodeMetrics", node, used, {"usage": _quantities(used)}) if used else None


async def _read(session: aiohttp.ClientSession, node: Object) -> Reading | None:
    status = node.get("status") or {}
    addresses = {entry["type"]: entry["address"] for entry in status.get("addresses") or ()}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port", 10250)
    if "InternalIP" not in addresses:
        return None
    try:
        async with session.get(f"https://{addresses['InternalIP']}:{port}/metrics/resource") as answer:
            answer.raise_for_status()
            return reading(parse(await answer.text()), time.time())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        log.info("metrics of node %s: %s", node["metadata"]["name"], error or type(error).__name__)
        return None


def _pods_path(request: web.Request) -> str:
    namespace = request.match_info.get("namespace")
    return f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"


def _pod_metrics(pod: Object, usages: Mapping[tuple[str, str], Mapping[str, Usage]]) -> Object | None:
    metadata = pod["metadata"]
    containers = usages.get((metadata["namespace"], metadata["name"]))
    if not containers or (pod.get("status") or {}).get("phase") != "Running":
        return None
    shown = [{"name": name, "usage": _quantities(used)} for name, used in sorted(containers.items())]
    oldest = min(containers.values(), key=lambda used: used.time)
    return _metrics("PodMetrics", pod, oldest, {"containers": shown})


def _metrics(kind: str, of: Object, used: Usage, rest: Object) -> Object:
    wanted = ("name", "namespace", "labels")
    metadata = {key: of["metadata"][key] for key in wanted if key in of["metadata"]}
    return {
        "kind": kind,
        "apiVersion": GROUP_VERSION,
        "metadata": {**metadata, "creationTimestamp": rfc3339(time.time())},
        "timestamp": rfc3339(used.time),
        "window": f"{used.window:.3f}s",
        **rest,
    }


def _quantities(used: Usage) -> dict[str, str]:
    return {"cpu": f"{round(used.cores * 1e9)}n", "memory": f"{round(used.memory / 1024)}Ki"}


def _list_of(kind: str, items: Iterable[Object]) -> web.Response:
    answer = {"kind": kind, "apiVersion": GROUP_VERSION, "metadata": {}, "items": list(items)}
    return web.json_response(answer)


def _status(code: int, reason: str, message: str) -> web.Response:
    answer = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return web.json_response(answer, status=code)


def _not_found(resource: str, name: str) -> web.Response:
    return _status(404, "NotFound", f'{resource}.metrics.k8s.io "{name}" not found')


def _guard(front_proxy_name: str) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        certificate: Mapping[str, Any] = request.get_extra_info("peercert") or {}
        names = {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
        if front_proxy_name not in names:
            return _status(401, "Unauthorized", "Unauthorized: only the API server is answered here")
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return _status(404, "NotFound", "the server could not find the requested resource")
        except ApiError as error:
            code = error.status if error.status >= 400 else 503
            return _status(code, error.reason or "ServiceUnavailable", error.message)

    return guard


async def _healthz(request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


_VERSION = {"groupVersion": GROUP_VERSION, "version": "v1beta1"}
_GROUP = {"name": "metrics.k8s.io", "versions": [_VERSION], "preferredVersion": _VERSION}


async def _groups(request: web.Request) -> web.StreamResponse:
    return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]})


async def _group(request: web.Request) -> web.StreamResponse:
    return web.json_response({"kind": "APIGroup", "apiVersion": "v1", **_GROUP})


async def _resources(request: web.Request) -> web.StreamResponse:
    common = {"singularName": "", "verbs": ["get", "list"]}
    resources = [
        {"name": "nodes", "namespaced": False, "kind": "NodeMetrics", **common},
        {"name": "pods", "namespaced": True, "kind": "PodMetrics", **common},
    ]
    answer = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": resources}
    return web.json_response(answer)
