from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from podlab.network.relay import Door, dial_tcp, local_socket, relay, reset
from podlab.waiting import pause_async


def pair() -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


async def read_all(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    found = bytearray()
    async with asyncio.timeout(60):
        while piece := await loop.sock_recv(connection, 65536):
            found += piece
    return bytes(found)


def bound() -> tuple[socket.socket, int]:
    listening = local_socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.bind(("127.0.0.1", 0))
    return listening, listening.getsockname()[1]


async def dial(port: int) -> socket.socket:
    return await dial_tcp(local_socket, "127.0.0.1", port, 60)


async def test_half_close_passes_and_the_other_direction_goes_on() -> None:
    loop = asyncio.get_running_loop()
    (client, near), (far, server) = pair(), pair()
    carrying = asyncio.create_task(relay(near, far))
    await loop.sock_sendall(client, b"question")
    client.shutdown(socket.SHUT_WR)
    assert await read_all(server) == b"question"
    await loop.sock_sendall(server, b"answer")
    server.close()
    assert await read_all(client) == b"answer"
    async with asyncio.timeout(60):
        await carrying
    assert near.fileno() == far.fileno() == -1
    client.close()


async def test_large_data_arrives_whole_in_both_directions_at_once() -> None:
    loop = asyncio.get_running_loop()
    (client, near), (far, server) = pair(), pair()
    carrying = asyncio.create_task(relay(near, far))
    there, back = bytes(range(256)) * 20_000, bytes(range(255, -1, -1)) * 20_000

    async def send(connection: socket.socket, data: bytes) -> None:
        await loop.sock_sendall(connection, data)
        connection.shutdown(socket.SHUT_WR)

    _, _, at_server, at_client = await asyncio.gather(
        send(client, there), send(server, back), read_all(server), read_all(client)
    )
    assert at_server == there
    assert at_client == back
    await carrying
    client.close()
    server.close()


async def test_a_receiver_that_does_not_read_stops_the_sender() -> None:
    (client, near), (far, server) = pair(), pair()
    carrying = asyncio.create_task(relay(near, far))
    sent = 0
    idle = 0
    while idle < 20 and sent < 50_000_000:
        try:
            sent += client.send(bytes(65536))
            idle = 0
        except BlockingIOError:
            idle += 1
        await asyncio.sleep(0)
    assert 0 < sent < 5_000_000
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    client.close()
    server.close()


async def test_cancelling_a_relay_closes_both_ends() -> None:
    (client, near), (far, server) = pair(), pair()
    carrying = asyncio.create_task(relay(near, far))
    await asyncio.sleep(0)
    carrying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await carrying
    assert await read_all(client) == await read_all(server) == b""
    client.close()
    server.close()


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_door_serves_many_clients_at_once(echo: int) -> None:
    listening, port = bound()
    door = Door(listening, lambda: dial(echo))
    await door.start()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        text = f"client {number}".encode() * 1000
        writer.write(text)
        writer.write_eof()
        assert await reader.read(-1) == text
        writer.close()

    await asyncio.gather(*(client(number) for number in range(50)))
    async with asyncio.timeout(60):
        while door.connections:
            await asyncio.sleep(0)
    await door.close()


async def test_a_door_without_a_target_resets_and_serves_the_next_one(echo: int) -> None:
    listening, port = bound()
    closed, unused = bound()
    closed.close()
    targets = [unused, echo]
    door = Door(listening, lambda: dial(targets.pop(0)))
    await door.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"now")
    assert await reader.readexactly(3) == b"now"
    writer.close()
    await door.close()


async def test_a_reset_of_the_target_reaches_the_client_as_a_reset() -> None:
    target, target_port = bound()
    target.listen()
    listening, port = bound()
    door = Door(listening, lambda: dial(target_port))
    await door.start()
    client = await dial(port)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, b"x")
    accepted, _ = await loop.sock_accept(target)
    reset(accepted)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(loop.sock_recv(client, 10), 60)
    client.close()
    target.close()
    await door.close()


async def test_closing_a_door_ends_its_connections(echo: int) -> None:
    listening, port = bound()
    door = Door(listening, lambda: dial(echo))
    await door.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"there")
    assert await reader.readexactly(5) == b"there"
    assert door.connections == 1
    await door.close()
    assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()
    with pytest.raises(OSError, match="refused"):
        await dial(port)


async def test_a_client_that_comes_in_the_moment_in_which_a_door_closes_is_told(echo: int) -> None:
    """Its connection was accepted and lost, which nobody closed: it waited for ever."""
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    listening, port = bound()
    door = Door(listening, lambda: dial(echo))
    await door.start()
    await pause_async(0)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        await asyncio.create_task(door.close())  # the loop finds the client before it comes to this
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    assert not faults


async def test_a_dial_error_is_the_kernels_own_word() -> None:
    closed, port = bound()
    closed.close()
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        await dial(port)
