"""A node's own API for tests: the real server over TLS, with one pod whose containers are local processes."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from pathlib import Path
from typing import Any

import aiohttp
from local_runtime import LocalRuntime

from podlab.cluster.embedded import certificates, identities
from podlab.node.configuration import NodeConfiguration
from podlab.node.server import Runner
from podlab.node.streams import spdy
from podlab.node.view import ContainerView, PodView

STARTED = "2026-01-02T03:04:05Z"


class LocalNode:
    """The agent's side (view.NodeView) with pods that a test makes."""

    def __init__(self, runtime: LocalRuntime) -> None:
        self.runtime = runtime
        self.known: dict[tuple[str, str], PodView] = {}

    def find(self, namespace: str, name: str) -> PodView | None:
        return self.known.get((namespace, name))

    def pods(self) -> list[PodView]:
        return list(self.known.values())

    def add(self, pod: PodView) -> None:
        self.known[pod.namespace, pod.name] = pod

    def change(self, name: str, container: str, **changes: Any) -> None:
        """Change a container's view, and with `state` or `last` its status."""
        pod = self.known["default", name]
        state, last = changes.pop("state", None), changes.pop("last", None)
        containers = {**pod.containers, container: dataclasses.replace(pod.containers[container], **changes)}
        statuses = [
            {**entry, **({"state": state} if state else {}), **({"lastState": {"terminated": last}} if last else {})}
            if entry["name"] == container
            else entry
            for entry in pod.status["containerStatuses"]
        ]
        status = {**pod.status, "containerStatuses": statuses}
        self.add(dataclasses.replace(pod, containers=containers, status=status))


def pod_view(name: str, containers: list[ContainerView], **more: Any) -> PodView:
    """A pod in namespace default whose containers run, or wait if they do not."""
    statuses = [
        {
            "name": entry.name,
            "state": {"running": {"startedAt": STARTED}} if entry.running else {"waiting": {"reason": "Creating"}},
        }
        for entry in containers
    ]
    view = PodView(
        namespace="default",
        name=name,
        uid=f"uid-of-{name}",
        sandbox_id=f"sandbox-of-{name}",
        metadata={"name": name, "namespace": "default", "uid": f"uid-of-{name}"},
        spec={"containers": [dict(entry.spec) for entry in containers]},
        status={"phase": "Running", "containerStatuses": statuses},
        containers={entry.name: entry for entry in containers},
    )
    return dataclasses.replace(view, **more)


def container_view(name: str, **more: Any) -> ContainerView:
    """A running container whose identifier in the runtime is its name."""
    view = ContainerView(container_id=name, name=name, attempt=0, running=True, spec={"name": name}, log_path=None)
    return dataclasses.replace(view, **more)


def configuration(folder: Path, pki: Path, port: int) -> NodeConfiguration:
    """The configuration of node 1, on loopback."""
    return NodeConfiguration(
        name="node-1",
        index=1,
        address="127.0.0.1",
        pod_cidr="10.244.1.0/24",
        server="https://127.0.0.1:1",
        cluster_ca=str(pki / "ca.crt"),
        certificate="",
        key="",
        proxy_certificate="",
        proxy_key="",
        serving_certificate=str(pki / "serving.crt"),
        serving_key=str(pki / "serving.key"),
        api_client_name=identities.KUBELET_CLIENT,
        runtime_socket="",
        folder=str(folder),
        image_store="",
        kubelet_port=port,
        capacity={"cpu": "2", "memory": "1Gi"},
    )


def make_pki(pki: Path) -> None:
    """An authority with a serving certificate, the API server's client, another client, and a stranger's."""
    authority, stranger = certificates.new_authority("ca"), certificates.new_authority("stranger")
    request = certificates.Request
    pairs = {
        "ca": authority,
        "serving": certificates.issue(request("system:node:node-1", server=True, names=("127.0.0.1",)), authority),
        "api-server": certificates.issue(request(identities.KUBELET_CLIENT, client=True), authority),
        "somebody": certificates.issue(request("somebody", client=True), authority),
        "stranger": certificates.issue(request(identities.KUBELET_CLIENT, client=True), stranger),
    }
    files = {}
    for name, pair in pairs.items():
        files[f"{name}.crt"], files[f"{name}.key"] = pair.pem()
    certificates.write(files, pki)


def client_context(pki: Path, identity: str | None = "api-server") -> ssl.SSLContext:
    """TLS as a client shows it, with the certificate of `identity`."""
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    if identity:
        context.load_cert_chain(pki / f"{identity}.crt", pki / f"{identity}.key")
    return context


@dataclasses.dataclass
class Room:
    """A running server and a client of it that may use it."""

    node: LocalNode
    runtime: LocalRuntime
    runner: Runner
    client: aiohttp.ClientSession
    pki: Path
    folder: Path

    @property
    def port(self) -> int:
        return self.runner.addresses[0][1]

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    async def get(self, path: str, **query: str) -> tuple[int, str]:
        """Status and text of an answer."""
        async with self.client.get(self.url(path), params=query) as answer:
            return answer.status, await answer.text()

    def websocket(self, path: str, *protocols: str) -> Any:
        """A context manager with a WebSocket."""
        return self.client.ws_connect(self.url(path), protocols=protocols, max_msg_size=0)

    async def spdy(self, path: str, **headers: str) -> SpdyClient:
        """A SPDY connection after the server's 101."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=client_context(self.pki))
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Content-Length: 0"]
        lines += ["Connection: Upgrade", "Upgrade: SPDY/3.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        return SpdyClient(reader, writer, head)


class SpdyClient:
    """The client's end of a SPDY connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.head = head
        self._reader = reader
        self._writer = writer
        self._encoder = spdy.Encoder()
        self._decoder = spdy.Decoder()
        self._next = 1

    async def open(self, **headers: str) -> int:
        """Open a stream and return its number."""
        number, self._next = self._next, self._next + 2
        await self.send(spdy.SynStream(number, headers))
        return number

    async def send(self, *frames: spdy.Frame) -> None:
        for frame in frames:
            self._writer.write(self._encoder.encode(frame))
        await self._writer.drain()

    async def frames(self) -> list[spdy.Frame]:
        """The next frames, at least one; an empty list at the end of the connection."""
        while data := await self._reader.read(65536):
            if frames := list(self._decoder.feed(data)):
                return frames
        return []

    async def collect(self, *until_last: int) -> tuple[dict[int, bytes], list[spdy.Frame]]:
        """The data of all streams, and the other frames, until the given streams have ended."""
        data: dict[int, bytes] = {}
        others: list[spdy.Frame] = []
        open_ = set(until_last)
        while open_:
            frames = await self.frames()
            assert frames, f"the connection ended before the streams {open_}"
            for frame in frames:
                if isinstance(frame, spdy.Data):
                    data[frame.stream] = data.get(frame.stream, b"") + frame.payload
                    if frame.last:
                        open_.discard(frame.stream)
                else:
                    others.append(frame)
                    if isinstance(frame, spdy.RstStream):
                        open_.discard(frame.stream)
        return data, others

    def close(self) -> None:
        self._writer.close()
