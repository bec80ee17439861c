"""Requests per second, latency and CPU of a recommendation, from a monolith and from services, beside a bare "hello".

A fixed number of clients ask one after the other over connections that are kept. The bare process has one route of
the same framework and server. On a machine that does something else too, the CPU time of a request is the figure.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from common import Figure, announce, finish, machine, median, options, percentile, say, table
from footprint import BARE
from processes import used

from movies.runner import free_ports, start
from podlab import waiting

_PATIENCE = 180
#: From the number of a client to the paths that it asks for.
Paths = Callable[[int], Iterable[str]]


@dataclass
class Load:
    """What some clients saw, and the CPU seconds that the servers used meanwhile."""

    latencies: list[float]
    failed: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu / max(1, len(self.latencies))


async def _client(host: str, port: int, paths: Iterable[str], until: float, load: Load) -> None:
    """Ask one path after the other on one connection."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        for path in paths:
            began = time.perf_counter()
            if began >= until:
                return
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length"))
            await reader.readexactly(length)
            if head.startswith(b"HTTP/1.1 200"):
                load.latencies.append(time.perf_counter() - began)
            else:
                load.failed += 1
    finally:
        writer.close()


def put_under_load(urls: Sequence[str], paths: Paths, pids: Sequence[int], clients: int, seconds: int) -> Load:
    """Let clients ask for some seconds, each of them always the same one of `urls`."""
    hosts = [(parts.hostname or "", parts.port or 0) for parts in map(urlsplit, urls)]

    async def all_of_them() -> Load:
        load, began = Load([], 0, 0, 0), time.perf_counter()
        before = sum(used(pid).cpu for pid in pids)
        until = began + seconds
        await asyncio.gather(
            *(_client(*hosts[number % len(hosts)], paths(number), until, load) for number in range(clients))
        )
        load.seconds = time.perf_counter() - began
        load.cpu = sum(used(pid).cpu for pid in pids) - before
        return load

    return asyncio.run(all_of_them())


def endless(prefix: str, users: int) -> Paths:
    """Recommendations for one user after the other."""

    def paths(first: int) -> Iterable[str]:
        number = 7 * first
        while True:
            number += 1
            yield f"{prefix}/users/{number % users + 1}/recommendations"

    return paths


def hello(_: int) -> Iterable[str]:
    """The one path of the bare process."""
    while True:
        yield "/readyz"


def main() -> None:
    given = options(
        __doc__,
        ratings=(100_000, 3_000, "ratings to generate"),
        clients=(8, 4, "clients at once"),
        seconds=(10, 1, "of each measurement"),
        repeats=(3, 1, "measurements of each"),
    )
    here = machine()
    announce("serving", here)
    loads: dict[str, list[Load]] = {"bare": [], "monolith": [], "services": []}
    (port,) = free_ports(1)
    bare = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    quick = {"MOVIES_DRAIN_SECONDS": "0", "MOVIES_TRAIN_AFTER": "0", "MOVIES_LOG_LEVEL": "WARNING"}
    try:
        url = f"http://127.0.0.1:{port}"
        waiting.until(
            lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200,
            "the bare process answers", timeout=_PATIENCE, ignore=(httpx.HTTPError,),
        )  # fmt: skip
        with (
            tempfile.TemporaryDirectory(prefix="movies-") as one,
            tempfile.TemporaryDirectory(prefix="movies-") as other,
            start("monolith", Path(one), ratings=given.ratings, environment=quick, seconds=_PATIENCE) as monolith,
            start("processes", Path(other), ratings=given.ratings, environment=quick, seconds=_PATIENCE) as services,
        ):
            users = httpx.get(f"{services.url('features')}/status", trust_env=False).json()["users"]
            wanted = {
                "bare": (url, hello, [bare.pid]),
                "monolith": (monolith.address, endless("/serving", users), [monolith.pid("monolith")]),
                "services": (
                    services.url("serving"),
                    endless("", users),
                    [services.pid(name) for name in services.names],
                ),
            }
            for number in range(given.repeats):
                for name, (address, paths, pids) in wanted.items():
                    loads[name].append(put_under_load([address], paths, pids, given.clients, given.seconds))
                    say(f"  {name} {number + 1}/{given.repeats}: {loads[name][-1].rate:.0f} requests/s")
    finally:
        bare.terminate()
        bare.wait()
    rows = []
    for name, found in loads.items():
        every = [1000 * one for load in found for one in load.latencies]
        rows.append(
            (
                name,
                median([load.rate for load in found]),
                percentile(every, 50),
                percentile(every, 99),
                median([load.cpu_ms for load in found]),
                sum(load.failed for load in found),
            )
        )
    headings = ("what", "requests/s", "p50 ms", "p99 ms", "CPU ms a request", "failed")
    table(f"{given.clients} clients, recommendations of 10 among {given.ratings} ratings", headings, rows)
    cpu = {row[0]: row[4] for row in rows}
    failed = sum(row[5] for row in rows)
    more: dict[str, float] = {"failed": failed}
    for what, rate, p50, p99, cpu_ms, _ in rows:
        more |= {f"{what}_per_second": round(rate), f"{what}_cpu_ms": round(cpu_ms, 2)}
        more |= {f"{what}_p50_ms": round(p50, 2), f"{what}_p99_ms": round(p99, 2)}
    unit = "CPU ms of a recommendation by services"
    figure = Figure("serving", cpu["services"], unit, cpu["bare"], "no failed request", not failed, more)
    finish(figure, here)


if __name__ == "__main__":
    main()
