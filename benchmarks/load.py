"""Requests without pause against a port of this machine, never repeated: what is cut off or refused has failed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from common import percentile, table

from podlab import waiting

HOST = "127.0.0.1"


@dataclass
class Load:
    """What all clients of a phase saw; `enough` ends them."""

    sent: int = 0
    latencies: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    enough: threading.Event = field(default_factory=threading.Event)

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return self.failures.total()


class Client:
    """Asks one page after the other, on a connection that is kept until either side closes it."""

    def __init__(self, port: int, path: Callable[[int], str], load: Load) -> None:
        self.port, self.path, self.load = port, path, load
        self.link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, number: int) -> None:
        """Ask until the load has had enough."""
        while not self.load.enough.is_set():
            number += 7
            began = time.perf_counter()
            try:
                async with asyncio.timeout(60):
                    trouble = await self._once(self.path(number))
            except (OSError, EOFError, TimeoutError) as error:
                trouble = type(error).__name__
                self._close()
            self.load.sent += 1
            if trouble:
                self.load.failures[trouble] += 1
                # Whoever is refused at once must not count a thousand failures for one.
                await waiting.pause_async(0.05)
            else:
                self.load.latencies.append(time.perf_counter() - began)
        self._close()

    async def _once(self, path: str) -> str:
        if self.link is None:
            self.link = await asyncio.open_connection(HOST, self.port)
        reader, writer = self.link
        writer.write(f"GET {path} HTTP/1.1\r\nHost: benchmark\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
        if b"connection: close" in head:
            self._close()
        return "" if head.startswith(b"http/1.1 200") else f"status {head.split()[1].decode()}"

    def _close(self) -> None:
        if self.link is not None:
            self.link[1].close()
            self.link = None


def under_load(port: int, clients: int, path: Callable[[int], str], least: int, work: Callable[[Load], None]) -> Load:
    """Load the port while `work` is done, and until `least` requests have been sent; `path` of a number: the page."""
    load = Load()

    async def all_of_them() -> None:
        await asyncio.gather(*(Client(port, path, load).run(number) for number in range(clients)))

    thread = threading.Thread(target=asyncio.run, args=(all_of_them(),))
    thread.start()
    try:
        _sent(load, max(1, least // 10))
        work(load)
        _sent(load, least)
    finally:
        load.enough.set()
        thread.join()
    return load


def _sent(load: Load, count: int) -> None:
    waiting.until(lambda: load.sent >= count, f"{count} requests", timeout=3600, interval=0.2, state=lambda: load.sent)


def compare(title: str, phases: Mapping[str, Load]) -> None:
    """A table of what the clients of some phases saw, by the manifest under which they asked."""
    rows = [
        (name, load.sent, load.failed, 1000 * percentile(load.latencies, 99), " ".join(load.failures) or "none")
        for name, load in phases.items()
    ]
    table(title, ("manifest", "requests", "failed", "p99 ms", "failures"), rows)
