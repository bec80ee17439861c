"""From an HTTP request to a two-way connection: raw SPDY, SPDY inside a WebSocket, or channels on a WebSocket."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
from aiohttp import web

#: Longest WebSocket message that is accepted, in bytes (kubectl sends 32 KiB; the Python client what it is given).
MAX_MESSAGE = 32 * 1024 * 1024
#: Seconds that a peer gets to answer our closing of the connection.
CLOSE_TIMEOUT = 2.0
#: Bytes that are read ahead from a raw connection.
READ_AHEAD = 256 * 1024

SPDY = "SPDY/3.1"
VERSION_HEADER = "X-Stream-Protocol-Version"
#: In a message of a v5 protocol, the byte before the number of the channel that the client closes.
CLOSE_SIGNAL = 255


def is_websocket(request: web.Request) -> bool:
    """Return whether the client asks for a WebSocket."""
    return request.headers.get("Upgrade", "").strip().lower() == "websocket"


def is_spdy(request: web.Request) -> bool:
    """Return whether the client asks for raw SPDY/3.1."""
    connection = request.headers.get("Connection", "").lower()
    return "upgrade" in connection and SPDY.lower() in request.headers.get("Upgrade", "").lower()


def requested_protocols(request: web.Request) -> list[str]:
    """Return the subprotocols that a WebSocket client offers, best first."""
    offered = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [name.strip() for line in offered for name in line.split(",") if name.strip()]


async def open_websocket(request: web.Request, supported: Iterable[str]) -> web.WebSocketResponse:
    """Accept a WebSocket; raises HTTPForbidden if the client's subprotocols are all unknown."""
    offered, supported = requested_protocols(request), list(supported)
    if offered and not set(offered) & set(supported):
        raise web.HTTPForbidden(text=f"requested protocol(s) are not supported: {offered}; supports {supported}")
    socket = web.WebSocketResponse(protocols=supported, max_msg_size=MAX_MESSAGE, compress=False, timeout=CLOSE_TIMEOUT)
    await socket.prepare(request)
    return socket


class WebSocketLink:
    """A byte stream in the binary messages of a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        """Return the next bytes, empty at the end."""
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                if message.data:
                    return bytes(message.data)
            elif message.type is not aiohttp.WSMsgType.TEXT:
                return b""

    async def write(self, data: bytes) -> None:
        """Send as one message."""
        await self._socket.send_bytes(data)


class Channels:
    """Numbered channels on a WebSocket: every message begins with its channel (`*.channel.k8s.io`).

    In the base64 protocols the number is a digit, and the rest of the message is base64 text.
    """

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        protocol = socket.ws_protocol or ""
        self._base64 = "base64" in protocol
        self._closes = protocol.startswith("v5.")

    async def send(self, channel: int, data: bytes) -> None:
        """Send `data` on `channel`, waiting while the client is slow."""
        if self._base64:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send_bytes(bytes([channel]) + data)

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes | None]]:
        """Yield (channel, data) until the client leaves; data is None when it closes the channel."""
        while True:
            message = await self._socket.receive()
            if message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                return
            data = message.data.encode() if isinstance(message.data, str) else bytes(message.data)
            if not data:
                continue
            if self._closes and data[0] == CLOSE_SIGNAL:
                if len(data) != 2:
                    return
                yield data[1], None
            elif self._base64:
                try:
                    yield data[0] - ord("0"), base64.b64decode(data[1:], validate=True)
                except binascii.Error:
                    return
            else:
                yield data[0], data[1:]

    async def close(self) -> None:
        """Close the WebSocket after everything that has been sent."""
        await self._socket.close()


class _Taken(asyncio.StreamReaderProtocol):
    """Takes over a connection from aiohttp, which still hears of its end."""

    def __init__(self, reader: asyncio.StreamReader, former: asyncio.Protocol) -> None:
        super().__init__(reader)
        self._former = former

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._former.connection_lost(exc)


class Upgraded(web.StreamResponse):
    """What a handler returns after `take_over`: nothing is left to be sent by aiohttp."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> Any:
        """Do nothing: the answer has been sent."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the connection is not HTTP's any more."""


class RawLink:
    """A byte stream: the connection itself, after the answer 101."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return the next bytes, empty at the end."""
        return await self._reader.read(READ_AHEAD)

    async def write(self, data: bytes) -> None:
        """Send, waiting while the peer is slow."""
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """Close the connection after everything that has been written."""
        self._writer.close()


def take_over(request: web.Request, protocol: str | None) -> RawLink:
    """Answer 101 to a SPDY client and return its connection. `protocol` is the version that was agreed upon.

    Must be called without an await between the request and the call, so that no byte of the client is lost.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {SPDY}"]
    if protocol:
        lines.append(f"{VERSION_HEADER}: {protocol}")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_AHEAD, loop=loop)
    taken = _Taken(reader, request.protocol)
    transport.set_protocol(taken)
    taken.connection_made(transport)
    transport.resume_reading()
    transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    return RawLink(reader, asyncio.StreamWriter(transport, taken, reader, loop))


def agree(request: web.Request, supported: Iterable[str]) -> str | None:
    """Return the first version that a SPDY client asks for and we speak; None if it asks for none.

    Raises HTTPForbidden if it asks only for unknown ones, and names ours in the answer's headers.
    """
    asked = request.headers.getall(VERSION_HEADER, [])
    asked = [name.strip() for line in asked for name in line.split(",") if name.strip()]
    supported = list(supported)
    if not asked:
        return None
    for name in asked:
        if name in supported:
            return name
    refusal = web.HTTPForbidden(
        text=f"unable to upgrade: unable to negotiate protocol: client supports {asked}, server supports {supported}"
    )
    for name in supported:
        refusal.headers.add("X-Accepted-Stream-Protocol-Versions", name)
    raise refusal
