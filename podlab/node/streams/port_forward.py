"""port-forward: a client's connections, carried to ports of a pod's own loopback interface."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from podlab.errors import PodlabError
from podlab.node.background import Background
from podlab.node.runtime.contract import Runtime
from podlab.node.streams.connection import Connection, Link, Stream
from podlab.node.streams.sessions import Inbox
from podlab.node.streams.spdy import SpdyError
from podlab.node.streams.tasks import end as tasks_end
from podlab.node.streams.upgrade import (
    CLOSE_TIMEOUT,
    Channels,
    Upgraded,
    WebSocketLink,
    agree,
    is_spdy,
    is_websocket,
    open_websocket,
    requested_protocols,
    take_over,
)

log = logging.getLogger(__name__)

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"
CHANNEL_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
#: Seconds until a connection inside the pod must be there, and that a client has to open its two streams.
DIAL_TIMEOUT = 10.0
CREATION_TIMEOUT = 30.0
CHUNK = 64 * 1024
#: Bytes on their way into the pod that a channel holds while the pod does not read.
CHANNEL_LIMIT = 1024 * 1024

Dial = Callable[[int], Awaitable[socket.socket]]


def dialler(runtime: Runtime, sandbox: str) -> Dial:
    """Return a function that connects to a port of the sandbox's loopback: 127.0.0.1, then ::1."""

    async def dial(port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        failures = []
        for label, family, address in (("IPv4", socket.AF_INET, "127.0.0.1"), ("IPv6", socket.AF_INET6, "::1")):
            try:
                end = await asyncio.to_thread(runtime.open_in_sandbox, sandbox, family, socket.SOCK_STREAM)
            except (OSError, PodlabError) as error:
                failures.append(f"{label}: {error}")
                continue
            try:
                end.setblocking(False)
                async with asyncio.timeout(DIAL_TIMEOUT):
                    await loop.sock_connect(end, (address, port))
                return end
            except TimeoutError:
                failures.append(f"{label}: no answer from {address}:{port} within {DIAL_TIMEOUT:g} s")
            except OSError as error:
                # asyncio's own text repeats the address instead of the reason.
                reason = os.strerror(error.errno) if error.errno else str(error)
                failures.append(f"{label}: dial {address}, port {port}: {reason}")
            except BaseException:
                end.close()
                raise
            end.close()
        raise ConnectionRefusedError(f"failed to connect to localhost:{port} inside the pod, {', '.join(failures)}")

    return dial


class Peer(Protocol):
    """The client's side of one forwarded connection."""

    async def read(self) -> bytes:
        """Return the next bytes, empty when the client has closed its side."""

    async def write(self, data: bytes) -> None:
        """Send to the client."""

    async def finish(self) -> None:
        """Close our side."""


async def carry(end: socket.socket, peer: Peer) -> None:
    """Copy in both directions, each until its own end; returns when both have ended. Owns `end`.

    Raises ConnectionError when the client has broken off.
    """
    loop = asyncio.get_running_loop()

    async def upwards() -> None:
        reads = True
        while data := await peer.read():
            if reads:
                try:
                    await loop.sock_sendall(end, data)
                except OSError:
                    reads = False  # the pod does not read any more, but may still be answering
        if reads:
            with suppress(OSError):
                end.shutdown(socket.SHUT_WR)

    async def received() -> bytes:
        try:
            return await loop.sock_recv(end, CHUNK)
        except OSError:
            return b""  # the program in the pod has broken off: for the client that is the end

    async def downwards() -> None:
        while data := await received():
            await peer.write(data)
        await peer.finish()

    tasks = [loop.create_task(upwards()), loop.create_task(downwards())]
    try:
        await asyncio.gather(*tasks)
    finally:
        await tasks_end(tasks)
        end.close()


@dataclass
class _Pair:
    streams: dict[str, Stream] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)


class _Pairs:
    """Joins the two streams, data and error, that a client opens for each connection (same `requestid`)."""

    def __init__(self, dial: Dial, where: str) -> None:
        self._dial = dial
        self._where = where
        self._waiting: dict[str, _Pair] = {}
        self._tasks = Background()

    def accept(self, stream: Stream) -> bool:
        """Take a stream that the client opens; False if its headers are wrong."""
        kind = stream.headers.get("streamtype", "")
        port = _port(stream.headers.get("port", ""))
        if kind not in ("data", "error") or port is None:
            return False
        # Old clients number no requests: they open the error stream first, and the data stream next.
        request = stream.headers.get("requestid") or str(stream.number - (2 if kind == "data" else 0))
        pair = self._waiting.get(request)
        if pair is None:
            pair = self._waiting[request] = _Pair()
            self._tasks.start(self._expire(request, pair), f"port-forward request {request}")
        if kind in pair.streams:
            return False
        pair.streams[kind] = stream
        if len(pair.streams) == 2:
            del self._waiting[request]
            pair.complete.set()
            forward = self._forward(pair.streams["data"], pair.streams["error"], port)
            self._tasks.start(forward, f"port-forward to {port}")
        return True

    async def close(self) -> None:
        """End all connections."""
        await self._tasks.cancel()

    async def _expire(self, request: str, pair: _Pair) -> None:
        try:
            async with asyncio.timeout(CREATION_TIMEOUT):
                await pair.complete.wait()
        except TimeoutError:
            del self._waiting[request]
            with suppress(ConnectionError):
                for stream in pair.streams.values():
                    await stream.reset()

    async def _forward(self, data: Stream, error: Stream, port: int) -> None:
        try:
            try:
                end = await self._dial(port)
            except OSError as failure:
                await error.write(f"error forwarding port {port} to {self._where}: {failure}".encode())
                await error.finish()
                await data.reset()
                return
            await carry(end, data)
            await error.finish()
        except ConnectionError:
            pass  # the client has broken off
        finally:
            data.release()
            error.release()


def _port(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 65536 else None


async def _serve_spdy(link: Link, pairs: _Pairs) -> None:
    try:
        await Connection(link, pairs.accept).run()
    except SpdyError as error:
        log.warning("port-forward: the client broke the protocol: %s", error)
    finally:
        await pairs.close()


class _Channel:
    """One port on a WebSocket of channels: data on channel 2i, errors on channel 2i + 1."""

    def __init__(self, channels: Channels, index: int, port: int) -> None:
        self.port = port
        self.inbox = Inbox(CHANNEL_LIMIT)
        self._channels = channels
        self._number = 2 * index

    async def greet(self) -> None:
        """Send the port's number on both channels, as the protocol asks."""
        for number in (self._number, self._number + 1):
            await self._channels.send(number, struct.pack("<H", self.port))

    async def read(self) -> bytes:
        return await self.inbox.get()

    async def write(self, data: bytes) -> None:
        await self._channels.send(self._number, data)

    async def fail(self, message: str) -> None:
        """Send an error."""
        await self._channels.send(self._number + 1, message.encode())

    async def finish(self) -> None:
        """End our reading too: this protocol knows no half-closed channel."""
        await self.inbox.end()


async def _serve_channels(request: web.Request, dial: Dial, where: str) -> web.StreamResponse:
    ports = _requested_ports(request)
    socket_ = await open_websocket(request, CHANNEL_PROTOCOLS)
    channels = Channels(socket_)
    entries = [_Channel(channels, index, port) for index, port in enumerate(ports)]

    async def forward(entry: _Channel) -> None:
        try:
            end = await dial(entry.port)
        except OSError as failure:
            await entry.fail(f"error forwarding port {entry.port} to {where}: {failure}")
            return
        await carry(end, entry)

    async def receive() -> None:
        async for number, data in channels:
            if number % 2 == 0 and number // 2 < len(entries) and data:
                await entries[number // 2].inbox.put(data)
        for entry in entries:
            await entry.inbox.end()

    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    try:
        for entry in entries:
            await entry.greet()
        tasks = [loop.create_task(coroutine) for coroutine in (receive(), *map(forward, entries))]
        forwards: asyncio.Future[Any] = asyncio.gather(*tasks[1:], return_exceptions=True)
        await asyncio.wait([tasks[0], forwards], return_when=asyncio.FIRST_COMPLETED)
    except ConnectionError:
        pass  # the client left before the start
    finally:
        # What a client that has left (this request is cancelled then) had sent still goes to the pod.
        if tasks[1:]:
            await asyncio.wait(tasks[1:], timeout=CLOSE_TIMEOUT)
        await tasks_end(tasks)
        await channels.close()
    return socket_


def _requested_ports(request: web.Request) -> list[int]:
    lines = request.query.getall("port", []) + request.query.getall("ports", [])
    if not lines:
        raise web.HTTPBadRequest(text='query parameter "port" is required')
    ports = []
    for text in (part for line in lines for part in line.split(",")):
        port = _port(text.strip())
        if port is None:
            raise web.HTTPBadRequest(text=f'unable to parse "{text}" as a port: it must be 1 to 65535')
        ports.append(port)
    if len(ports) > 127:
        raise web.HTTPBadRequest(text="at most 127 ports fit into one connection")
    return ports


async def forward_ports(request: web.Request, dial: Dial, pod: str, uid: str) -> web.StreamResponse:
    """Serve one port-forward request in whichever protocol the client speaks."""
    where = f"pod {pod}, uid {uid}"
    if is_websocket(request):
        if TUNNEL not in requested_protocols(request):
            return await _serve_channels(request, dial, where)
        socket_ = await open_websocket(request, (TUNNEL,))
        try:
            await _serve_spdy(WebSocketLink(socket_), _Pairs(dial, where))
        finally:
            await socket_.close()
        return socket_
    if is_spdy(request):
        link = take_over(request, agree(request, (PROTOCOL,)))
        try:
            await _serve_spdy(link, _Pairs(dial, where))
        finally:
            link.close()
        return Upgraded()
    raise web.HTTPBadRequest(text="unable to upgrade: missing upgrade headers in request")
