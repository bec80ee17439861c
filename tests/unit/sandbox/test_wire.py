"""Messages with descriptors over a stream socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podlab.errors import RuntimeRefused
from podlab.node.runtime.sandbox import wire
from podlab.node.runtime.sandbox.client import SandboxRuntime
from podlab.node.runtime.sandbox.wire import BACKLOG, LONGEST, Connection, Disconnected


@pytest.fixture
def ends():
    near, far = (Connection(one) for one in socket.socketpair())
    yield near, far
    near.close()
    far.close()


def drain(near: Connection, far: Connection, count: int) -> list[tuple[dict, list[int]]]:
    """Exactly `count` messages, sending and receiving in turn."""
    found: list[tuple[dict, list[int]]] = []
    for _ in range(100_000):
        near.flush()
        found += far.receive()
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} of {count} messages arrived")


def test_messages_arrive_in_order_with_their_own_descriptors(ends) -> None:
    near, far = ends
    pipes = [os.pipe() for _ in range(5)]
    near.send({"n": 0})
    for number, (reading, writing) in enumerate(pipes, start=1):
        near.send({"n": number}, [writing] if number % 2 else [writing, reading])
    for reading, writing in pipes:
        os.close(writing)
        os.set_blocking(reading, False)
    found = drain(near, far, 6)
    assert [message["n"] for message, _ in found] == list(range(6))
    assert [len(descriptors) for _, descriptors in found] == [0, 1, 2, 1, 2, 1]
    for number, (_, descriptors) in enumerate(found[1:], start=1):
        os.write(descriptors[0], b"%d" % number)
        assert os.read(pipes[number - 1][0], 10) == b"%d" % number
        assert not os.get_inheritable(descriptors[0])
        for descriptor in descriptors:
            os.close(descriptor)
        os.close(pipes[number - 1][0])


def test_large_messages_wait_until_they_are_read_and_keep_their_descriptors(ends) -> None:
    near, far = ends
    reading, writing = os.pipe()
    sizes = [3_000_000, 10, 1_000_000, 0]
    for size in sizes:
        near.send({"text": "x" * size}, [writing])
    os.close(writing)  # what waits has duplicates
    assert near.wants_write
    found = drain(near, far, len(sizes))
    assert [len(message["text"]) for message, _ in found] == sizes
    assert not near.wants_write
    for _, descriptors in found:
        os.write(descriptors[0], b"x")
        os.close(descriptors[0])
    assert os.read(reading, 10) == b"xxxx"
    assert os.read(reading, 10) == b""
    os.close(reading)


@settings(max_examples=200)
@given(st.binary(min_size=1, max_size=300))
def test_garbage_never_does_more_than_disconnect(garbage: bytes) -> None:
    raw, peer = socket.socketpair()
    connection = Connection(peer)
    raw.sendall(garbage)
    raw.close()
    try:
        for _ in range(3):
            for message, descriptors in connection.receive():
                assert isinstance(message, dict)
                assert descriptors == []
    except Disconnected:
        pass
    finally:
        connection.close()


@pytest.mark.parametrize(
    "frame",
    [struct.pack(">IB", LONGEST + 1, 0), struct.pack(">IB", 2, 1) + b"{}", struct.pack(">IB", 2, 0) + b"[]"],
)
def test_what_cannot_be_a_message_disconnects(frame: bytes) -> None:
    raw, peer = socket.socketpair()
    connection = Connection(peer)
    raw.sendall(frame)
    with pytest.raises(Disconnected):
        connection.receive()
    raw.close()
    connection.close()


def test_the_end_of_the_other_side_is_told(ends) -> None:
    near, far = ends
    far.close()
    with pytest.raises(Disconnected):
        near.receive()
    with pytest.raises(Disconnected):
        near.send({"n": 1})


def test_a_peer_that_never_reads_is_given_up(ends) -> None:
    near, _ = ends
    text = "x" * (LONGEST // 2)
    with pytest.raises(Disconnected, match="does not read"):
        for _ in range(2 * BACKLOG // len(text) + 2):
            near.send({"text": text})


def test_a_message_that_is_too_long_is_refused_before_it_is_sent(ends) -> None:
    near, far = ends
    with pytest.raises(ValueError, match="longer than"):
        near.send({"text": "x" * LONGEST})
    assert far.receive() == []


def test_descriptors_that_nobody_took_are_closed() -> None:
    raw, peer = socket.socketpair()
    connection = Connection(peer)
    reading, writing = os.pipe()
    socket.send_fds(raw, [b"\0"], [writing])
    os.close(writing)
    assert connection.receive() == []
    connection.close()
    assert os.read(reading, 1) == b""
    os.close(reading)
    raw.close()


@pytest.mark.parametrize(("spoken", "said"), [(None, ""), (wire.PROTOCOL, ""), (0, "an earlier"), (99, "a later")])
async def test_a_zygote_of_another_version_is_worked_with_or_refused_with_a_cure(
    tmp_path: Path, spoken: int | None, said: str
) -> None:
    """It outlives its agent: after an upgrade a new one meets an old one. The first ones told no version."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length, _ = struct.unpack(">IB", await reader.readexactly(5))
        asked = json.loads(await reader.readexactly(length))
        told = {} if spoken is None else {"protocol": spoken}
        answer = json.dumps({"n": asked["n"], "sandboxes": [], "containers": [], **told}).encode()
        writer.write(struct.pack(">IB", len(answer), 0) + answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "zygote.sock")
    runtime = SandboxRuntime(tmp_path / "zygote.sock")
    async with server:
        if said:
            with pytest.raises(RuntimeRefused, match=f"started by {said} version of podlab") as told:
                await runtime.inventory()
            assert "`podlab cluster stop`, then `podlab cluster start`" in str(told.value)
        else:
            assert (await runtime.inventory()).containers == []
        await runtime.close()
