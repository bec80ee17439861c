"""The server of every service on a real socket: slow and rude clients, and a port that is taken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from movies import telemetry
from movies.config import Settings
from movies.runner import free_ports
from movies.server import _config, _Server
from movies.web import Site
from podlab import waiting

_PATIENCE = 60


LARGE = b"x" * 20_000_000


class Nothing:
    """A part that has what every service has, and a large answer, in one piece and in many."""

    name = "nothing"

    def __init__(self) -> None:
        self.router = APIRouter()
        self.router.get("/large")(lambda: Response(LARGE))
        self.router.get("/streamed")(lambda: StreamingResponse(LARGE[:1_000_000] for _ in range(20)))

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def unready(self) -> str | None:
        return None


@asynccontextmanager
async def served(**settings: float) -> AsyncIterator[int]:
    (port,) = free_ports(1)
    told = Settings(port=port, **settings)  # type: ignore[arg-type]
    site = Site("nothing", [("", Nothing())], told)
    await site.start()
    server = _Server(_config(site, told))
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started or task.done()

    await waiting.until_async(started, "the server listens", timeout=_PATIENCE)
    try:
        yield port
    finally:
        server.should_exit = True
        await task


async def _talk(port: int, *pieces: bytes, until: bytes | None = None) -> bytes:
    """Send pieces; what came back until the server closed, or until some bytes came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(_PATIENCE):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if until:
                return await reader.readuntil(until)
            return await reader.read()
    finally:
        writer.close()


async def test_headers_that_do_not_come_end_the_connection() -> None:
    async with served(body_seconds=0.2) as port:
        assert await _talk(port) == b""
        assert await _talk(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n") == b""
    # The second request of a connection has the same limit; the first must not be late on a busy machine.
    async with served(body_seconds=3) as port:
        answer = await _talk(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /healthz HT")
        assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1") == 1


async def test_a_body_that_does_not_come_is_answered_408() -> None:
    head = b"PUT /faults HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
    async with served(body_seconds=3) as port:
        assert (await _talk(port, head)).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("path", ["/large", "/streamed"])
async def test_clients_that_do_not_read_are_cut_off_and_block_nobody(path: str) -> None:
    ask = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    cut_off = telemetry.REFUSED.labels("nothing", "unread")._value.get
    before = cut_off()
    async with served(body_seconds=1, max_in_flight=2) as port:
        # The second request of a connection is under way for as long as the first answer is not read.
        rude = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in rude:
            writer.write(ask + ask)

        async def both() -> bool:
            return cut_off() == before + 2

        await waiting.until_async(both, "both are cut off", timeout=_PATIENCE)
        assert (await _talk(port, ask, until=b"\r\n")).startswith(b"HTTP/1.1 200")
        for reader, writer in rude:
            with contextlib.suppress(ConnectionError):
                assert len(await reader.read()) < len(LARGE)
            writer.close()


@pytest.mark.parametrize("path", ["/large", "/streamed"])
async def test_a_client_that_reads_slowly_gets_all_of_its_answer(path: str) -> None:
    async with served(body_seconds=3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = 0
        while piece := await reader.read(300_000):
            got += len(piece)
            await waiting.pause_async(0.05)  # longer in all than the server's patience
        writer.close()
        assert got > len(LARGE)


async def test_rubbish_and_endless_headers_are_answered_400() -> None:
    async with served() as port:
        assert (await _talk(port, b"\x16\x03\x01 rubbish\r\n\r\n")).startswith(b"HTTP/1.1 400")
        assert (await _talk(port, b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)).startswith(b"HTTP/1.1 400")
        assert b"200 OK" in await _talk(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", until=b"\r\n")


async def test_a_port_that_is_taken_ends_the_start() -> None:
    async with served() as port:
        site = Site("nothing", [("", Nothing())], Settings())
        with pytest.raises(SystemExit):
            await _Server(_config(site, Settings(port=port))).serve()
