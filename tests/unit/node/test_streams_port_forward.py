"""port-forward: real sockets through the node's own API, in all three protocols."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from api_room import Room, SpdyClient

from podlab.node.streams import spdy
from podlab.node.streams.connection import HIGH_WATER
from podlab.waiting import pause_async, until_async

PATH = "/portForward/default/web"
TUNNEL = "SPDY/3.1+portforward.k8s.io"


class Tunnel(SpdyClient):
    """A SPDY client inside a WebSocket, as kubectl port-forward is."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__(self, self, "")  # type: ignore[arg-type]
        self._socket = socket
        self._written = b""

    async def read(self, limit: int) -> bytes:
        message = await self._socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else b""

    def write(self, data: bytes) -> None:
        self._written += data

    async def drain(self) -> None:
        data, self._written = self._written, b""
        for start in range(0, len(data), 1500):  # frames are cut anywhere between messages
            await self._socket.send_bytes(data[start : start + 1500])


@asynccontextmanager
async def tunnel(room: Room) -> AsyncIterator[Tunnel]:
    async with room.websocket(PATH, TUNNEL) as socket:
        assert socket.protocol == TUNNEL
        yield Tunnel(socket)


@asynccontextmanager
async def raw(room: Room) -> AsyncIterator[SpdyClient]:
    client = await room.spdy(PATH, X_Stream_Protocol_Version="portforward.k8s.io")
    assert client.head.startswith("HTTP/1.1 101 ")
    yield client
    client.close()


async def pair(client: SpdyClient, port: int, request: int | None = 0) -> tuple[int, int]:
    """Open the error and the data stream of one connection, as kubectl does; returns (error, data)."""
    numbered = {} if request is None else {"requestID": str(request)}
    error = await client.open(streamType="error", port=str(port), **numbered)
    await client.send(spdy.Data(error, b"", last=True))
    return error, await client.open(streamType="data", port=str(port), **numbered)


@pytest.fixture
async def serve():
    """A function that serves a handler on loopback and returns its port."""
    servers = []

    async def start(handler, host: str = "127.0.0.1") -> int:
        server = await asyncio.start_server(handler, host, 0)
        servers.append(server)
        return server.sockets[0].getsockname()[1]

    yield start
    for server in servers:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def measure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads to the end of its input, then answers how much there was: needs a half-close."""
    data = await reader.read()
    writer.write(f"{len(data)} bytes".encode())
    writer.close()


@pytest.mark.parametrize("connect", [tunnel, raw])
async def test_bytes_go_both_ways(room: Room, serve, connect):
    port = await serve(echo)
    blob = os.urandom(3_000_000)
    async with connect(room) as client:
        error, data = await pair(client, port)

        async def send() -> None:
            for start in range(0, len(blob), 32768):
                await client.send(spdy.Data(data, blob[start : start + 32768]))
            await client.send(spdy.Data(data, b"", last=True))

        sending = asyncio.ensure_future(send())
        seen, _ = await client.collect(data, error)
        await sending
    assert seen[data] == blob
    assert seen[error] == b""


async def test_half_close(room: Room, serve):
    port = await serve(measure)
    async with tunnel(room) as client:
        error, data = await pair(client, port)
        await client.send(spdy.Data(data, b"x" * 1000), spdy.Data(data, b"", last=True))
        seen, _ = await client.collect(data, error)
    assert seen[data] == b"1000 bytes"


async def test_forty_connections_in_one_tunnel(room: Room, serve):
    port = await serve(measure)
    async with tunnel(room) as client:
        pairs = [await pair(client, port, request) for request in range(40)]
        for number, (_, data) in enumerate(pairs):
            await client.send(spdy.Data(data, b"x" * number), spdy.Data(data, b"", last=True))
        seen, _ = await client.collect(*(stream for both in pairs for stream in both))
    assert [seen[data].decode() for _, data in pairs] == [f"{number} bytes" for number in range(40)]


async def test_ipv6_is_tried_when_ipv4_refuses(room: Room, serve):
    try:
        port = await serve(measure, "::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with tunnel(room) as client:
        error, data = await pair(client, port)
        await client.send(spdy.Data(data, b"six", last=True))
        seen, _ = await client.collect(data, error)
    assert seen[data] == b"3 bytes"


@pytest.mark.parametrize("connect", [tunnel, raw])
async def test_refused_port_is_told_on_the_error_stream(room: Room, serve, unused_tcp_port: int, connect):
    port = await serve(measure)
    async with connect(room) as client:
        error, data = await pair(client, unused_tcp_port)
        seen, others = await client.collect(error, data)
        text = seen[error].decode()
        assert f"error forwarding port {unused_tcp_port} to pod web, uid uid-of-web" in text
        assert "127.0.0.1" in text
        assert "Connection refused" in text
        assert any(isinstance(frame, spdy.RstStream) and frame.stream == data for frame in others)
        # The connection goes on.
        error, data = await pair(client, port, 1)
        await client.send(spdy.Data(data, b"", last=True))
        seen, _ = await client.collect(data, error)
        assert seen[data] == b"0 bytes"


async def test_old_clients_number_no_requests(room: Room, serve):
    port = await serve(measure)
    async with tunnel(room) as client:
        error, data = await pair(client, port, None)
        await client.send(spdy.Data(data, b"old", last=True))
        seen, _ = await client.collect(data, error)
    assert seen[data] == b"3 bytes"


async def test_wrong_streams_are_refused(room: Room):
    async with tunnel(room) as client:
        for headers in ({"streamType": "data"}, {"streamType": "data", "port": "0"}, {"port": "80"}):
            number = await client.open(**headers)
            assert spdy.RstStream(number, spdy.REFUSED_STREAM) in await client.frames()


async def test_client_that_breaks_off_breaks_the_pods_connection(room: Room, serve):
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()
        ended.set()
        writer.close()

    port = await serve(handler)
    async with tunnel(room) as client:
        _, data = await pair(client, port)
        while not any(isinstance(frame, spdy.Data) for frame in await client.frames()):
            pass
        await client.send(spdy.RstStream(data))
        await asyncio.wait_for(ended.wait(), 10)


async def test_client_that_leaves_ends_all_connections(room: Room, serve):
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()
        ended.set()
        writer.close()

    port = await serve(handler)
    async with tunnel(room) as client:
        await pair(client, port)
        while not any(isinstance(frame, spdy.Data) for frame in await client.frames()):
            pass
    await asyncio.wait_for(ended.wait(), 10)


async def test_pod_that_does_not_read_holds_the_client_back(room: Room, serve):
    go_on = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await measure(reader, writer)

    port = await serve(handler)
    blob, sent = bytes(65536), 0
    total = 16 * HIGH_WATER
    async with tunnel(room) as client:
        error, data = await pair(client, port)

        async def send() -> None:
            nonlocal sent
            while sent < total:
                await client.send(spdy.Data(data, blob))
                sent += len(blob)
            await client.send(spdy.Data(data, b"", last=True))

        sending = asyncio.ensure_future(send())
        history: list[int] = []

        async def stands_still() -> bool:
            history.append(sent)
            return len(history) > 20 and history[-20] == sent > 0

        await until_async(stands_still, "the sender is held back", timeout=60)
        assert sent < total
        go_on.set()
        seen, _ = await client.collect(data, error)
        await sending
    assert seen[data] == f"{total} bytes".encode()


# The channels of the Python client


async def channel_messages(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[tuple[int, bytes]]:
    async for message in socket:
        yield message.data[0], message.data[1:]


async def test_channels_of_two_ports(room: Room, serve):
    ports = [await serve(echo), await serve(echo)]
    blob = os.urandom(300_000)
    async with room.websocket(f"{PATH}?ports={ports[0]},{ports[1]}", "v4.channel.k8s.io") as socket:
        received = dict.fromkeys(range(4), b"")
        await socket.send_bytes(b"\x02" + blob)
        async for number, data in channel_messages(socket):
            received[number] += data
            if len(received[2]) == 2 + len(blob) and len(received[3]) == 2:
                break
    assert received[0] == received[1] == struct.pack("<H", ports[0])
    assert received[2] == struct.pack("<H", ports[1]) + blob
    assert received[3] == struct.pack("<H", ports[1])


async def test_channels_end_when_the_pod_closes(room: Room, serve):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()

    port = await serve(handler)
    async with room.websocket(f"{PATH}?port={port}", "v4.channel.k8s.io") as socket:
        received = [entry async for entry in channel_messages(socket)]
    assert (0, b"bye") in received


async def test_what_a_leaving_client_has_sent_still_arrives(room: Room, serve):
    arrived = asyncio.get_running_loop().create_future()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pause_async(0.05)  # the client has closed its WebSocket by then
        arrived.set_result(len(await reader.read()))
        writer.close()

    port = await serve(handler)
    async with room.websocket(f"{PATH}?port={port}", "v4.channel.k8s.io") as socket:
        await socket.send_bytes(b"\0" + bytes(400_000))
    assert await asyncio.wait_for(arrived, 60) == 400_000


async def test_refused_port_is_told_on_the_error_channel(room: Room, unused_tcp_port: int):
    async with room.websocket(f"{PATH}?port={unused_tcp_port}", "v4.channel.k8s.io") as socket:
        received = [entry async for entry in channel_messages(socket)]
    assert any(number == 1 and b"Connection refused" in data for number, data in received)


async def test_wrong_requests(room: Room):
    for address, text in [
        (PATH, "is required"),
        (f"{PATH}?port=0", "unable to parse"),
        (f"{PATH}?port=http", "unable to parse"),
        (f"{PATH}?port={','.join(['1'] * 128)}", "at most 127"),
    ]:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with room.websocket(address, "v4.channel.k8s.io"):
                pass
        assert refused.value.status == 400, text
    async with room.client.post(room.url(PATH)) as answer:
        assert answer.status == 400
        assert "missing upgrade headers" in await answer.text()
    async with room.client.post(room.url("/portForward/default/none")) as answer:
        assert answer.status == 404
