from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.network import egress
from podlab.network.egress import BadRequest, dialer, parse_connect, refusal, serve_connect
from podlab.network.relay import local_socket


async def ask(path: Path, request: bytes, *, finish: bool = False) -> bytes:
    """The whole answer to `request`."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    if finish:
        writer.write_eof()
    async with asyncio.timeout(60):
        answer = await reader.read(-1)
    writer.close()
    return answer


async def refuse_all(_host: str, _port: int) -> socket.socket:
    raise OSError(111, "Connection refused")


async def test_a_tunnel_carries_bytes_both_ways_and_early_ones_too(tmp_path: Path) -> None:
    asked = []
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)

    async def dial(host: str, port: int) -> socket.socket:
        asked.append((host, port))
        return ours

    server = await serve_connect(tmp_path / "s", dial)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(b"CONNECT node-2:10250 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nearly")
    expected = b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert await reader.readexactly(len(expected)) == expected
    assert await loop.sock_recv(theirs, 10) == b"early"
    await loop.sock_sendall(theirs, b"back")
    assert await reader.readexactly(4) == b"back"
    assert asked == [("node-2", 10250)]
    writer.close()
    assert await loop.sock_recv(theirs, 10) == b""
    theirs.close()
    await server.close()
    assert not (tmp_path / "s").exists()


async def test_a_request_in_single_bytes_is_understood(tmp_path: Path) -> None:
    server = await serve_connect(tmp_path / "s", refuse_all)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    for byte in b"CONNECT 10.244.1.2:80 HTTP/1.1\r\nHost: x\r\n\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 502 dial tcp 10.244.1.2:80: Connection refused\r\n")
    writer.close()
    await server.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"GET / HTTP/1.1\r\n\r\n",
        b"CONNECT\r\n\r\n",
        b"CONNECT nowhere HTTP/1.1\r\n\r\n",
        b"CONNECT a:0 HTTP/1.1\r\n\r\n",
        b"CONNECT a:65536 HTTP/1.1\r\n\r\n",
        b"CONNECT a b:80 HTTP/1.1\r\n\r\n",
        b"CONNECT a:80 HTTP/2\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\n" + b"X: y\r\n" * 4000,
    ],
)
async def test_garbage_is_answered_with_400_and_closed_at_once(tmp_path: Path, request_bytes: bytes) -> None:
    server = await serve_connect(tmp_path / "s", refuse_all)
    answer = await ask(tmp_path / "s", request_bytes, finish=True)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request: ")
    await server.close()


async def test_a_silent_client_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "_HEAD_TIMEOUT", 0.05)
    server = await serve_connect(tmp_path / "s", refuse_all)
    assert (await ask(tmp_path / "s", b"CONN")).startswith(b"HTTP/1.1 400 Bad Request: no request within")
    await server.close()


async def test_the_reason_of_a_failed_dial_is_in_the_status_line(tmp_path: Path) -> None:
    server = await serve_connect(tmp_path / "s", dialer(local_socket, {"node-1": "127.0.0.1"}, timeout=2))
    probe = local_socket(socket.AF_INET, socket.SOCK_STREAM)
    probe.bind(("127.0.0.1", 0))  # bound but not listening: refused
    port = probe.getsockname()[1]
    answer = await ask(tmp_path / "s", f"CONNECT node-1:{port} HTTP/1.1\r\n\r\n".encode(), finish=True)
    assert answer.startswith(f"HTTP/1.1 502 dial tcp node-1:{port}: Connection refused\r\n".encode())
    answer = await ask(tmp_path / "s", b"CONNECT node-9:10250 HTTP/1.1\r\n\r\n", finish=True)
    assert b"502 dial tcp node-9:10250: node-9 is neither a node nor an IPv4 address\r\n" in answer
    probe.close()
    await server.close()


async def test_an_old_socket_file_is_replaced(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "s"))
    stale.close()
    server = await serve_connect(tmp_path / "s", refuse_all)
    assert (await ask(tmp_path / "s", b"x", finish=True)).startswith(b"HTTP/1.1 400")
    await server.close()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        host, port = parse_connect(data)
    except BadRequest:
        return
    assert host and 1 <= port <= 65535


@given(st.text(max_size=50))
def test_a_refusal_is_one_well_formed_answer_whatever_the_reason(reason: str) -> None:
    head, _, body = refusal(502, reason).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 502 ")
    assert all(b": " in line for line in lines[1:])
    assert f"Content-Length: {len(body)}".encode() in lines


def test_ipv6_hosts_lose_their_brackets() -> None:
    assert parse_connect(b"CONNECT [fd00::1]:443 HTTP/1.1\r\n\r\n") == ("fd00::1", 443)
