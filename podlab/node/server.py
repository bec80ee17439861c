"""The node's own API, as the API server uses it: logs, exec, attach, port-forward, pods, metrics.

It is what a kubelet serves on port 10250, with the same paths, queries, protocols and words. The API server shows a
certificate of the cluster's authority with the common name that the node was told, and may use all of it. Whoever
comes with a bearer token may use what the API server says that its user may.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from aiohttp import web

from podlab.errors import PodlabError
from podlab.node import quantity
from podlab.node.api import ApiError
from podlab.node.authorization import Unauthenticated, Webhook
from podlab.node.cadvisor import cadvisor_metrics
from podlab.node.configuration import NodeConfiguration
from podlab.node.prometheus import CONTENT_TYPE, Family, Sample, render
from podlab.node.registration import machine_capacity
from podlab.node.statistics import Meter, own_usage, resource_metrics, summary
from podlab.node.streams import remote_command
from podlab.node.streams.logs import LogOptions, choose_log, read_log, readable
from podlab.node.streams.port_forward import dialler, forward_ports
from podlab.node.streams.sessions import Session, Status, open_session
from podlab.node.streams.tasks import end as tasks_end
from podlab.node.view import ContainerView, NodeView, PodView

log = logging.getLogger(__name__)

#: Longest request line, in bytes: `kubectl exec` puts the whole command into it.
MAX_REQUEST_LINE = 1024 * 1024
#: Seconds that an idle connection is kept: longer than the API server keeps it, so that it is never the one to lose.
KEEP_ALIVE = 120.0
#: Seconds that running requests get when the node's API is closed.
SHUTDOWN_TIMEOUT = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Runner:
    """A running server; `close` ends it."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    @property
    def addresses(self) -> list[Any]:
        """The socket addresses on which it listens."""
        return list(self._runner.addresses)

    async def close(self) -> None:
        """Stop listening and end all requests."""
        await self._runner.cleanup()


async def serve(view: NodeView, configuration: NodeConfiguration, webhook: Webhook | None = None) -> Runner:
    """Serve the node's API on its address and port, over TLS, until the runner is closed. Raises OSError.

    Without a `webhook` no token is taken.
    """
    server = NodeServer(view, configuration, webhook)
    runner = web.AppRunner(
        server.application(),
        handle_signals=False,
        access_log=None,
        keepalive_timeout=KEEP_ALIVE,
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_TIMEOUT,
        max_line_size=MAX_REQUEST_LINE,
    )
    await runner.setup()
    site = web.TCPSite(
        runner,
        configuration.address,
        configuration.kubelet_port,
        ssl_context=tls_context(configuration),
        backlog=1024,
    )
    await site.start()
    return Runner(runner)


def tls_context(configuration: NodeConfiguration) -> ssl.SSLContext:
    """Return the server's TLS context: a client's certificate is asked for, and verified if there is one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=configuration.cluster_ca)
    context.load_cert_chain(configuration.serving_certificate, configuration.serving_key)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL  # without one the answer is 401 in plain words, not a broken handshake
    return context


class NodeServer:
    """The handlers; `application` joins them."""

    def __init__(self, view: NodeView, configuration: NodeConfiguration, webhook: Webhook | None = None) -> None:
        self._view = view
        self._webhook = webhook
        self._configuration = configuration
        self._meter = Meter(view)
        self._started_at = time.time()
        self._one_user = remote_command.has_one_user(Path("/proc/self/uid_map").read_text())
        self._requests: Counter[tuple[str, str]] = Counter()

    def application(self) -> web.Application:
        """Return the web application."""
        application = web.Application(middlewares=[self._guard])
        add = application.router.add_route
        for path in ("/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"):
            add("GET", path, self._healthz)
        add("GET", "/pods", self._pods)
        add("GET", "/pods/", self._pods)
        add("GET", "/metrics", self._metrics)
        add("GET", "/metrics/resource", self._metrics_resource)
        add("GET", "/metrics/cadvisor", self._metrics_cadvisor)
        add("GET", "/stats/summary", self._summary)
        add("GET", "/containerLogs/{namespace}/{pod}/{container}", self._logs)
        for method in ("GET", "POST"):
            for middle in ("", "/{uid}"):
                add(method, f"/exec/{{namespace}}/{{pod}}{middle}/{{container}}", self._exec)
                add(method, f"/attach/{{namespace}}/{{pod}}{middle}/{{container}}", self._attach)
                add(method, f"/portForward/{{namespace}}/{{pod}}{middle}", self._port_forward)
        return application

    # Who may do what, and what goes wrong

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        await self._authorize(request)
        self._requests[request.method, "/" + request.path.split("/", 2)[1]] += 1
        try:
            return await handler(request)
        except web.HTTPNotFound as error:
            if request.match_info.http_exception is error:
                raise web.HTTPNotFound(text="404 page not found") from None
            raise
        except web.HTTPException:
            raise
        except ConnectionError:
            raise  # the client has gone; aiohttp knows what to do
        except (PodlabError, OSError) as error:
            log.warning("%s %s: %s", request.method, request.path, error)
            raise web.HTTPInternalServerError(text=str(error)) from error

    async def _authorize(self, request: web.Request) -> None:
        certificate: Mapping[str, Any] | None = request.get_extra_info("peercert")
        if not certificate:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if self._webhook and scheme.lower() == "bearer" and token:
                return await self._review(self._webhook, token.strip(), request)
            raise web.HTTPUnauthorized(
                text="Unauthorized: this node asks for a client certificate that the cluster's authority has signed"
            )
        names = {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
        if self._configuration.api_client_name not in names:
            shown = ", ".join(sorted(names)) or "without a name"
            raise web.HTTPForbidden(text=f"Forbidden: user {shown} may not use the API of this node")

    async def _review(self, webhook: Webhook, token: str, request: web.Request) -> None:
        try:
            refusal = await webhook.refusal(token, request.method, request.path)
        except Unauthenticated:
            raise web.HTTPUnauthorized(text="Unauthorized") from None
        except ApiError as error:
            raise web.HTTPInternalServerError(text=f"the API server cannot say who this is: {error}") from error
        if refusal:
            raise web.HTTPForbidden(text=refusal)

    # Pods and containers

    def _pod(self, request: web.Request) -> PodView:
        match = request.match_info
        pod = self._view.find(match["namespace"], match["pod"])
        if pod is None:
            raise web.HTTPNotFound(text=f'pod "{match["pod"]}" does not exist')
        if match.get("uid", pod.uid) != pod.uid:
            raise web.HTTPNotFound(text="pod not found")
        return pod

    def _running(self, pod: PodView, name: str) -> tuple[ContainerView, str]:
        container = pod.containers.get(name)
        if container is None or not container.running or container.container_id is None:
            raise web.HTTPInternalServerError(text=f'container not found ("{name}")')
        return container, container.container_id

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        items = [
            {"metadata": dict(pod.metadata), "spec": dict(pod.spec), "status": dict(pod.status)}
            for pod in self._view.pods()
        ]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        options = LogOptions.of(request.query, time.time())
        pod, name = self._pod(request), request.match_info["container"]
        container = pod.containers.get(name)
        if container is None:
            raise web.HTTPNotFound(text=f'container "{name}" not found in pod "{pod.name}"')
        path = choose_log(pod, container, options.previous)
        top = self._configuration.host_paths
        if not readable(path, top):
            shown = f'container "{name}" in pod "{pod.name}"'
            raise web.HTTPBadRequest(text=f"unable to retrieve container logs for {shown}: its log is gone")
        ended = self._end_of(container, path) if options.follow else None
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async with aclosing(read_log(path, options, ended, top)) as chunks:
                async for chunk in chunks:
                    if chunk:
                        await response.write(chunk)
            await response.write_eof()
        finally:
            if ended is not None:
                await tasks_end([ended])
        return response

    def _end_of(self, container: ContainerView, path: str) -> asyncio.Future[Any] | None:
        """A future that is done when the container whose log is at `path` has ended; None if it has already."""
        if not container.running or container.container_id is None or path != container.log_path:
            return None
        waiting = self._view.runtime.wait_container(container.container_id)
        return asyncio.ensure_future(waiting)

    # Streams

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        container, identifier = self._running(pod, request.match_info["container"])
        argv = request.query.getall("command", [])
        session = await open_session(request)
        runtime = self._view.runtime
        environment = remote_command.adapted(argv, container.environment, self._one_user)
        work = remote_command.execute(runtime, identifier, argv, environment, session)
        return await _finish(session, work)

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        container, identifier = self._running(pod, request.match_info["container"])
        session = await open_session(request)
        tty = bool(container.spec.get("tty"))
        return await _finish(session, remote_command.attach(self._view.runtime, identifier, session, tty=tty))

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        if pod.sandbox_id is None or pod.status.get("phase") in ("Succeeded", "Failed"):
            raise web.HTTPInternalServerError(text=f'pod not found ("{pod.name}_{pod.namespace}")')
        return await forward_ports(request, dialler(self._view.runtime, pod.sandbox_id), pod.name, pod.uid)

    # Health and metrics

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return _exposition(self._own_metrics())

    async def _metrics_resource(self, request: web.Request) -> web.StreamResponse:
        return _exposition(resource_metrics(await self._meter.read()))

    async def _metrics_cadvisor(self, request: web.Request) -> web.StreamResponse:
        return _exposition(cadvisor_metrics(await self._meter.read(), self._view.pods(), self._memory()))

    async def _summary(self, request: web.Request) -> web.StreamResponse:
        configuration = self._configuration
        statistics = await self._meter.read()
        return web.json_response(
            summary(statistics, configuration.name, configuration.folder, self._started_at, self._memory())
        )

    def _memory(self) -> int:
        return quantity.whole(machine_capacity(self._configuration)["memory"])

    def _own_metrics(self) -> Iterable[Family]:
        pods = list(self._view.pods())
        containers = [container for pod in pods for container in pod.containers.values()]
        states = Counter(
            "running" if container.running else "exited" for container in containers if container.container_id
        )
        own = own_usage()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return [
            Family(
                "kubelet_node_name",
                "The node's name. The count is always 1.",
                "gauge",
                [Sample(1, {"node": self._configuration.name})],
            ),
            Family(
                "kubelet_running_pods",
                "Number of pods that have a running pod sandbox",
                "gauge",
                [Sample(sum(any(entry.running for entry in pod.containers.values()) for pod in pods))],
            ),
            Family(
                "kubelet_running_containers",
                "Number of containers by state",
                "gauge",
                [Sample(count, {"container_state": state}) for state, count in sorted(states.items())],
            ),
            Family(
                "kubelet_http_requests_total",
                "Number of the http requests received",
                "counter",
                [
                    Sample(count, {"method": method, "path": path, "server_type": "readwrite"})
                    for (method, path), count in sorted(self._requests.items())
                ],
            ),
            Family(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
                "counter",
                [Sample(own.cpu)],
            ),
            Family("process_resident_memory_bytes", "Resident memory size in bytes.", "gauge", [Sample(own.memory)]),
            Family("process_max_fds", "Maximum number of open file descriptors.", "gauge", [Sample(limit)]),
            Family(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                "gauge",
                [Sample(self._started_at)],
            ),
        ]


async def _finish(session: Session, work: Awaitable[Status]) -> web.StreamResponse:
    try:
        return await session.finish(await work)
    finally:
        await session.abandon()


def _exposition(families: Iterable[Family]) -> web.Response:
    return web.Response(body=render(families).encode(), headers={"Content-Type": CONTENT_TYPE})
